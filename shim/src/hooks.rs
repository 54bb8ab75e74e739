//! Hooks: programs of the host that a bundle wants run at moments of a container's life (OCI runtime-spec, config.md,
//! "POSIX-platform Hooks").
//!
//! They run in the namespaces of whoever calls [`run_hooks`], and find the container by the pid in the state they read. That
//! is the runtime namespace of the specification. `createContainer` ought to run in the container's mount namespace, which
//! is the guest's: it runs on the host as well. `startContainer` belongs inside the container with a path of the
//! container's; a bundle with one is refused.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Hooks};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What is kept of a hook's last words for an error, in bytes.
const LAST_WORDS: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Prestart,
    CreateRuntime,
    CreateContainer,
    Poststart,
    Poststop,
}

#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error(
        "startContainer hooks are not supported: they are programs of the container, which would have to run inside its \
         virtual machine before its process"
    )]
    StartContainer,
    #[error("the path of a hook must be absolute: {0:?}")]
    Relative(String),
    #[error("the timeout of hook {0:?} must be greater than zero")]
    Timeout(String),
    #[error("error running {moment} hook #{index}: {failure}")]
    Failed { moment: Moment, index: usize, failure: HookFailure },
}

/// In runc's words.
#[derive(Debug, thiserror::Error)]
pub enum HookFailure {
    #[error("{0}")]
    Start(io::Error),
    #[error("cannot watch it: {0}")]
    Watch(io::Error),
    #[error("hook ran past specified timeout of {:.1}s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("{status}, output: {output}")]
    Status { status: String, output: String },
}

/// Whether all of a bundle's hooks are such that they can be run when their moment comes.
pub fn check_hooks(hooks: &Hooks) -> Result<(), HookError> {
    if hooks.start_container().as_ref().is_some_and(|hooks| !hooks.is_empty()) {
        return Err(HookError::StartContainer);
    }
    for hook in Moment::ALL.into_iter().flat_map(|moment| moment.of(hooks)) {
        if !hook.path().is_absolute() {
            return Err(HookError::Relative(hook.path().display().to_string()));
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(HookError::Timeout(hook.path().display().to_string()));
        }
    }
    Ok(())
}

/// Runs the hooks of a moment, one after the other, until one fails. Each reads `state`, the container's state in JSON. Blocks.
pub fn run_hooks(hooks: &Hooks, moment: Moment, state: &[u8]) -> Result<(), HookError> {
    for (index, hook) in moment.of(hooks).iter().enumerate() {
        run(hook, state).map_err(|failure| HookError::Failed { moment, index, failure })?;
    }
    Ok(())
}

impl Moment {
    const ALL: [Self; 5] =
        [Self::Prestart, Self::CreateRuntime, Self::CreateContainer, Self::Poststart, Self::Poststop];

    fn of(self, hooks: &Hooks) -> &[Hook] {
        #[allow(deprecated, reason = "Docker's network is still made by a prestart hook")]
        let hooks = match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        };
        hooks.as_deref().unwrap_or_default()
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        })
    }
}

fn run(hook: &Hook, state: &[u8]) -> Result<(), HookFailure> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| HookFailure::Start(error.into()))?;
    let mut child = start(hook, theirs).map_err(HookFailure::Start)?;
    let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let mut running = Running {
        stdin: child.stdin.take(),
        unwritten: state,
        output: output.into(),
        last_words: Vec::new(),
        deadline: timeout.map(|timeout| Instant::now() + timeout),
    };
    let watched = running.watch(&child);
    if !matches!(watched, Ok(true)) {
        // Only one that is gone cannot be killed.
        let _ = child.kill();
    }
    let status = child.wait().map_err(HookFailure::Watch)?;
    match (watched.map_err(HookFailure::Watch)?, timeout) {
        (false, Some(timeout)) => Err(HookFailure::TimedOut(timeout)),
        _ if status.success() => Ok(()),
        _ => Err(HookFailure::Status { status: in_words(status), output: running.words() }),
    }
}

fn start(hook: &Hook, output: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(hook.path());
    if let Some((name, arguments)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(arguments);
    }
    // It gets the variables it is given, and none of ours.
    let variables = hook.env().iter().flatten().filter_map(|variable| variable.split_once('='));
    command.env_clear().envs(variables);
    let errors = output.try_clone()?;
    command.stdin(Stdio::piped()).stdout(output).stderr(errors).spawn()
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}

/// A hook while it runs: what it is yet to read, and what it said.
struct Running<'a> {
    stdin: Option<ChildStdin>,
    unwritten: &'a [u8],
    output: std::fs::File,
    last_words: Vec<u8>,
    deadline: Option<Instant>,
}

impl Running<'_> {
    /// Waits for its end, or its deadline: then `false`. What it left running does not matter, even with its output open.
    fn watch(&mut self, child: &Child) -> io::Result<bool> {
        if let Some(stdin) = &self.stdin {
            do_not_block(stdin)?;
        }
        do_not_block(&self.output)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
        let mut silent = false;
        loop {
            let Some(rest) = self.rest() else { return Ok(false) };
            let mut polled = vec![PollFd::new(&process, PollFlags::IN)];
            // One that has ended would be ready for ever.
            if !silent {
                polled.push(PollFd::new(&self.output, PollFlags::IN));
            }
            if let Some(stdin) = &self.stdin {
                polled.push(PollFd::new(stdin, PollFlags::OUT));
            }
            rustix::io::retry_on_intr(|| poll(&mut polled, rest.as_ref()))?;
            let ended = polled.first().is_some_and(|process| !process.revents().is_empty());
            drop(polled);
            silent = silent || self.hear()?;
            if ended {
                return Ok(true);
            }
            self.tell();
        }
    }

    /// The time it has left; `None`: none.
    fn rest(&self) -> Option<Option<Timespec>> {
        let Some(deadline) = self.deadline else { return Some(None) };
        let rest = deadline.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())?;
        Timespec::try_from(rest).ok().map(Some)
    }

    /// Reads what it said so far; whether that was all.
    fn hear(&mut self) -> io::Result<bool> {
        let mut buffer = [0; LAST_WORDS];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => {
                    self.last_words.extend(buffer.iter().take(length));
                    let surplus = self.last_words.len().saturating_sub(LAST_WORDS);
                    self.last_words.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what it can take of the state. A hook need not read it.
    fn tell(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        match stdin.write(self.unwritten) {
            Ok(length) => self.unwritten = self.unwritten.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.unwritten = &[],
        }
        if self.unwritten.is_empty() {
            self.stdin = None;
        }
    }

    fn words(&self) -> String {
        String::from_utf8_lossy(&self.last_words).trim().to_owned()
    }
}

fn do_not_block(descriptor: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&descriptor)?;
    Ok(fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn hooks(value: serde_json::Value) -> Hooks {
        serde_json::from_value(value).unwrap()
    }

    /// A hook that is a line of shell.
    fn shell(line: &str) -> serde_json::Value {
        json!({ "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"] })
    }

    #[test]
    fn hooks_run_in_order_with_the_state_on_their_input_and_their_own_environment() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let told = |number: u32| {
            let line =
                format!("read -r state; echo \"{number} $state $HOME $GREETING\" >> {}", out.display());
            json!({ "path": "/bin/sh", "args": ["sh", "-c", line], "env": ["GREETING=hello"] })
        };
        let hooks = hooks(json!({ "createRuntime": [told(1), told(2)], "poststop": [told(3)] }));
        run_hooks(&hooks, Moment::CreateRuntime, b"{\"id\":\"x\"}\n").unwrap();
        run_hooks(&hooks, Moment::Prestart, b"").unwrap();
        let written = fs::read_to_string(&out).unwrap();
        assert_eq!(written, "1 {\"id\":\"x\"}  hello\n2 {\"id\":\"x\"}  hello\n");
    }

    #[test]
    fn a_hook_that_fails_says_why_and_keeps_the_next_from_running() {
        let directory = tempfile::tempdir().unwrap();
        let next = directory.path().join("next");
        let touch = shell(&format!("touch {}", next.display()));
        let hooks = hooks(json!({ "prestart": [shell("echo no network >&2; exit 3"), touch] }));
        let told = run_hooks(&hooks, Moment::Prestart, b"{}").unwrap_err().to_string();
        assert_eq!(told, "error running prestart hook #0: exit status 3, output: no network");
        assert!(!next.exists());
    }

    #[test]
    fn a_hook_may_leave_its_input_unread_and_its_output_open() {
        let hooks = hooks(json!({ "poststop": [shell("exec 0<&-; sleep 100 & exit 0")] }));
        run_hooks(&hooks, Moment::Poststop, &vec![b' '; 1 << 20]).unwrap();
    }

    #[test]
    fn a_hook_that_reads_a_long_state_gets_all_of_it() {
        let hooks = hooks(json!({ "poststart": [shell("test $(wc -c) = 1048576")] }));
        run_hooks(&hooks, Moment::Poststart, &vec![b' '; 1 << 20]).unwrap();
    }

    #[test]
    fn of_a_hook_that_talks_without_end_the_last_words_are_kept() {
        let hooks =
            hooks(json!({ "prestart": [shell("yes | head -c 1000000; echo; echo the last; exit 1")] }));
        let told = run_hooks(&hooks, Moment::Prestart, b"").unwrap_err().to_string();
        assert!(told.ends_with("the last") && told.len() < 2 * LAST_WORDS, "{told}");
    }

    #[test]
    fn a_hook_ends_with_its_timeout() {
        let hooks =
            hooks(json!({ "prestart": [{ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 }] }));
        let told = run_hooks(&hooks, Moment::Prestart, b"").unwrap_err().to_string();
        assert!(told.contains("timeout of 1.0s"), "{told}");
    }

    #[test]
    fn hooks_that_cannot_be_run_are_refused_before_their_moment() {
        let refused = |value| check_hooks(&hooks(value)).unwrap_err();
        assert!(matches!(refused(json!({ "startContainer": [shell("")] })), HookError::StartContainer));
        assert!(matches!(refused(json!({ "poststop": [{ "path": "hook" }] })), HookError::Relative(_)));
        let timeout = json!({ "prestart": [{ "path": "/hook", "timeout": 0 }] });
        assert!(matches!(refused(timeout), HookError::Timeout(_)));
        check_hooks(&hooks(json!({ "startContainer": [], "prestart": [shell("")] }))).unwrap();
        let missing = hooks(json!({ "prestart": [{ "path": "/none/such" }] }));
        assert!(run_hooks(&missing, Moment::Prestart, b"").is_err());
    }
}
