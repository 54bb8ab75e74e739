//! Registries that fail, refuse, or are not there.

use super::*;

#[test]
fn failures_that_pass_are_waited_for_as_long_as_the_registry_asks() {
    let server = Server::new(by_turn(vec![
        Answer::new(429).header("retry-after", "7"),
        Answer::new(503).header("retry-after", "Tue, 24 Nov 2020 15:00:00 GMT"),
        Answer::new(500),
        manifest(),
    ]));
    let user = User::new();
    user.repository(&server).manifest("latest").unwrap();
    let waits = user.waits();
    assert_eq!(waits[0], 7);
    assert_eq!(waits.len(), 3);
    assert!(user.hasty.0.lock().unwrap()[2].reason.contains("status 500"));
}

#[test]
fn failures_that_do_not_pass_are_told_in_the_registrys_words() {
    let refusal = "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"pull rate\\u001b limit\"}]}";
    for (answer, told, requests) in [
        (Answer::new(429).body(refusal), "limits how much it is asked (\"pull rate\\u{1b} limit\")", 5),
        (Answer::new(429).header("retry-after", "21600"), "wants 21600 s of peace", 1),
        (Answer::new(500).body("disk full"), "failed (status 500) (\"disk full\")", 5),
        (Answer::new(418), "answered with status 418", 1),
        (Answer::new(403).body(refusal), "bulkhead login 127.0.0.1", 1),
        (Answer::new(401), "bulkhead login 127.0.0.1", 1),
    ] {
        let server = Server::new(move |_| answer.clone());
        let error = refused(&User::new().repository(&server).manifest("latest").unwrap_err());
        assert!(error.contains(told), "{error}");
        assert_eq!(server.asked().len(), requests, "{error}");
    }
}

#[test]
fn a_registry_that_says_nothing_is_given_up() {
    let server = Server::new(|_| manifest().stop(10, Stop::Stall));
    let error = User::hurried().repository(&server).manifest("latest").unwrap_err();
    assert!(matches!(error.cause(), RegistryCause::Timeout { .. }), "{error}");
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn nobody_at_the_address_is_told_at_once() {
    let user = User::new();
    let name = Name::parse("localhost:1/app").unwrap();
    let error = refused(&user.registries().repository(&name).manifest("latest").unwrap_err());
    assert!(error.contains("cannot connect to localhost:1"), "{error}");
    let name = Name::parse("no-such-host.invalid/app").unwrap();
    let error = refused(&user.registries().repository(&name).manifest("latest").unwrap_err());
    assert!(error.contains("no-such-host.invalid is not known"), "{error}");
    assert!(user.waits().is_empty());
}
