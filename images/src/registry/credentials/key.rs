//! Under which keys a registry's credentials are found: Docker's have been host names and URLs over time, and
//! containers' may go on into the path (containers-auth.json(5)).

/// What Docker calls docker.io in its file, and to helpers.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The key new credentials of the registry get, and helpers know them by.
pub(super) fn of(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

/// How well the key fits the repository: the higher, the better; None if it is for others.
pub(super) fn fits(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let (host, path) = split(key);
    let fits = host == registry
        && (path.is_empty()
            || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    fits.then_some(path.len())
}

/// Whether the key stands for the whole registry.
pub(super) fn is_whole(key: &str, registry: &str) -> bool {
    split(key) == (registry, "")
}

/// The registry, and the part of it the key is for.
fn split(key: &str) -> (&str, &str) {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = bare.unwrap_or(key).split_once('/').unwrap_or((bare.unwrap_or(key), ""));
    // The path of a URL is that of an API, not of a repository.
    let path = if bare.is_some() { "" } else { path.trim_end_matches('/') };
    match host {
        "index.docker.io" | "registry-1.docker.io" => {
            ("docker.io", if matches!(path, "v1" | "v2") { "" } else { path })
        }
        host => (host, if matches!(path, "v1" | "v2") { "" } else { path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_times_fit_and_the_longer_path_fits_better() {
        for key in [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            assert_eq!(fits(key, "docker.io", "library/busybox"), Some(0), "{key}");
            assert!(is_whole(key, "docker.io"), "{key}");
        }
        assert_eq!(fits("http://r.example:5000/v2/", "r.example:5000", "a"), Some(0));
        assert!(fits("r.example/team", "r.example", "team/app") > fits("r.example", "r.example", "team/app"));
        assert_eq!(fits("r.example/team/app", "r.example", "team/app"), Some(8));
        for (key, registry, repository) in [
            ("r.example/team", "r.example", "teammate/app"),
            ("r.example/team/app/x", "r.example", "team/app"),
            ("r.example", "r.example:5000", "a"),
            ("evil.example/r.example", "r.example", "a"),
            ("xr.example", "r.example", "a"),
            ("", "r.example", "a"),
        ] {
            assert_eq!(fits(key, registry, repository), None, "{key}");
        }
        assert!(!is_whole("r.example/team", "r.example"));
    }
}
