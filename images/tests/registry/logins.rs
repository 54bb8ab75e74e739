//! Passwords and tokens: had, used, renewed, refused.

use super::*;

/// A registry and its token server in one; it gives tokens to user `u` with password `hunter2`.
fn token_registry(asked: &Asked, host: &str) -> Answer {
    if asked.path.starts_with("/token") {
        let (user, form) = (
            asked.header("authorization") == Some("Basic dTpodW50ZXIy"),
            String::from_utf8_lossy(&asked.body),
        );
        let known = user || form.contains("refresh_token=secret%20token");
        return match known {
            true => Answer::ok("{\"token\":\"t0ken\",\"expires_in\":300}"),
            false => Answer::new(401).body("{\"details\":\"incorrect username or password\"}"),
        };
    }
    match asked.header("authorization") {
        Some("Bearer t0ken") if asked.path == "/v2/" => Answer::ok("{}"),
        Some("Bearer t0ken") => manifest(),
        _ => Answer::new(401).header(
            "www-authenticate",
            &format!("Bearer realm=\"http://{host}/token?a=b\",service=\"the registry\",scope=\"repository:team/app:pull\""),
        ),
    }
}

fn self_aware(respond: impl Fn(&Asked, &str) -> Answer + Send + Sync + 'static) -> Server {
    Server::new(move |asked| respond(asked, asked.header("host").unwrap()))
}

#[test]
fn a_token_is_had_with_the_password_and_used_again() {
    let server = self_aware(token_registry);
    let user = User::new().with_password(&[&server.host]);
    let repository = user.repository(&server);
    repository.manifest("latest").unwrap();
    repository.manifest("latest").unwrap();
    assert_eq!(
        server.lines(),
        [
            "GET /v2/team/app/manifests/latest",
            "GET /token?a=b&service=the%20registry&scope=repository%3Ateam%2Fapp%3Apull&account=u&client_id=bulkhead",
            "GET /v2/team/app/manifests/latest",
            "GET /v2/team/app/manifests/latest",
        ]
    );
    assert_eq!(server.asked()[0].header("authorization"), None);
}

#[test]
fn an_identity_token_is_posted() {
    let server = self_aware(token_registry);
    let user = User::new();
    std::fs::write(
        user.auth_file(),
        format!("{{\"auths\":{{\"{}\":{{\"identitytoken\":\"secret token\"}}}}}}", server.host),
    )
    .unwrap();
    user.repository(&server).manifest("latest").unwrap();
    let posted = &server.asked()[1];
    assert_eq!(posted.line(), "POST /token?a=b");
    assert!(
        String::from_utf8_lossy(&posted.body)
            .starts_with("grant_type=refresh_token&refresh_token=secret%20token")
    );
}

#[test]
fn a_token_that_has_run_out_is_renewed_once() {
    let tokens = AtomicUsize::new(0);
    let server = self_aware(move |asked, host| {
        let now = format!("Bearer t{}", tokens.load(Ordering::SeqCst));
        if asked.path.starts_with("/token") {
            return Answer::ok(format!(
                "{{\"access_token\":\"t{}\"}}",
                tokens.fetch_add(1, Ordering::SeqCst) + 1
            ));
        }
        if asked.header("authorization") == Some(&now) && !asked.path.ends_with("never") {
            // Good for one request.
            tokens.fetch_add(1, Ordering::SeqCst);
            return manifest();
        }
        Answer::new(401).header("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""))
    });
    let repository = User::new().repository(&server);
    repository.manifest("latest").unwrap();
    repository.manifest("latest").unwrap();
    assert_eq!(server.asked().iter().filter(|asked| asked.path.starts_with("/token")).count(), 2);
    let before = server.asked().len();
    let error = refused(&repository.manifest("never").unwrap_err());
    assert!(error.contains("denies access to those it does not know"), "{error}");
    assert_eq!(server.asked().len() - before, 3);
}

#[test]
fn a_wrong_password_is_told_with_its_user_and_without_itself() {
    let server = self_aware(|asked, host| match asked.path.starts_with("/token") {
        true => Answer::new(401).body("{\"details\":\"incorrect username or password\"}"),
        false => token_registry(asked, host),
    });
    let user = User::new().with_password(&[&server.host]);
    let error = refused(&user.repository(&server).manifest("latest").unwrap_err());
    assert!(
        error.contains("user \"u\"") && error.contains("incorrect username") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn what_is_sent_again_with_a_token_is_sent_whole() {
    let server = self_aware(token_registry);
    let user = User::new().with_password(&[&server.host]);
    user.repository(&server).push_manifest("v1", &MANIFEST_TYPE.into(), MANIFEST.as_bytes()).unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[1].path.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush"), "{}", asked[1].path);
    for put in [&asked[0], &asked[2]] {
        assert_eq!(put.body, MANIFEST.as_bytes());
    }
}

#[test]
fn a_login_is_proven_kept_used_and_forgotten() {
    let server = self_aware(token_registry);
    let user = User::new();
    let registries = user.registries();
    let wrong = Credential::Password { user: "u".into(), password: "wrong".into() };
    let error = registries.login(&server.host, &wrong).unwrap_err();
    assert!(matches!(error, LoginError::Refused(_)), "{error}");
    assert!(error.to_string().contains("does not take this password of user \"u\""), "{error}");
    assert!(!user.auth_file().exists());
    let right = Credential::Password { user: "u".into(), password: "hunter2".into() };
    assert_eq!(registries.login(&server.host, &right).unwrap(), Stored::File(user.auth_file()));
    user.repository(&server).manifest("latest").unwrap();
    assert_eq!(registries.logout(&server.host).unwrap(), [Stored::File(user.auth_file())]);
    let error = user.repository(&server).manifest("latest").unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::Denied { user: None, .. }), "{error}");
    assert!(registries.logout(&server.host).unwrap().is_empty());
    assert!(!format!("{right:?}").contains("hunter2"));
}
