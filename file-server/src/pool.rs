//! The threads that carry out requests. There is always one more that waits for the next request, up to a limit, so that
//! one that takes long holds up nobody; and no more than have been needed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuse_backend_rs::transport::{FuseBuf, FuseDevWriter, Reader, Writer};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vmm_api::MAX_FUSE_MESSAGE;

use crate::gate::{self, Verdict};
use crate::shares::Shares;
use crate::{answer, init, root};

/// The most threads; a guest whose requests keep so many from their end waits.
const MOST: usize = 8;

pub(crate) struct Pool {
    socket: OwnedFd,
    shares: Arc<Shares>,
    threads: AtomicUsize,
    waiting: AtomicUsize,
}

impl Pool {
    /// Serves requests from here on; at the end of the socket the process exits.
    pub(crate) fn start(socket: OwnedFd, shares: Arc<Shares>) -> io::Result<()> {
        let (threads, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { socket, shares, threads, waiting }).grow()
    }

    fn grow(self: &Arc<Self>) -> io::Result<()> {
        let pool = Arc::clone(self);
        self.threads.fetch_add(1, Ordering::SeqCst);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let started = std::thread::Builder::new().name("fuse".to_owned()).spawn(move || pool.work());
        if let Err(error) = started {
            self.threads.fetch_sub(1, Ordering::SeqCst);
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(error);
        }
        Ok(())
    }

    fn work(self: Arc<Self>) {
        let mut request = vec![0; MAX_FUSE_MESSAGE];
        let mut room = vec![0; MAX_FUSE_MESSAGE];
        while let Some(length) = self.receive(&mut request) {
            let was_last = self.waiting.fetch_sub(1, Ordering::SeqCst) == 1;
            if was_last && self.threads.load(Ordering::SeqCst) < MOST {
                // Without another thread the next request waits for this one.
                let _ = self.grow();
            }
            if let Some(request) = request.get_mut(..length) {
                self.carry_out(request, &mut room);
            }
            self.waiting.fetch_add(1, Ordering::SeqCst);
        }
        // The VMM is gone, and with it whoever could ask.
        std::process::exit(0);
    }

    /// The length of the next request; `None` at the end of the socket.
    fn receive(&self, request: &mut [u8]) -> Option<usize> {
        loop {
            match recv(&self.socket, &mut *request, RecvFlags::TRUNC) {
                Ok((_, 0)) => return None,
                Ok((_, length)) if length <= request.len() => return Some(length),
                // The device sends nothing so long.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    fn carry_out(&self, request: &mut [u8], room: &mut [u8]) {
        match gate::look_at(request, &self.shares) {
            Verdict::Pass { unique, groups } => {
                let _groups = groups.map(gate::Groups::take);
                if self.pass(request, room).is_err() {
                    // It may have been answered before it failed; the device passes over a second answer.
                    self.send(&answer::failure(unique, libc::EIO));
                }
            }
            Verdict::Init { unique } => self.send(&init::answer(unique, request, self.shares.tree())),
            Verdict::LookUp { unique } => self.send(&root::look_up(unique, request, self.shares.tree())),
            Verdict::List { unique } => self.send(&root::list(unique, request, self.shares.tree())),
            Verdict::Seek { unique, inode, handle, offset, whence } => {
                self.send(&match self.shares.seek(inode, handle, offset, whence) {
                    Ok(offset) => answer::success(unique, &offset.to_ne_bytes()),
                    Err(error) => answer::failure(unique, error.raw_os_error().unwrap_or(libc::EIO)),
                });
            }
            Verdict::Refuse { unique, error } => self.send(&answer::failure(unique, error)),
            Verdict::Nonsense => {}
        }
    }

    fn pass(&self, request: &mut [u8], room: &mut [u8]) -> fuse_backend_rs::Result<usize> {
        let reader = Reader::<()>::from_fuse_buffer(FuseBuf::new(request))
            .map_err(fuse_backend_rs::Error::FailedToSplitWriter)?;
        let writer = FuseDevWriter::new(self.socket.as_raw_fd(), room)
            .map_err(fuse_backend_rs::Error::FailedToSplitWriter)?;
        self.shares.server().handle_message(reader, Writer::FuseDev(writer), None, None)
    }

    fn send(&self, answer: &[u8]) {
        // A device that is gone shows when the next request is received.
        let _ = send(&self.socket, answer, SendFlags::NOSIGNAL);
    }
}
