//! A tap for tests: a pair of sockets that keep packets apart, and a note of what the device asked of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::frame::MOST;
use super::tap::Carrier;

/// The device's end.
pub(super) struct MockTap {
    socket: OwnedFd,
    asked: Arc<Asked>,
}

/// The network's end.
pub(super) struct Network {
    socket: OwnedFd,
    pub(super) asked: Arc<Asked>,
}

#[derive(Default)]
pub(super) struct Asked {
    pub(super) offloads: Mutex<Vec<u64>>,
    pub(super) attached: Mutex<Vec<bool>>,
}

pub(super) fn mock_tap() -> (Box<dyn Carrier>, Network) {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None)
            .unwrap();
    let asked = Arc::<Asked>::default();
    let tap = MockTap { socket: ours, asked: Arc::clone(&asked) };
    (Box::new(tap), Network { socket: theirs, asked })
}

impl Carrier for MockTap {
    fn set_offload(&self, features: u64) -> io::Result<()> {
        self.asked.offloads.lock().unwrap().push(features);
        Ok(())
    }

    fn set_attached(&self, attached: bool) -> io::Result<()> {
        self.asked.attached.lock().unwrap().push(attached);
        Ok(())
    }
}

impl AsFd for MockTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Network {
    /// A frame with its header, for the guest.
    pub(super) fn send(&self, frame: &[u8]) {
        self.wait(PollFlags::OUT);
        assert_eq!(rustix::net::send(&self.socket, frame, SendFlags::empty()).unwrap(), frame.len());
    }

    /// The next frame of the guest, with its header.
    pub(super) fn receive(&self) -> Vec<u8> {
        self.wait(PollFlags::IN);
        let mut frame = vec![0; MOST + 1];
        let (length, _) = rustix::net::recv(&self.socket, &mut frame, RecvFlags::empty()).unwrap();
        frame.truncate(length);
        frame
    }

    fn wait(&self, flags: PollFlags) {
        let patience = rustix::time::Timespec { tv_sec: 20, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.socket, flags)], Some(&patience)).unwrap();
        assert_eq!(ready, 1, "no frame");
    }
}
