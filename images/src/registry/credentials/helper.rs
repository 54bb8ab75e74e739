//! Programs that keep credentials: `docker-credential-NAME get|store|erase` (docker-credential-helpers, "Development").

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};

use super::{Credential, CredentialError};
use crate::registry::message::escape;

/// Long enough to be asked for a passphrase.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of its output that are read.
const MAX_OUTPUT: u64 = 256 << 10;
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// What helpers print for what they do not have.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A helper program.
pub(super) struct Helper {
    program: String,
    timeout: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exchanged<'a> {
    #[serde(rename = "ServerURL", default)]
    server: std::borrow::Cow<'a, str>,
    username: std::borrow::Cow<'a, str>,
    secret: std::borrow::Cow<'a, str>,
}

impl Helper {
    /// The helper that a configuration calls so.
    pub(super) fn named(name: &str) -> Result<Helper, CredentialError> {
        let program = format!("docker-credential-{name}");
        // A name that is a path would run whatever is there.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(failed(&escape(&program), "it is no name of a program".to_owned()));
        }
        Ok(Helper { program, timeout: TIMEOUT })
    }

    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(output) = self.run("get", server)? else { return Ok(None) };
        // The parser's own words could quote the secret.
        let found: Exchanged<'_> = serde_json::from_slice(&output)
            .map_err(|_| failed(&self.program, "its answer is not as specified".to_owned()))?;
        let (user, secret) = (found.username.into_owned(), found.secret.into_owned());
        Ok(Some(match user.as_str() {
            TOKEN_USER => Credential::IdentityToken(secret),
            _ => Credential::Password { user, password: secret },
        }))
    }

    pub(super) fn store(&self, server: &str, credential: &Credential) -> Result<(), CredentialError> {
        let (username, secret) = match credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::IdentityToken(token) => (TOKEN_USER, token),
        };
        let exchanged = Exchanged { server: server.into(), username: username.into(), secret: secret.into() };
        let input =
            serde_json::to_string(&exchanged).map_err(|error| failed(&self.program, error.to_string()))?;
        self.run("store", &input).map(drop)
    }

    pub(super) fn erase(&self, server: &str) -> Result<(), CredentialError> {
        self.run("erase", server).map(drop)
    }

    /// Its output; None if it has no such credential.
    fn run(&self, verb: &str, input: &str) -> Result<Option<Vec<u8>>, CredentialError> {
        let error = |reason: String| failed(&self.program, reason);
        let mut child = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // So that whatever it starts can be ended with it.
            .process_group(0)
            .spawn()
            .map_err(|source| error(format!("it cannot be started: {source}")))?;
        let output = converse(&mut child, input.to_owned());
        let ended = self.await_end(&mut child).map_err(|source| error(source.to_string()))?;
        let Some(status) = ended else {
            return Err(error(format!("it did not end within {} s", self.timeout.as_secs())));
        };
        // What it left running may hold its output open.
        let output = match output.recv_timeout(Duration::from_secs(5)) {
            Ok(output) => output,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(error("its output does not end".to_owned()));
            }
        };
        if status.success() {
            return Ok(Some(output));
        }
        let said = String::from_utf8_lossy(&output);
        if said.contains(NOT_FOUND) {
            return Ok(None);
        }
        Err(error(format!("{status}: {}", escape(said.trim()))))
    }

    /// Its status; None if it took too long, and was ended.
    fn await_end(&self, child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
        let pid = Pid::from_child(child);
        let until = Instant::now() + self.timeout;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // It may just have ended by itself.
                let _ = kill_process_group(pid, Signal::KILL);
                child.wait()?;
                return Ok(None);
            }
            let left = Timespec::try_from(left).map_err(std::io::Error::other)?;
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
                Ok(1..) => return child.wait().map(Some),
                Ok(0) | Err(rustix::io::Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Gives the child its input, and collects a bounded part of its output, on a thread of its own: a child that reads
/// or ends when it wants to holds up nobody.
fn converse(child: &mut Child, input: String) -> Receiver<Vec<u8>> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            // One that needs no input may have closed it.
            let _ = stdin.write_all(input.as_bytes());
        }
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            // What came before an error is judged as any output.
            let _ = stdout.take(MAX_OUTPUT).read_to_end(&mut output);
        }
        // Nobody waits any more if it took too long.
        let _ = sender.send(output);
    });
    receiver
}

fn failed(program: &str, reason: String) -> CredentialError {
    CredentialError::Helper { program: program.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// A helper that is this shell script.
    fn script(directory: &Path, text: &str) -> Helper {
        let path = directory.join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Helper { program: path.to_str().unwrap().to_owned(), timeout: Duration::from_secs(30) }
    }

    #[test]
    fn a_helper_keeps_gives_and_forgets() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        let helper = script(
            directory.path(),
            &format!(
                "case $1 in
                get) read -r server; grep -qF \"$server\" {kept} 2>/dev/null && cat {kept} && exit
                    echo credentials not found in native keychain; exit 1;;
                store) cat > {kept};;
                erase) rm {kept};;
                esac",
                kept = kept.display()
            ),
        );
        let credential = Credential::Password { user: "u".into(), password: "p\"w\\".into() };
        assert_eq!(helper.get("r.example").unwrap(), None);
        helper.store("r.example", &credential).unwrap();
        assert_eq!(helper.get("r.example").unwrap(), Some(credential));
        let token = Credential::IdentityToken("t".into());
        helper.store("r.example", &token).unwrap();
        assert_eq!(helper.get("r.example").unwrap(), Some(token));
        helper.erase("r.example").unwrap();
        assert_eq!(helper.get("r.example").unwrap(), None);
    }

    #[test]
    fn a_helper_that_fails_is_told_and_its_secret_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let told = |text: &str| script(directory.path(), text).get("r").unwrap_err().to_string();
        assert!(told("echo keyring is locked; exit 3").contains("keyring is locked"));
        let odd = told("echo '{\"Username\":\"u\",\"Secret\":[\"hunter2\"]}'");
        assert!(odd.contains("not as specified") && !odd.contains("hunter2"), "{odd}");
        // As much as it likes to write: it is cut off, and ends by SIGPIPE.
        assert!(told("exec yes").contains("signal"), "endless output");
        let mut slow = script(directory.path(), "sleep 1000 & wait");
        slow.timeout = Duration::from_millis(50);
        assert!(slow.get("r").unwrap_err().to_string().contains("did not end"));
        for name in ["", "../x", "a/b", "a b", "a\u{1b}"] {
            assert!(Helper::named(name).is_err(), "{name}");
        }
        let missing = Helper::named("surely-not-installed").unwrap().get("r").unwrap_err().to_string();
        assert!(missing.contains("docker-credential-surely-not-installed"), "{missing}");
    }
}
