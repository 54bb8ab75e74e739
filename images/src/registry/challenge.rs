//! WWW-Authenticate (RFC 9110, 11.6.1): how a registry wants to be told who asks.

/// A way to authenticate that we know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request (RFC 7617).
    Basic,
    /// A token, to be had elsewhere.
    Bearer {
        /// Where to get it.
        realm: String,
        /// Whom it is for, in the token server's words.
        service: Option<String>,
        /// What it must allow: several, parted by spaces.
        scope: Option<String>,
    },
}

/// The best challenge of all in these header lines: a token is better than a password sent each time.
pub(super) fn choose<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let challenges: Vec<Challenge> = lines.flat_map(parse).collect();
    let bearer = challenges.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    challenges.into_iter().nth(bearer.unwrap_or_default())
}

/// All known challenges of a line. What cannot be read ends it.
fn parse(line: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = Cursor(line);
    while let Some(scheme) = rest.scheme() {
        let mut parameters = Vec::new();
        while let Some(parameter) = rest.parameter() {
            parameters.push(parameter);
        }
        challenges.extend(challenge(scheme, parameters));
    }
    challenges
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let find = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        let (service, scope) = (find("service"), find("scope"));
        return find("realm").map(|realm| Challenge::Bearer { realm, service, scope });
    }
    None
}

/// What is left of a line.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip(&mut self, separators: &[char]) {
        self.0 = self.0.trim_start_matches(separators);
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let (token, rest) = self.0.split_at(self.0.find(|c| !is_token(c)).unwrap_or(self.0.len()));
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn scheme(&mut self) -> Option<&'a str> {
        self.skip(&[' ', '\t', ',']);
        self.token()
    }

    /// `key=value` or `key="value"`. Nothing is taken where the next scheme begins.
    fn parameter(&mut self) -> Option<(String, String)> {
        let mut ahead = Cursor(self.0);
        ahead.skip(&[' ', '\t', ',']);
        let key = ahead.token()?.to_ascii_lowercase();
        ahead.skip(&[' ', '\t']);
        ahead.0 = ahead.0.strip_prefix('=')?;
        ahead.skip(&[' ', '\t']);
        let value = match ahead.0.strip_prefix('"') {
            Some(quoted) => ahead.quoted(quoted)?,
            // Some send a bare URL, which is no token; it ends at the comma.
            None => ahead.bare(),
        };
        *self = ahead;
        Some((key, value))
    }

    fn quoted(&mut self, text: &'a str) -> Option<String> {
        let mut value = String::new();
        let mut characters = text.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = text.get(at + 1..)?;
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }

    fn bare(&mut self) -> String {
        let (value, rest) = self.0.split_at(self.0.find([',', ' ', '\t']).unwrap_or(self.0.len()));
        self.0 = rest;
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Option<Challenge> {
        choose([line].into_iter())
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
        Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
    }

    #[test]
    fn challenges_of_registries_seen_are_read() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull,push""#;
        let expected = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:library/busybox:pull,push"),
        );
        assert_eq!(one(docker), expected);
        assert_eq!(
            one(r#"bearer REALM = "https://a/t" , Service=reg"#),
            bearer("https://a/t", Some("reg"), None)
        );
        assert_eq!(one(r#"Bearer realm="a\"b""#), bearer("a\"b", None, None));
        assert_eq!(one("Bearer realm=https://a/t,service=x"), bearer("https://a/t", Some("x"), None));
        assert_eq!(one(r#"Basic realm="Registry Realm""#), Some(Challenge::Basic));
        assert_eq!(one("basic"), Some(Challenge::Basic));
    }

    #[test]
    fn a_token_is_preferred_and_the_unknown_passed_over() {
        let both = r#"Basic realm="x", Bearer realm="https://a/t",service="s""#;
        assert_eq!(one(both), bearer("https://a/t", Some("s"), None));
        let lines = ["Negotiate", "Basic realm=x", "Digest realm=\"d\", nonce=\"n\", Bearer realm=\"u\""];
        assert_eq!(choose(lines.into_iter()), bearer("u", None, None));
        for none in ["", "Negotiate", "Bearer", "Bearer realm=\"open", "=,=", "\"\"", "Bearer service=\"s\""]
        {
            assert_eq!(one(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_line_breaks_it(line in "\\PC*") {
            one(&line);
        }

        #[test]
        fn what_is_quoted_comes_back(realm in "[ -~]*", service in "[ -~]*") {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("Bearer realm=\"{}\", service=\"{}\"", quote(&realm), quote(&service));
            prop_assert_eq!(one(&line), bearer(&realm, Some(&service), None));
        }
    }
}
