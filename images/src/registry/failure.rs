//! What it means that there is no answer.

use std::io;

use super::error::RegistryCause;
use super::message::escape;

/// The meaning of a failed exchange with a host. `answered`: whether it has answered anything before.
pub(super) fn cause(host: &str, error: ureq::Error, answered: bool) -> RegistryCause {
    let owned = host.to_owned();
    match error {
        ureq::Error::Timeout(timeout) => RegistryCause::Timeout { host: owned, phase: phase(timeout) },
        ureq::Error::HostNotFound => {
            RegistryCause::Unresolved { host: owned, reason: "it has no address".to_owned() }
        }
        ureq::Error::ConnectProxyFailed(reason) => {
            RegistryCause::Proxy { host: owned, reason: escape(&reason) }
        }
        ureq::Error::Rustls(error) => tls(owned, &error),
        ureq::Error::Tls(reason) => {
            RegistryCause::Tls { host: owned, reason: reason.to_owned(), unknown_authority: false }
        }
        ureq::Error::ConnectionFailed => {
            connection(owned, io::Error::other("none of its addresses answers"), answered)
        }
        ureq::Error::Io(error) => connection(owned, error, answered),
        error => malformed(host, "answer", &error),
    }
}

pub(super) fn malformed(host: &str, what: &'static str, error: &dyn std::error::Error) -> RegistryCause {
    let reason = escape(&error.to_string());
    RegistryCause::Malformed { registry: host.to_owned(), what, reason }
}

fn connection(host: String, source: io::Error, answered: bool) -> RegistryCause {
    use io::ErrorKind;
    if let Some(error) = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls(host, error);
    }
    // The standard library has no kind for it.
    if source.to_string().starts_with("failed to lookup address") {
        return RegistryCause::Unresolved { host, reason: source.to_string() };
    }
    let refused = matches!(
        source.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::PermissionDenied
            | ErrorKind::AddrNotAvailable
            | ErrorKind::Other
    );
    // Who answered a moment ago is restarting, perhaps; who never did is not there.
    match refused && !answered {
        true => RegistryCause::Unreachable { host, source },
        false => RegistryCause::Broken { host, source },
    }
}

fn tls(host: String, error: &rustls::Error) -> RegistryCause {
    use rustls::{CertificateError, Error, InvalidMessage};
    match error {
        // "HTTP/1.1 400 Bad Request" is no TLS record.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => RegistryCause::PlainHttp { host },
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let reason = "nobody known vouches for its certificate".to_owned();
            RegistryCause::Tls { host, reason, unknown_authority: true }
        }
        // rustls has no name for it: webpki tells it in words.
        error if error.to_string().contains("CaUsedAsEndEntity") => {
            let reason = "it shows an authority's certificate as its own (`openssl req -x509` makes such); it needs one \
                          of its own, signed by that authority"
                .to_owned();
            RegistryCause::Tls { host, reason, unknown_authority: false }
        }
        _ => RegistryCause::Tls { host, reason: escape(&error.to_string()), unknown_authority: false },
    }
}

fn phase(timeout: ureq::Timeout) -> &'static str {
    use ureq::Timeout;
    match timeout {
        Timeout::Resolve => "looking up its address",
        Timeout::Connect => "connecting",
        Timeout::SendRequest | Timeout::SendBody | Timeout::PerWrite => "sending",
        _ => "waiting for data",
    }
}
