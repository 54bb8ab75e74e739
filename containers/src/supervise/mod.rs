//! The supervisor of one container: the process that keeps it while it runs.
//!
//! It is started with a connection to who wants the container started, which hands over the container's lock and
//! the socket it serves from then on. [`life`] is what happens to the container, run after run; [`run`] is one
//! of them; [`clients`] are the connections, [`streams`] what goes between them, the command and the log; and
//! [`probe`] looks after its health.

mod clients;
mod life;
mod probe;
mod run;
mod streams;

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::stdio::{dup2_stdin, stdin};
use sandbox::local_socket::LocalListener;
use sandbox::{AsyncControl, ControlSocket, Installation, ReceiveError, Timeline};

use crate::config::Config;
use crate::containers::Containers;
use crate::protocol::Request;
use crate::wires::Wires;
use life::{HandedOver, Life};

pub(crate) use run::label;

/// Opens an image as the files that are its disk, one after the other.
pub type OpenImage<'a> = dyn Fn(&Config) -> Result<Vec<File>, Box<dyn Error + Send + Sync>> + 'a;

/// What a supervisor works with.
pub struct Host<'a> {
    pub containers: &'a Containers,
    pub installation: &'a Installation,
    /// Where disks without a name have their blocks.
    pub scratch: PathBuf,
    pub open_image: &'a OpenImage<'a>,
    pub timeline: &'a Timeline,
}

#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    #[error("cannot become a process of its own")]
    Detach(#[source] io::Error),
    #[error("nobody said what to start")]
    Request(#[from] ReceiveError),
    #[error("the first request is not a start, or lacks its descriptors")]
    NoStart,
    #[error("cannot take the container over")]
    TakeOver(#[source] io::Error),
}

/// Keeps the container that this process was started for, until it has ended for good. The process's standard
/// input is the connection to who started it.
pub async fn supervise(host: &Host<'_>) -> Result<(), SuperviseError> {
    let connection = detach().map_err(SuperviseError::Detach)?;
    let (request, mut descriptors) = connection.receive().await?;
    let Request::Start { id, wiring, timed } = request else { return Err(SuperviseError::NoStart) };
    if descriptors.len() < 2 {
        return Err(SuperviseError::NoStart);
    }
    let wires = descriptors.split_off(2);
    let (Some(listener), Some(lock)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(SuperviseError::NoStart);
    };
    let taken_over = || {
        let wired = wiring.map(|wiring| Ok::<_, io::Error>((wiring, Wires::received(&wiring, wires)?)));
        let handed_over = HandedOver {
            container: host.containers.handed_over(&id)?,
            lock,
            listener: LocalListener::from_bound(listener)?,
            connection,
            wired: wired.transpose()?,
            timed,
        };
        Life::begin(host, handed_over)
    };
    taken_over().map_err(SuperviseError::TakeOver)?.live().await;
    Ok(())
}

/// Leaves the session and the streams of who started this process. Gives the connection to it.
fn detach() -> io::Result<AsyncControl> {
    // Fails only for the leader of a process group, which a program started by another is not.
    let _ = rustix::process::setsid();
    let connection: OwnedFd = rustix::io::fcntl_dupfd_cloexec(stdin(), 3)?;
    dup2_stdin(File::open("/dev/null")?)?;
    AsyncControl::new(ControlSocket::from(connection))
}
