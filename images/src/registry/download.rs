//! A blob as a stream that outlives its connections.

use std::io::{self, Read};
use std::sync::Arc;

use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use ureq::http::{HeaderValue, Method, Response, StatusCode, Uri};
use ureq::{Body, BodyReader};

use super::authorization::Scope;
use super::endpoint::{Endpoint, Endpoints};
use super::error::{RegistryCause, RegistryError};
use super::exchange::{Exchange, Request, Target};
use super::patience::Attempts;
use super::transport::{Outgoing, host};
use crate::digest::Sha256;

/// A connection that has brought so many bytes has shown that trying is worth it.
const PROGRESS: u64 = 1 << 20;

/// A blob being read: exactly `size` bytes, or an error.
pub(super) struct Download {
    exchange: Arc<Exchange>,
    endpoints: Arc<Endpoints>,
    digest: Sha256,
    size: u64,
    position: u64,
    connection: Option<Connection>,
    attempts: Attempts,
    /// Where the last connection was opened.
    opened_at: u64,
    /// Whether mirrors are still asked: one that breaks off early each time would never let us get to the registry.
    ask_mirrors: bool,
}

struct Connection {
    uri: Uri,
    body: BodyReader<'static>,
}

impl Download {
    /// Opens the first connection: a blob that is not there is told here.
    pub(super) fn open(
        exchange: Arc<Exchange>,
        endpoints: Arc<Endpoints>,
        digest: Sha256,
        size: u64,
    ) -> Result<Download, RegistryError> {
        let attempts = Attempts::new();
        let (position, connection, opened_at) = (0, None, 0);
        let mut download = Download {
            exchange,
            endpoints,
            digest,
            size,
            position,
            connection,
            attempts,
            opened_at,
            ask_mirrors: true,
        };
        download.connect().map_err(|cause| download.error(cause))?;
        Ok(download)
    }

    /// Connects, as often as that is worth it.
    fn connect(&mut self) -> Result<(), RegistryCause> {
        loop {
            match self.connect_once() {
                Ok(connection) => {
                    self.connection = Some(connection);
                    self.opened_at = self.position;
                    return Ok(());
                }
                Err(cause) if self.attempts.again(&cause, self.exchange.patience()) => (),
                Err(cause) => return Err(cause),
            }
        }
    }

    fn connect_once(&self) -> Result<Connection, RegistryCause> {
        match self.ask_mirrors {
            true => self.endpoints.ask(|mirror| self.connect_to(mirror), |origin| self.connect_to(origin)),
            false => self.connect_to(&self.endpoints.origin),
        }
    }

    fn connect_to(&self, endpoint: &Endpoint) -> Result<Connection, RegistryCause> {
        let path = endpoint.path(&format!("blobs/{}", self.digest));
        let mut outgoing = Outgoing::new(Method::GET);
        if self.position > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.position));
            outgoing.headers.extend(range.ok().map(|range| (RANGE, range)));
        }
        let scope = Scope::pull(&endpoint.repository);
        let target = Target::Path(&path);
        let mut request = Request { endpoint, scope: &scope, target, what: "blob", outgoing };
        let (uri, answer) = self.exchange.once(&mut request).map_err(|cause| match cause {
            // There is nothing where we are: the blob is as long as what we have.
            RegistryCause::Status { status: 416, .. } => self.wrong_length(&endpoint.host, self.position),
            cause => cause,
        })?;
        let starts_at = self.start_of(&endpoint.host, &answer)?;
        let mut connection = Connection { uri, body: answer.into_body().into_reader() };
        // A server that knows no ranges begins at the beginning.
        self.skip(&mut connection, self.position - starts_at)?;
        Ok(connection)
    }

    /// Where in the blob this answer begins, which is at our position or before; and whether it has the length it
    /// should have.
    fn start_of(&self, host: &str, answer: &Response<Body>) -> Result<u64, RegistryCause> {
        let header = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let length = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let start = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = header(CONTENT_RANGE).and_then(content_range);
                let range = range.filter(|(start, _)| *start <= self.position);
                let (start, total) = range.ok_or_else(|| self.malformed_range(host))?;
                match total {
                    Some(total) if total != self.size => return Err(self.wrong_length(host, total)),
                    _ => start,
                }
            }
            _ => 0,
        };
        match length.map(|length| start.saturating_add(length)) {
            Some(end) if end != self.size => Err(self.wrong_length(host, end)),
            _ => Ok(start),
        }
    }

    fn skip(&self, connection: &mut Connection, count: u64) -> Result<(), RegistryCause> {
        let skipped = io::copy(&mut connection.body.by_ref().take(count), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == count => Ok(()),
            Ok(skipped) => Err(self.wrong_length(host(&connection.uri), skipped)),
            Err(error) => Err(self.exchange.transport().body_cause(&connection.uri, error)),
        }
    }

    /// Reads on; Ok(0) at the blob's end only.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, RegistryCause> {
        if self.position == self.size {
            return self.finish();
        }
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let max = left.min(buffer.len());
        let Some(buffer) = buffer.get_mut(..max).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        loop {
            let Some(connection) = &mut self.connection else {
                self.connect()?;
                continue;
            };
            let cause = match connection.body.read(buffer) {
                Ok(0) => {
                    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the data ends too early");
                    RegistryCause::Broken { host: host(&connection.uri).to_owned(), source }
                }
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.exchange.transport().body_cause(&connection.uri, error),
            };
            self.lost(cause)?;
        }
    }

    /// Gives a broken connection up; fails if that has happened too often.
    fn lost(&mut self, cause: RegistryCause) -> Result<(), RegistryCause> {
        self.connection = None;
        if self.position - self.opened_at >= PROGRESS {
            self.attempts.forget();
        } else {
            self.ask_mirrors = false;
        }
        match self.attempts.again(&cause, self.exchange.patience()) {
            true => Ok(()),
            false => Err(cause),
        }
    }

    /// All has come; is there more? Having been read to its end, the connection can be used again.
    fn finish(&mut self) -> Result<usize, RegistryCause> {
        let Some(mut connection) = self.connection.take() else { return Ok(0) };
        match connection.body.read(&mut [0]) {
            Ok(1..) => Err(self.wrong_length(host(&connection.uri), self.size.saturating_add(1))),
            // How it ends is of no interest any more.
            Ok(0) | Err(_) => Ok(0),
        }
    }

    fn wrong_length(&self, host: &str, actual: u64) -> RegistryCause {
        RegistryCause::Length { host: host.to_owned(), expected: self.size, actual }
    }

    fn malformed_range(&self, host: &str) -> RegistryCause {
        let reason = format!("it does not begin at byte {}", self.position);
        RegistryCause::Malformed { registry: host.to_owned(), what: "range of a blob", reason }
    }

    fn error(&self, cause: RegistryCause) -> RegistryError {
        RegistryError::new(format!("get blob {} of {}", self.digest, self.endpoints.origin), cause)
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(|cause| io::Error::other(self.error(cause)))
    }
}

/// RFC 9110, 14.4: where the part begins, and the size of the whole if it is told.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes */10", "bytes 5/10", "items 5-9/10", "bytes -1-9/10"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_range_breaks_it(value in "\\PC*") {
            content_range(&value);
        }
    }
}
