//! Runs the shell's one-liners that users write.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Longer than anything takes that works, in seconds.
const LIMIT: &str = "300";

/// How a script ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a script in bash, with `$BUSYBOX` and `$PYTHON` the test images. Fails it with 124 when it hangs.
pub fn sh(script: &str) -> Finished {
    let output = command(script).output().expect("bash");
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

fn command(script: &str) -> Command {
    let images = crate::images::images();
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "--kill-after=10", LIMIT, "bash", "-c", script])
        .env("BUSYBOX", &images.busybox)
        .env("PYTHON", &images.python)
        .stdin(Stdio::null());
    command
}

/// A script that goes on. Ended, however rudely, with the test.
pub struct Background {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

/// Starts a command and waits for its first line.
pub fn background(script: &str) -> Background {
    let mut child = command(&format!("exec {script}")).stdout(Stdio::piped()).spawn().expect("bash");
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
        // Gone already, mostly. What it ran is killed by its own timeout's end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
