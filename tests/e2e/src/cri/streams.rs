//! The streams of a CRI: of a command or a container, and of a forwarded port. They are WebSockets, whose frames begin
//! with the number of the channel they are for.

use std::net::TcpStream;
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use crate::shell::Finished;

/// The version all CRIs serve. It has no way to end a command's input alone.
const PROTOCOL: &str = "v4.channel.k8s.io";

/// Longer than a stream that works is silent in a test.
const LIMIT: Duration = Duration::from_secs(120);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// Tells of a command's end, as a `Status` of Kubernetes in JSON.
const END: u8 = 3;
const RESIZE: u8 = 4;

/// A forwarded port's two channels.
const DATA: u8 = 0;
const ERROR: u8 = 1;

struct Channels(WebSocket<TcpStream>);

impl Channels {
    fn open(url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} is not HTTP's"));
        let mut request = format!("ws://{address}").into_client_request().expect("a request");
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
        let host = address.split('/').next().expect("a host");
        let stream = TcpStream::connect(host).unwrap_or_else(|error| panic!("{host}: {error}"));
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let (socket, _) =
            tungstenite::client(request, stream).unwrap_or_else(|error| panic!("{url}: {error}"));
        Self(socket)
    }

    fn send(&mut self, channel: u8, bytes: &[u8]) {
        let frame = [&[channel], bytes].concat();
        self.0.send(Message::binary(frame)).expect("a frame is sent");
    }

    /// The next bytes and their channel, or none when the server is done.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.0.read() {
                Ok(Message::Binary(frame)) => {
                    return frame.split_first().map(|(channel, bytes)| (*channel, bytes.to_vec()));
                }
                Ok(Message::Close(_)) => return None,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("nothing came for {LIMIT:?}")
                }
                // The server says goodbye, or just goes.
                Err(_) => return None,
            }
        }
    }
}

/// A command, or a container's first process, with its standard streams.
pub struct Process {
    channels: Channels,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    end: Vec<u8>,
}

impl Process {
    pub(super) fn open(url: &str) -> Self {
        Self { channels: Channels::open(url), stdout: Vec::new(), stderr: Vec::new(), end: Vec::new() }
    }

    pub fn write(&mut self, input: &str) {
        self.channels.send(STDIN, input.as_bytes());
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = format!(r#"{{"Width":{columns},"Height":{rows}}}"#);
        self.channels.send(RESIZE, size.as_bytes());
    }

    /// Waits until what was written to its output holds `text`.
    pub fn wait_for(&mut self, text: &str) {
        while !self.said(text) {
            self.wait_for_more();
        }
    }

    /// Waits until more is written than was seen.
    pub fn wait_for_more(&mut self) {
        assert!(self.read(), "it ended after {:?}", String::from_utf8_lossy(&self.stdout));
    }

    /// Whether what was seen of its output holds `text`.
    pub fn said(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.stdout).contains(text)
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        while self.read() {}
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { code: exit_code(&self.end), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }

    fn read(&mut self) -> bool {
        let Some((channel, bytes)) = self.channels.next() else { return false };
        match channel {
            STDOUT => self.stdout.extend(bytes),
            STDERR => self.stderr.extend(bytes),
            END => self.end.extend(bytes),
            other => panic!("bytes on channel {other}"),
        }
        true
    }
}

/// The exit code in a `Status`: its absence in a failure is told with the words of that.
fn exit_code(status: &[u8]) -> i32 {
    let text = String::from_utf8_lossy(status);
    let status: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    if status["status"] == "Success" {
        return 0;
    }
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["reason"], "ExitCode", "{text}");
    cause["message"]
        .as_str()
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no exit code in {text}"))
}

/// What a pod's port answers to `request` through a forwarding, until it closes; or why it is not forwarded.
pub(super) fn exchange(url: &str, request: &str) -> Result<String, String> {
    let mut channels = Channels::open(url);
    channels.send(DATA, request.as_bytes());
    let (mut data, mut error) = (Vec::new(), Vec::new());
    while let Some((channel, bytes)) = channels.next() {
        match channel {
            DATA => data.extend(bytes),
            ERROR => error.extend(bytes),
            other => panic!("bytes on channel {other}"),
        }
    }
    // Each channel begins with the number of its port.
    let rest = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(2..).unwrap_or_default()).into_owned();
    if error.len() > 2 { Err(rest(&error)) } else { Ok(rest(&data)) }
}
