//! A terminal for the program under test, and someone at it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

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
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let length = self.screen.read(&mut buffer).expect("output");
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let end = self.seen.find(text).unwrap_or_default() + text.len();
        self.seen.drain(..end);
    }

    /// Waits for the program's end; its exit code.
    pub fn wait(&mut self) -> i32 {
        self.child.take().expect("a program").wait().expect("wait").code().unwrap_or(-1)
    }
}
