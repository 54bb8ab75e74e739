//! Manifests and lists of tags.

use super::*;

#[test]
fn a_manifest_is_had_as_it_is_by_tag_and_by_digest() {
    let server = Server::new(|_| manifest());
    let repository = User::new().repository(&server);
    let document = repository.manifest("latest").unwrap();
    assert_eq!(
        (document.bytes.as_slice(), document.media_type.to_string().as_str()),
        (MANIFEST.as_bytes(), MANIFEST_TYPE)
    );
    assert_eq!(document.digest, digest(MANIFEST.as_bytes()));
    repository.manifest(&document.digest.to_string()).unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].path, "/v2/team/app/manifests/latest");
    assert!(
        asked[0]
            .header("accept")
            .unwrap()
            .contains("application/vnd.docker.distribution.manifest.list.v2+json")
    );
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn a_manifest_that_is_not_what_it_should_be_is_refused() {
    let other = digest(b"other");
    for (reference, answer, told) in [
        (other.to_string(), manifest(), "for sha256:"),
        ("latest".into(), manifest().header("docker-content-digest", &other.to_string()), "for sha256:"),
        ("latest".into(), Answer::ok("{\"schemaVersion\":1}"), "schema 1"),
        ("latest".into(), Answer::ok(vec![b' '; (4 << 20) + 1]), "larger than 4194304 bytes"),
        (
            "latest".into(),
            Answer::ok("<html>\u{1b}[2J").header("content-type", "text/html"),
            "malformed manifest",
        ),
        (
            "latest".into(),
            Answer::new(404)
                .body("{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}"),
            "has no such image (\"manifest unknown\")",
        ),
    ] {
        let server = Server::new(move |_| answer.clone());
        let error = refused(&User::new().repository(&server).manifest(&reference).unwrap_err());
        assert!(error.contains(told), "{error}");
        assert!(error.contains("team/app") && !error.contains('\u{1b}'), "{error}");
    }
}

#[test]
fn a_manifest_is_pushed_with_its_type_and_the_registry_must_agree_on_its_digest() {
    let server = Server::new(|_| {
        Answer::new(201).header("docker-content-digest", &digest(MANIFEST.as_bytes()).to_string())
    });
    let repository = User::new().repository(&server);
    repository.push_manifest("v1", &MANIFEST_TYPE.into(), MANIFEST.as_bytes()).unwrap();
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.line().as_str(), asked.header("content-type")),
        ("PUT /v2/team/app/manifests/v1", Some(MANIFEST_TYPE))
    );
    assert_eq!(asked.body, MANIFEST.as_bytes());
    let error = repository.push_manifest("v1", &MANIFEST_TYPE.into(), b"{}").unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::Digest { .. }), "{error}");
}

#[test]
fn tags_are_listed_over_pages_within_the_registry() {
    let server = Server::new(|asked| match asked.path.as_str() {
        "/v2/team/app/tags/list?n=1000" => Answer::ok("{\"tags\":[\"a\",\"not a tag\\u001b\"]}")
            .header("link", "<http://127.0.0.1:1/v2/team/app/tags/list?last=a&n=1000>; rel=\"next\""),
        _ => Answer::ok("{\"tags\":[\"b\"]}"),
    });
    assert_eq!(User::new().repository(&server).tags().unwrap(), ["a", "b"]);
    let empty = Server::new(|_| Answer::ok("{\"tags\":null}"));
    assert!(User::new().repository(&empty).tags().unwrap().is_empty());
}
