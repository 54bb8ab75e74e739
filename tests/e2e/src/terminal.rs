//! A terminal for the program under test, and someone at it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::shell::LIMIT;

pub struct Terminal {
    /// Our side.
    screen: File,
    /// The program's.
    line: OwnedFd,
    child: Option<Child>,
    seen: String,
}

impl Terminal {
    pub fn new(rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("its other side");
        let terminal = Self { screen: File::from(master), line, child: None, seen: String::new() };
        terminal.resize(rows, columns);
        terminal
    }

    /// Runs a program in a session of its own on this terminal.
    pub fn run(&mut self, program: &[&str]) {
        let side = || Stdio::from(self.line.try_clone().expect("a descriptor"));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).args(program).stdin(side()).stdout(side()).stderr(side());
        self.child = Some(command.spawn().expect("setsid"));
    }

    /// Changes the window's size, which the program learns by SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.screen, size).expect("a size");
    }

    /// The line's settings: raw or not, echo or not.
    pub fn settings(&self) -> String {
        let settings = tcgetattr(&self.line).expect("settings");
        format!("{:?} {:?} {:?}", settings.input_modes, settings.output_modes, settings.local_modes)
    }

    pub fn press(&mut self, keys: &str) {
        self.screen.write_all(keys.as_bytes()).expect("a key");
    }

    /// Reads until the screen has shown `text` after what was read before.
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            assert!(self.is_readable_until(deadline), "{text:?} does not come after {:?}", self.seen);
            let length = self.screen.read(&mut buffer).expect("output");
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let end = self.seen.find(text).unwrap_or_default() + text.len();
        self.seen.drain(..end);
    }

    fn is_readable_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a short time");
        poll(&mut [PollFd::new(&self.screen, PollFlags::IN)], Some(&left)).expect("poll") > 0
    }

    /// Waits for the program's end; its exit code.
    pub fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + LIMIT;
        let child = self.child.as_mut().expect("a program");
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                self.child = None;
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "the program does not end");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
