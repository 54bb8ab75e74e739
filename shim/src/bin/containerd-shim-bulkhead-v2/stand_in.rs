//! What clients are told is the process of a pod's container: a thread of this process that waits, in the pod's network
//! namespace, for the container to be removed.
//!
//! The VMM is one for the whole pod, and cannot be told of all its containers: whoever is to join one container's
//! namespaces is told so by its process (/proc/PID/ns/pid), and a number that is no thread's might become another process's.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread::Builder;

use rustix::thread::{LinkNameSpaceType, gettid, move_into_link_name_space};
use tokio::sync::oneshot;

/// Of which it touches the first pages: it does next to nothing.
const STACK_SIZE: usize = 64 << 10;

pub(crate) struct StandIn {
    pid: u32,
    /// The thread ends with it.
    _ends: mpsc::Sender<Infallible>,
}

impl StandIn {
    pub(crate) async fn in_network_of(pid: u32) -> io::Result<Self> {
        let (answer, answered) = oneshot::channel();
        let (ends, end) = mpsc::channel::<Infallible>();
        Builder::new().name("container".to_owned()).stack_size(STACK_SIZE).spawn(move || {
            let number = enter_network_of(pid).map(|()| gettid().as_raw_nonzero().get().unsigned_abs());
            let stays = number.is_ok();
            if answer.send(number).is_ok() && stays {
                let _ = end.recv();
            }
        })?;
        let died = |_| io::Error::other("the thread died");
        Ok(Self { pid: answered.await.map_err(died)??, _ends: ends })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

fn enter_network_of(pid: u32) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
}
