//! TLS, plain http and proxies.

use super::*;

#[test]
fn a_registry_on_this_machine_that_speaks_no_tls_is_tried_with_it_once() {
    let server = Server::new(|_| manifest());
    let repository = User::new().repository(&server);
    repository.manifest("latest").unwrap();
    repository.manifest("latest").unwrap();
    assert_eq!(server.lines(), ["GET /v2/team/app/manifests/latest"; 2]);
}

#[test]
fn tls_is_spoken_with_whom_the_user_trusts() {
    let identity = Identity::new();
    let server = Server::secure(&identity, |_| manifest());
    User::trusting(&identity, &server.host).repository(&server).manifest("latest").unwrap();
    let error = User::new().repository(&server).manifest("latest").unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::Tls { unknown_authority: true, .. }), "{error}");
    assert!(error.to_string().contains(&format!("as `ca` under [registry.\"{}\"]", server.host)), "{error}");
    // Docker's directory of certificates says the same.
    let mut user = User::new();
    let certificates = user.directory.path().join(&server.host);
    std::fs::create_dir(&certificates).unwrap();
    std::fs::write(certificates.join("ca.crt"), &identity.authority).unwrap();
    user.configuration.certificates = vec![user.directory.path().to_owned()];
    user.repository(&server).manifest("latest").unwrap();
    std::fs::write(certificates.join("ca.crt"), "no certificate").unwrap();
    let error = refused(&user.repository(&server).manifest("latest").unwrap_err());
    assert!(error.contains("ca.crt is malformed"), "{error}");
}

#[test]
fn a_client_certificate_and_a_key_that_is_none_of_its_are_told() {
    let (identity, other) = (Identity::new(), rcgen::KeyPair::generate().unwrap());
    let server = Server::secure(&identity, |_| manifest());
    let mut user = User::trusting(&identity, &server.host);
    let file = |name: &str| user.directory.path().join(name);
    std::fs::write(file("me.pem"), &identity.authority).unwrap();
    std::fs::write(file("me.key"), other.serialize_pem()).unwrap();
    let settings = user.configuration.registries.get(&server.host).unwrap().clone();
    let (client_cert, client_key) = (Some(file("me.pem")), Some(file("me.key")));
    let settings = images::registry::RegistrySettings { client_cert, client_key, ..settings };
    user.configuration.registries.insert(server.host.clone(), settings);
    let error = refused(&user.repository(&server).manifest("latest").unwrap_err());
    assert!(error.contains("me.key is malformed: it is no key for"), "{error}");
}

#[test]
fn other_machines_are_reached_by_the_proxy_and_plain_http_only_where_it_is_configured() {
    let proxy = Server::new(|asked| if asked.method == "CONNECT" { Answer::new(200) } else { manifest() });
    let user = User::configured("[registry.'plain.test']\nplain-http = true").behind(&proxy);
    let at = |name: &str| user.registries().repository(&Name::parse(name).unwrap());
    at("plain.test/app").manifest("latest").unwrap();
    assert_eq!(proxy.lines(), ["CONNECT plain.test:80", "GET /v2/app/manifests/latest"]);
    let error = at("secure.test/app").manifest("latest").unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::PlainHttp { .. }), "{error}");
    assert!(error.to_string().contains("`plain-http = true` under [registry.\"secure.test\"]"), "{error}");
    assert_eq!(proxy.lines()[2..], ["CONNECT secure.test:443"]);
}

#[test]
fn a_proxy_that_refuses_is_told() {
    let proxy = Server::new(|_| Answer::new(407));
    let user = User::new().behind(&proxy);
    let name = Name::parse("secure.test/app").unwrap();
    let error = user.registries().repository(&name).manifest("latest").unwrap_err();
    assert!(
        matches!(error.cause(), RegistryCause::Proxy { .. }) && error.to_string().contains("407"),
        "{error}"
    );
}
