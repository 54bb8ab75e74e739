//! The caller's ends of a process's streams: what this process inherited, or a terminal whose other end the caller gets.

use std::fs::OpenOptions;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, fstat, makedev};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::protocol::Wanted;
use crate::terminal::DEFAULT_SIZE;

/// What runc sends beside a terminal: the name it has in a container.
const NAME: &[u8] = b"/dev/ptmx";

/// The first descriptor that is no standard stream.
const FIRST: i32 = 3;

/// The device number of /dev/null (Linux Documentation/admin-guide/devices.txt).
const NULL: (u32, u32) = (1, 3);

#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// The terminal itself, to be asked for its size.
    pub(super) terminal: Option<OwnedFd>,
}

impl Ends {
    /// Takes the standard streams out of this process's hands: what reads them is to see their end when the container's
    /// process has closed them.
    pub(super) fn inherited() -> io::Result<Self> {
        let ends =
            Self { stdin: take(stdin()), stdout: take(stdout()), stderr: take(stderr()), terminal: None };
        release()?;
        Ok(ends)
    }

    /// Makes a terminal, and sends its other end over the console socket. It becomes this process's own, so that its
    /// changes of size and its hang-up arrive as signals.
    pub(super) fn terminal(console: OwnedFd, size: Option<(u16, u16)>) -> io::Result<Self> {
        release()?;
        let (master, slave) = pair(size)?;
        send(&console, &master)?;
        ioctl_tiocsctty(&slave)?;
        let ends = [slave.try_clone()?, slave.try_clone()?];
        let [stdin, stdout] = ends.map(Some);
        Ok(Self { stdin, stdout, stderr: None, terminal: Some(slave) })
    }

    /// What to ask the guest for.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            stdin: self.stdin.is_some(),
            stdout: self.stdout.is_some(),
            stderr: self.stderr.is_some(),
            terminal: self.terminal.as_ref().map(size),
        }
    }
}

/// The size of a terminal, rows first.
pub(super) fn size(terminal: &OwnedFd) -> (u32, u32) {
    let known = tcgetwinsize(terminal).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(DEFAULT_SIZE, |size| (size.ws_row.into(), size.ws_col.into()))
}

/// Nothing for one that is closed, or /dev/null: the guest has its own.
fn take(stream: impl AsFd) -> Option<OwnedFd> {
    let stat = fstat(&stream).ok()?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if device && stat.st_rdev == makedev(NULL.0, NULL.1) {
        return None;
    }
    fcntl_dupfd_cloexec(&stream, FIRST).ok()
}

/// Who waits for the end of what we inherited waits for nothing of ours.
fn release() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// A terminal's both ends. What the guest's terminal does with lines and keys, this one leaves to it.
fn pair(size: Option<(u16, u16)>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut modes = tcgetattr(&slave)?;
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    if let Some((rows, columns)) = size {
        tcsetwinsize(&slave, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    }
    Ok((master, slave))
}

fn send(console: &OwnedFd, master: &OwnedFd) -> io::Result<()> {
    let descriptors = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::io::retry_on_intr(|| {
        sendmsg(console, &[IoSlice::new(NAME)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSliceMut, Read, Write};
    use std::os::unix::net::UnixStream;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    #[test]
    fn the_caller_gets_the_terminal_over_the_console_socket_as_from_runc() {
        let (caller, ours) = UnixStream::pair().unwrap();
        let (master, mut slave) = pair(Some((40, 100))).map(|(m, s)| (m, File::from(s))).unwrap();
        send(&OwnedFd::from(ours), &master).unwrap();
        let mut name = [0; 64];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got =
            recvmsg(&caller, &mut [IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        assert_eq!(&name[..got.unwrap().bytes], b"/dev/ptmx");
        let received = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let mut received = File::from(received.unwrap());
        // Raw: nothing is echoed, and a line feed stays one.
        received.write_all(b"key\x03").unwrap();
        let mut typed = [0; 4];
        slave.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"key\x03");
        slave.write_all(b"a\nb").unwrap();
        let mut shown = [0; 3];
        received.read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"a\nb");
        assert_eq!(size(&slave.into()), (40, 100));
    }

    #[test]
    fn a_stream_that_is_nowhere_is_none() {
        assert!(take(File::open("/dev/null").unwrap()).is_none());
        assert!(take(File::open("/dev/zero").unwrap()).is_some());
        assert!(take(UnixStream::pair().unwrap().0).is_some());
    }
}
