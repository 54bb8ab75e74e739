//! Blobs on their way to a registry.

use super::*;

/// A registry that takes uploads: the first request of each kind fails.
fn taking(asked: &Asked, attempts: &AtomicUsize) -> Answer {
    match (asked.method.as_str(), asked.path.split('?').next().unwrap()) {
        ("POST", "/v2/team/app/blobs/uploads/") if asked.path.contains("mount=") => Answer::new(201),
        ("POST", _) => Answer::new(202).header("location", "/v2/team/app/blobs/uploads/1?state=s"),
        ("PUT", _) if attempts.fetch_add(1, Ordering::SeqCst) == 0 => Answer::new(503),
        ("PUT", _) => Answer::new(201),
        _ => Answer::new(404),
    }
}

#[test]
fn a_blob_is_pushed_from_the_start_again_after_a_failure() {
    let attempts = AtomicUsize::new(0);
    let server = Server::new(move |asked| taking(asked, &attempts));
    let repository = User::new().repository(&server);
    let data = blob(500_000);
    let digest = digest(&data);
    assert!(!repository.has_blob(&digest).unwrap());
    repository.push_blob(&digest, 500_000, || Ok(data.as_slice())).unwrap();
    let asked = server.asked();
    assert_eq!(
        server.lines()[1..],
        [
            "POST /v2/team/app/blobs/uploads/".to_owned(),
            format!("PUT /v2/team/app/blobs/uploads/1?state=s&digest={digest}"),
            "POST /v2/team/app/blobs/uploads/".to_owned(),
            format!("PUT /v2/team/app/blobs/uploads/1?state=s&digest={digest}"),
        ]
    );
    assert_eq!(asked[1].header("content-length"), Some("0"));
    assert!(asked[4].body == data);
    assert!(repository.mount_blob(&digest, "other/app").unwrap());
    assert_eq!(server.lines()[5], format!("POST /v2/team/app/blobs/uploads/?mount={digest}&from=other/app"));
}

#[test]
fn an_upload_whose_source_fails_says_so() {
    let server = Server::new(|asked| taking(asked, &AtomicUsize::new(1)));
    let repository = User::new().repository(&server);
    let data = blob(1000);
    let short = repository.push_blob(&digest(&data), 1001, || Ok(data.as_slice())).unwrap_err();
    assert!(matches!(short.cause(), RegistryCause::Source(_)), "{short}");
    let missing = || -> std::io::Result<&[u8]> { Err(std::io::Error::other("the disk is gone")) };
    let error = repository.push_blob(&digest(&data), 1000, missing).unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
}

#[test]
fn an_upload_address_without_tls_at_the_registry_itself_is_used_with_it() {
    let identity = Identity::new();
    let server = Server::secure(&identity, |asked| match asked.method.as_str() {
        "POST" => {
            Answer::new(202).header("location", &format!("http://{}/upload", asked.header("host").unwrap()))
        }
        _ => Answer::new(201),
    });
    let user = User::trusting(&identity, &server.host);
    user.repository(&server).push_blob(&digest(b""), 0, || Ok(&b""[..])).unwrap();
    assert_eq!(server.lines()[1], format!("PUT /upload?digest={}", digest(b"")));
}
