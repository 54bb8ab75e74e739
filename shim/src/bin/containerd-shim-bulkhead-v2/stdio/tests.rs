use std::io::Write;

use rustix::fs::{CWD, Mode};
use sandbox::Streams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

const OWNER: Owner<'static> = Owner { namespace: "default", id: "c1" };
const SIZE: TerminalSize = TerminalSize { rows: 0, columns: 0 };

struct Fifos(tempfile::TempDir);

impl Fifos {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["stdin", "stdout", "stderr"] {
            rustix::fs::mkfifoat(CWD, directory.path().join(name), Mode::RUSR | Mode::WUSR).unwrap();
        }
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn stdio(&self) -> Stdio {
        let [stdin, stdout, stderr] = ["stdin", "stdout", "stderr"].map(|name| self.path(name));
        Stdio { stdin, stdout, stderr, terminal: false }
    }

    /// As a client opens them: it does not wait for the other side.
    fn reader(&self, name: &str) -> pipe::Receiver {
        pipe::OpenOptions::new().open_receiver(self.path(name)).unwrap()
    }

    fn writer(&self, name: &str) -> pipe::Sender {
        pipe::OpenOptions::new().open_sender(self.path(name)).unwrap()
    }
}

/// The host's ends of a guest's streams, and the guest's.
fn streams() -> (Streams, [UnixStream; 3]) {
    let [stdin, stdout, stderr] = [(); 3].map(|()| UnixStream::pair().unwrap());
    let streams = Streams { stdin: Some(stdin.0), stdout: Some(stdout.0), stderr: Some(stderr.0) };
    (streams, [stdin.1, stdout.1, stderr.1])
}

#[test]
fn a_streams_name_is_a_path_or_one_of_containerds_uris() {
    let parse = |name| Target::parse(name).unwrap();
    assert_eq!(parse(""), None);
    assert_eq!(parse("/run/f"), Some(Target::Path("/run/f".into())));
    assert_eq!(parse("fifo:///run/f"), Some(Target::Path("/run/f".into())));
    assert_eq!(parse("file:///var/a%20b"), Some(Target::File("/var/a b".into())));
    let arguments = ["size", "10", "all", "", "a b", "c=d"].map(str::to_owned).to_vec();
    let binary = Target::Binary { path: "/bin/log".into(), arguments };
    assert_eq!(parse("binary:///bin/log?size=10&all&a+b=c%3Dd"), Some(binary));
    assert!(
        matches!(Target::parse("npipe://./pipe/x"), Err(StdioError::Scheme(scheme)) if scheme == "npipe")
    );
    assert!(matches!(Target::parse("file://relative"), Err(StdioError::Path(_))));
}

#[test]
fn the_guest_is_asked_for_what_there_is() {
    let fifos = Fifos::new();
    let wanted = |stdio: Stdio| {
        let wanted = stdio.wanted(SIZE);
        (wanted.stdin, wanted.stdout, wanted.stderr, wanted.terminal.is_some())
    };
    assert_eq!(wanted(Stdio::default()), (false, false, false, false));
    assert_eq!(wanted(fifos.stdio()), (true, true, true, false));
    assert_eq!(wanted(Stdio { terminal: true, ..fifos.stdio() }), (true, true, false, true));
    let logged = Stdio { stdout: "file:///log".to_owned(), ..Stdio::default() };
    assert_eq!(wanted(logged), (false, true, true, false));
}

#[tokio::test]
async fn beside_a_terminal_no_stderr_is_looked_for() {
    let fifos = Fifos::new();
    std::fs::remove_file(fifos.path("stderr")).unwrap();
    let ends = Stdio { terminal: true, ..fifos.stdio() }.open(OWNER, true).await.unwrap();
    assert!(ends.stdout.is_some() && ends.stderr.is_none());
    let error = fifos.stdio().open(OWNER, true).await.unwrap_err();
    assert!(matches!(error, StdioError::Open { path, .. } if path.ends_with("stderr")));
}

#[tokio::test]
async fn opening_waits_for_nobody_and_a_reader_may_come_back() {
    let fifos = Fifos::new();
    let ends = fifos.stdio().open(OWNER, true).await.unwrap();
    let (streams, [_stdin, mut stdout, _stderr]) = streams();
    let pumps = Pumps::start(ends, streams);
    stdout.write_all(b"one").await.unwrap();
    let mut reader = fifos.reader("stdout");
    let mut three = [0; 3];
    reader.read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"one");
    drop(reader);
    stdout.write_all(b"two").await.unwrap();
    fifos.reader("stdout").read_exact(&mut three).await.unwrap();
    assert_eq!(&three, b"two");
    drop((stdout, _stderr));
    pumps.drained().await;
}

#[tokio::test]
async fn stdin_ends_when_the_client_is_gone_and_nobody_else_comes() {
    let fifos = Fifos::new();
    let ends = fifos.stdio().open(OWNER, true).await.unwrap();
    let (streams, [mut stdin, _stdout, _stderr]) = streams();
    let pumps = Pumps::start(ends, streams);
    let mut client = fifos.writer("stdin");
    client.write_all(b"first").await.unwrap();
    drop(client);
    let mut got = [0; 5];
    stdin.read_exact(&mut got).await.unwrap();
    // Another client may come until CloseIO.
    let mut client = fifos.writer("stdin");
    pumps.close_stdin();
    client.write_all(b"last").await.unwrap();
    drop(client);
    let mut rest = Vec::new();
    stdin.read_to_end(&mut rest).await.unwrap();
    assert_eq!((&got, rest.as_slice()), (b"first", b"last".as_slice()));
}

#[tokio::test]
async fn what_nobody_takes_is_let_go_when_the_process_is_to_end() {
    let fifos = Fifos::new();
    let ends = fifos.stdio().open(OWNER, true).await.unwrap();
    let (streams, [_stdin, mut stdout, stderr]) = streams();
    drop(stderr);
    let pumps = Pumps::start(ends, streams);
    let guest = tokio::spawn(async move { stdout.write_all(&vec![b'x'; 4 << 20]).await });
    pumps.give_up();
    guest.await.unwrap().unwrap();
    pumps.drained().await;
}

#[tokio::test]
async fn both_outputs_are_appended_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/log");
    let stdio = Stdio { stdout: format!("file://{}", path.display()), ..Stdio::default() };
    let ends = stdio.open(OWNER, true).await.unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"before ").unwrap();
    let (streams, [_stdin, mut stdout, mut stderr]) = streams();
    let pumps = Pumps::start(ends, streams);
    stdout.write_all(b"out").await.unwrap();
    stderr.write_all(b"err").await.unwrap();
    drop((stdout, stderr));
    pumps.drained().await;
    let log = std::fs::read_to_string(&path).unwrap();
    assert!(log.starts_with("before ") && log.contains("out") && log.contains("err"), "{log}");
}

#[tokio::test]
async fn a_logging_binary_has_its_streams_by_number_and_says_when_it_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let (program, log) = (directory.path().join("logger"), directory.path().join("log"));
    let script = format!(
        "#!/bin/sh\nexec 5>&-\n{{ echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $*\"; /bin/cat <&3; /bin/cat <&4; }} > {}\n",
        log.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let stdio = Stdio { stdout: format!("binary://{}?a=b", program.display()), ..Stdio::default() };
    let mut ends = stdio.open(OWNER, true).await.unwrap();
    let logger = ends.logger.take().unwrap();
    let (streams, [_stdin, mut stdout, mut stderr]) = streams();
    let pumps = Pumps::start(ends, streams);
    stdout.write_all(b"out\n").await.unwrap();
    stderr.write_all(b"err\n").await.unwrap();
    drop((stdout, stderr));
    pumps.drained().await;
    assert!(logger.ended().await.unwrap().success());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "default/c1 a b\nout\nerr\n");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let missing = Stdio { stdout: "/nowhere/fifo".to_owned(), ..Stdio::default() };
    let error = missing.open(OWNER, true).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot open /nowhere/fifo");
    let program = Stdio { stdout: "binary:///nowhere/logger".to_owned(), ..Stdio::default() };
    assert!(matches!(program.open(OWNER, true).await, Err(StdioError::Logger { .. })));
}
