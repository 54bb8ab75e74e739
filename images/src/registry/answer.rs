//! What a status says.

use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};

use ureq::Body;
use ureq::http::header::RETRY_AFTER;
use ureq::http::{Response, Uri};

use super::endpoint::Endpoint;
use super::error::RegistryCause;
use super::message::{MAX_REFUSAL, Message};
use super::patience::retry_after;

/// For all of a document, however slowly it comes.
const DOCUMENT_TIME: Duration = Duration::from_secs(120);

/// An answer, and who gave it.
pub(super) type Answer = (Uri, Response<Body>);

/// Passes success on, and makes of everything else what it means. `what` was asked for, by `user`.
pub(super) fn check(
    endpoint: &Endpoint,
    answer: &mut Response<Body>,
    what: &'static str,
    user: Option<&str>,
) -> Result<(), RegistryCause> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let registry = endpoint.registry.clone();
    let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = wait.and_then(|value| retry_after(value, SystemTime::now()));
    let message = message(answer);
    Err(match status.as_u16() {
        404 => RegistryCause::NotFound { registry, what, message },
        401 | 403 => RegistryCause::Denied { registry, user: user.map(str::to_owned), message },
        429 => RegistryCause::RateLimited { registry, wait, message },
        status @ (408 | 500..) => RegistryCause::Server { registry, status, wait, message },
        status => RegistryCause::Status { registry, status, message },
    })
}

fn message(answer: &mut Response<Body>) -> Message {
    let mut body = Vec::new();
    // A refusal whose reasons do not arrive is still one.
    let _ = Hurried::new(answer).take(MAX_REFUSAL).read_to_end(&mut body);
    Message::read(&body)
}

/// The body of an answer that is small: reading it fails where it comes drop by drop.
pub(super) struct Hurried<'a> {
    body: ureq::BodyReader<'a>,
    until: Instant,
}

impl<'a> Hurried<'a> {
    pub(super) fn new(answer: &'a mut Response<Body>) -> Self {
        Hurried { body: answer.body_mut().as_reader(), until: Instant::now() + DOCUMENT_TIME }
    }
}

impl Read for Hurried<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it comes too slowly"));
        }
        self.body.read(buffer)
    }
}
