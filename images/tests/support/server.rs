//! A web server that does as a test tells it: it answers by a closure, and may stall, break off or lie.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What it gets.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// After how many bytes of the body to stop, and how.
    pub stop: Option<(usize, Stop)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Closes the connection.
    Break,
    /// Says nothing more until the client goes away.
    Stall,
}

/// A server on a port of its own, for as long as this lives.
pub struct Server {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// `METHOD PATH`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Answer { status, ..Answer::default() }
    }

    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Answer::new(200).body(body)
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn stop(mut self, after: usize, stop: Stop) -> Self {
        self.stop = Some((after, stop));
        self
    }

    /// The part of a blob that the client wants.
    pub fn range(asked: &Asked, blob: &[u8]) -> Self {
        let start = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let Some(start) = start.map(|start| start.parse::<usize>().unwrap()) else { return Answer::ok(blob) };
        if start >= blob.len() {
            return Answer::new(416).header("content-range", &format!("bytes */{}", blob.len()));
        }
        let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
        Answer::new(206).header("content-range", &range).body(&blob[start..])
    }
}

/// A certificate for 127.0.0.1 and registry.test, by an authority of its own.
pub struct Identity {
    /// The authority's certificate (PEM).
    pub authority: String,
    config: Arc<rustls::ServerConfig>,
}

impl Identity {
    pub fn new() -> Identity {
        let mut authority = rcgen::CertificateParams::new([]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let issuer_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "registry.test".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        Identity { authority: issuer_certificate.pem(), config: Arc::new(config) }
    }
}

impl Server {
    /// Answers each request, on a thread for each connection, by what `respond` says of it.
    pub fn new(respond: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        Server::start(None, respond)
    }

    /// The same behind TLS.
    pub fn secure(identity: &Identity, respond: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        Server::start(Some(identity.config.clone()), respond)
    }

    fn start(
        tls: Option<Arc<rustls::ServerConfig>>,
        respond: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (respond, seen) = (Arc::new(respond), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (respond, seen, tls) = (respond.clone(), seen.clone(), tls.clone());
                let stream = stream.unwrap();
                std::thread::spawn(move || match tls {
                    None => serve(&stream, &stream, &*respond, &seen),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(connection, &stream), &stream, &*respond, &seen);
                    }
                });
            }
        });
        Server { host, asked }
    }

    /// All that was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

/// A connection. A CONNECT is answered as anything; what comes through it is asked of this server, too.
fn serve(
    stream: impl Read + Write,
    socket: &TcpStream,
    respond: &dyn Fn(&Asked) -> Answer,
    seen: &Mutex<Vec<Asked>>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read_request(&mut stream) {
        seen.lock().unwrap().push(asked.clone());
        let answer = respond(&asked);
        if write_answer(stream.get_mut(), &asked, &answer).is_none() {
            break;
        }
    }
    // A client that still sends would otherwise get a reset instead of our answer.
    let _ = socket.shutdown(Shutdown::Write);
    let mut socket = socket;
    let _ = std::io::copy(&mut socket, &mut std::io::sink());
}

/// None at the connection's end, or for what is no HTTP (a client that tries TLS, say).
fn read_request(stream: &mut BufReader<impl Read + Write>) -> Option<Asked> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).ok()?;
    let Ok(line) = String::from_utf8(line) else {
        let _ = stream.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        return None;
    };
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut asked = Asked { method, path, ..Asked::default() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
    asked.body.resize(length, 0);
    stream.read_exact(&mut asked.body).ok()?;
    Some(asked)
}

/// None if the connection is not to be used again.
fn write_answer(stream: &mut (impl Read + Write), asked: &Asked, answer: &Answer) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} X\r\n", answer.status);
    if !answer.headers.iter().any(|(name, _)| name == "transfer-encoding") {
        head.push_str(&format!("content-length: {}\r\n", answer.body.len()));
    }
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    let body: &[u8] = if asked.method == "HEAD" { &[] } else { &answer.body };
    let Some((after, stop)) = answer.stop else {
        stream.write_all(body).ok()?;
        return stream.flush().ok();
    };
    stream.write_all(&body[..after.min(body.len())]).ok()?;
    stream.flush().ok()?;
    if stop == Stop::Stall {
        // Until the client closes its end.
        let _ = stream.read(&mut [0]);
    }
    None
}
