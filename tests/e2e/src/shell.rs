//! Runs the shell's one-liners that users write.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

/// Longer than anything takes that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(400);

/// How a script ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a script in bash, with `$BUSYBOX` and `$PYTHON` the test images. Fails it with 124 when it hangs.
pub fn sh(script: &str) -> Finished {
    let output = command(&[], script).output().expect("bash");
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a script that must succeed; its output without the last newline.
pub fn output(script: &str) -> String {
    let finished = sh(script);
    assert_eq!(finished.code, 0, "{script}\n{}{}", finished.stdout, finished.stderr);
    finished.stdout.trim_end().to_owned()
}

/// In a process group of its own, which its limit ends as a whole unless it is told `--foreground`: who is left would
/// hold our pipes open.
fn command(options: &[&str], script: &str) -> Command {
    let images = crate::images::images();
    let mut command = Command::new("timeout");
    command
        .process_group(0)
        .args(options)
        .args(["--kill-after=10", &LIMIT.as_secs().to_string(), "bash", "-c", script])
        .env("BUSYBOX", &images.busybox)
        .env("PYTHON", &images.python)
        .stdin(Stdio::null());
    command
}

/// A script that goes on. Ended, however rudely, with the test, and all it started in the same process group.
pub struct Background {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

/// Starts a command and waits for its first line.
pub fn background(script: &str) -> Background {
    // A limit on the whole group would take a server away from a test that needs it for longer.
    let mut command = command(&["--foreground"], &format!("exec {script}"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("bash");
    let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut background = Background { child, stdout };
    assert_ne!(background.line(), "", "{script} said nothing");
    background
}

impl Background {
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Waits for the end; the exit code.
    pub fn wait(mut self) -> i32 {
        self.child.wait().expect("wait").code().unwrap_or(-1)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Gone already, mostly.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
