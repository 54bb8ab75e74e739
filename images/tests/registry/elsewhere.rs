//! Redirections and mirrors: where a registry sends us, and where the user does.

use super::*;

#[test]
fn credentials_do_not_follow_to_another_host() {
    let data = blob(1000);
    let served = data.clone();
    let elsewhere = Server::new(move |asked| match asked.header("authorization") {
        None => Answer::range(asked, &served),
        Some(_) => Answer::new(400),
    });
    let target = elsewhere.host.clone();
    let server = Server::new(move |asked| match (asked.header("authorization"), asked.path.as_str()) {
        (None, _) => Answer::new(401).header("www-authenticate", "Basic realm=\"x\""),
        (_, "/v2/team/app/blobs/moved") => {
            Answer::new(302).header("location", &format!("http://{target}/signed?x=y"))
        }
        _ => Answer::new(307).header("location", "moved"),
    });
    let user = User::new().with_password(&[&server.host, &elsewhere.host]);
    assert_eq!(read_blob(&user.repository(&server), &digest(&data), 1000).unwrap(), data);
    assert_eq!(elsewhere.lines(), ["GET /signed?x=y"]);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
    // Within the registry, they do.
    assert!(server.asked()[2].path.ends_with("moved") && server.asked()[2].header("authorization").is_some());
}

#[test]
fn a_challenge_from_another_host_is_not_met() {
    let elsewhere = Server::new(|_| Answer::new(401).header("www-authenticate", "Basic realm=\"x\""));
    let target = elsewhere.host.clone();
    let server = Server::new(move |_| Answer::new(302).header("location", &format!("http://{target}/x")));
    let user = User::new().with_password(&[&server.host, &elsewhere.host]);
    let error = user.repository(&server).blob(&digest(b""), 0).map(drop).unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::Denied { .. }), "{error}");
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(elsewhere.asked().len(), 1);
}

#[test]
fn redirections_without_end_or_aim_are_told() {
    for location in ["/again", "file:///etc/passwd", "http://u:p@127.0.0.1/", ""] {
        let server = Server::new(move |_| Answer::new(302).header("location", location));
        let error = refused(&User::new().repository(&server).manifest("latest").unwrap_err());
        assert!(error.contains("redirects too often, or to nowhere"), "{location}: {error}");
        assert!(server.asked().len() <= 6);
    }
}

#[test]
fn an_upload_elsewhere_goes_without_credentials() {
    let elsewhere = Server::new(|_| Answer::new(201));
    let target = elsewhere.host.clone();
    let server = Server::new(move |asked| match asked.header("authorization") {
        None => Answer::new(401).header("www-authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::new(202).header("location", &format!("http://{target}/bucket?signature=s")),
    });
    let user = User::new().with_password(&[&server.host, &elsewhere.host]);
    user.repository(&server).push_blob(&digest(b"x"), 1, || Ok(&b"x"[..])).unwrap();
    assert_eq!(elsewhere.lines(), [format!("PUT /bucket?signature=s&digest={}", digest(b"x"))]);
    assert_eq!(elsewhere.asked()[0].header("authorization"), None);
}

#[test]
fn https_does_not_lead_to_http() {
    let identity = Identity::new();
    let plain = Server::new(|_| Answer::ok("{\"token\":\"t\"}"));
    let target = plain.host.clone();
    let server = Server::secure(&identity, move |asked| match asked.path.contains("manifests") {
        true => {
            Answer::new(401).header("www-authenticate", &format!("Bearer realm=\"http://{target}/token\""))
        }
        false => Answer::new(307).header("location", &format!("http://{target}/blob")),
    });
    let user = User::trusting(&identity, &server.host).with_password(&[&server.host, &plain.host]);
    let repository = user.repository(&server);
    let token = repository.manifest("latest").map(drop).unwrap_err();
    let blob = repository.blob(&digest(b""), 0).map(drop).unwrap_err();
    let upload = repository.push_blob(&digest(b""), 0, || Ok(&b""[..])).unwrap_err();
    for error in [&token, &blob] {
        assert!(matches!(error.cause(), RegistryCause::Downgrade { .. }), "{error}");
    }
    assert!(matches!(upload.cause(), RegistryCause::Status { status: 307, .. }), "{upload}");
    assert!(plain.asked().is_empty());
}

#[test]
fn a_redirection_to_http_does_not_teach_that_a_registry_speaks_it() {
    let proxy = Server::new(|asked| match (asked.method.as_str(), asked.header("host")) {
        ("CONNECT", _) => Answer::new(200),
        (_, Some("plain.test")) => Answer::new(302).header("location", "http://secure.test/"),
        _ => manifest(),
    });
    let user = User::configured("[registry.'plain.test']\nplain-http = true").behind(&proxy);
    let registries = user.with_password(&["secure.test"]).registries();
    let at = |name: &str| registries.repository(&Name::parse(name).unwrap()).manifest("latest");
    at("plain.test/app").unwrap();
    let asked = proxy.asked().len();
    let error = at("secure.test/app").unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::PlainHttp { .. }), "{error}");
    assert!(proxy.asked()[asked..].iter().all(|asked| asked.method == "CONNECT"));
}

#[test]
fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    let failing = Server::new(|_| Answer::new(500));
    let mirror = Server::new(|asked| match asked.path.as_str() {
        "/v2/cache/team/app/manifests/latest" => manifest(),
        _ => Answer::new(404),
    });
    let origin = Server::new(|asked| match asked.path.contains("latest") {
        true => Answer::new(500),
        false => manifest(),
    });
    let text =
        format!("[registry.'{}']\nmirrors = ['{}', '{}/cache']", origin.host, failing.host, mirror.host);
    let user = User::configured(&text);
    let repository = user.repository(&origin);
    repository.manifest("latest").unwrap();
    assert!(origin.asked().is_empty());
    repository.manifest("other").unwrap();
    assert_eq!(failing.asked().len(), 2);
    assert!(user.waits().is_empty());
    // What is written goes to the registry itself.
    assert!(repository.has_blob(&digest(b"")).unwrap());
    assert_eq!(mirror.asked().len(), 2);
}

#[test]
fn what_a_mirror_breaks_off_the_registry_itself_goes_on_with() {
    let data = blob(1000);
    let (broken, whole) = (data.clone(), data.clone());
    let mirror = Server::new(move |asked| Answer::range(asked, &broken).stop(400, Stop::Break));
    let origin = Server::new(move |asked| Answer::range(asked, &whole));
    let user = User::configured(&format!("[registry.'{}']\nmirrors = ['{}']", origin.host, mirror.host));
    assert_eq!(read_blob(&user.repository(&origin), &digest(&data), 1000).unwrap(), data);
    assert_eq!(mirror.asked().len(), 1);
    assert_eq!(origin.asked()[0].header("range"), Some("bytes=400-"));
}
