//! Blobs over connections that do not hold, and from registries that lie about sizes.

use super::*;

/// Breaks off the first three connections after 70,000 bytes each.
fn breaking(data: &[u8], stop: Stop) -> Server {
    let (served, turn) = (data.to_vec(), AtomicUsize::new(0));
    Server::new(move |asked| match turn.fetch_add(1, Ordering::SeqCst) {
        0..3 => Answer::range(asked, &served).stop(70_000, stop),
        _ => Answer::range(asked, &served),
    })
}

#[test]
fn a_blob_is_resumed_where_the_connection_broke() {
    let data = blob(300_000);
    let server = breaking(&data, Stop::Break);
    let user = User::new();
    assert_eq!(read_blob(&user.repository(&server), &digest(&data), 300_000).unwrap(), data);
    let ranges: Vec<_> =
        server.asked().iter().map(|asked| asked.header("range").unwrap_or_default().to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=70000-", "bytes=140000-", "bytes=210000-"]);
    assert_eq!(user.waits().len(), 3);
}

#[test]
fn a_blob_is_resumed_where_the_connection_stalled() {
    let data = blob(300_000);
    let server = breaking(&data, Stop::Stall);
    let user = User::hurried();
    assert_eq!(read_blob(&user.repository(&server), &digest(&data), 300_000).unwrap(), data);
    assert!(user.hasty.0.lock().unwrap()[0].reason.contains("in time"));
}

#[test]
fn a_registry_without_ranges_is_read_from_the_start_again() {
    let data = blob(200_000);
    let served = data.clone();
    let server = Server::new(by_turn(vec![
        Answer::ok(&served).stop(150_000, Stop::Break),
        Answer::ok(&served).stop(100_000, Stop::Break),
        Answer::ok(&served),
    ]));
    assert_eq!(read_blob(&User::new().repository(&server), &digest(&data), 200_000).unwrap(), data);
}

#[test]
fn a_connection_that_never_holds_is_given_up() {
    let data = blob(1000);
    let server = Server::new(move |asked| Answer::range(asked, &blob(1000)).stop(1, Stop::Break));
    let user = User::new();
    let error = read_blob(&user.repository(&server), &digest(&data), 1000).unwrap_err();
    assert!(error.contains("broke") && error.contains("team/app"), "{error}");
    assert_eq!(server.asked().len(), 5);
}

#[test]
fn a_connection_that_brings_something_each_time_is_not_given_up() {
    let size = 12 << 20;
    let data = blob(size);
    let served = data.clone();
    let server = Server::new(move |asked| Answer::range(asked, &served).stop(1 << 20, Stop::Break));
    assert!(read_blob(&User::new().repository(&server), &digest(&data), size as u64).unwrap() == data);
}

#[test]
fn too_many_and_too_few_bytes_are_told() {
    let data = blob(1000);
    let digest = digest(&data);
    let chunked = |size: usize| {
        // Without a length, the connection's end is the body's.
        let answer = Answer::ok([format!("{size:x}\r\n").as_bytes(), &blob(size), b"\r\n0\r\n\r\n"].concat());
        answer.header("transfer-encoding", "chunked")
    };
    for (answer, told) in [
        (Answer::ok(blob(1001)), "more than 1000 bytes of a blob that has 1000"),
        (Answer::ok(blob(999)), "only 999 bytes of a blob that has 1000"),
        (chunked(1001), "more than 1000 bytes"),
        (chunked(999), "too early"),
    ] {
        let server = Server::new(move |_| answer.clone());
        let error = read_blob(&User::new().repository(&server), &digest, 1000).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    // What is longer when it is asked for again, or was shorter all along.
    for (second, told) in [
        (Answer::new(206).header("content-range", "bytes 500-1999/2000").body(blob(1500)), "more than 1000"),
        (
            Answer::new(206).header("content-range", "bytes 600-999/1000").body(blob(400)),
            "does not begin at byte 500",
        ),
        (Answer::new(416).header("content-range", "bytes */500"), "only 500 bytes"),
    ] {
        let server = Server::new(by_turn(vec![Answer::ok(&data).stop(500, Stop::Break), second]));
        let error = read_blob(&User::new().repository(&server), &digest, 1000).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    // A chunk of exactly the right size is all right.
    let server = Server::new(move |_| chunked(1000));
    assert_eq!(read_blob(&User::new().repository(&server), &digest, 1000).unwrap(), data);
    // And so is nothing.
    let server = Server::new(|_| Answer::ok(""));
    assert_eq!(read_blob(&User::new().repository(&server), &digest, 0).unwrap(), b"");
}
