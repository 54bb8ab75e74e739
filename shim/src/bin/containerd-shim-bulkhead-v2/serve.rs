//! The shim that stays: it serves a pod's tasks until nobody needs it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::signal::unix::{SignalKind, signal};
use ttrpc::r#async::Server;
use ttrpc::r#async::transport::Listener;

use crate::arguments::Arguments;
use crate::events::{Destination, Events};
use crate::pod::Pods;
use crate::socket::Listening;
use crate::tasks::Tasks;
use crate::{TTRPC_ADDRESS_VARIABLE, log, sandbox_service, task_service};

/// How long containerd may take for the last events.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("standard input is no socket to serve on")]
    Socket(#[source] io::Error),
    #[error("cannot be set up to serve")]
    SetUp(#[source] io::Error),
    #[error("cannot serve")]
    Serve(#[source] ttrpc::Error),
}

/// On the socket that is its standard input.
pub(crate) fn serve(arguments: Arguments) -> Result<(), ServeError> {
    log::set_debug(arguments.debug);
    let socket = take_socket().map_err(ServeError::Socket)?;
    // Started in containerd's session; a signal to that is none to this.
    let _ = rustix::process::setsid();
    give_way();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::SetUp)?;
    runtime.block_on(run(arguments, socket))
}

async fn run(arguments: Arguments, socket: UnixListener) -> Result<(), ServeError> {
    let path = socket.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
    let events = Events::new(arguments.namespace.clone());
    let ttrpc_address = std::env::var(TTRPC_ADDRESS_VARIABLE).ok();
    let destination = Destination::of(ttrpc_address.as_deref(), arguments.publish_binary, arguments.address);
    tokio::spawn(events.clone().forward(destination));
    let pods = Pods::of(arguments.namespace.clone());
    let tasks =
        Arc::new(Tasks::new(arguments.namespace, Box::new(pods), events.clone(), Listening::at(path)));
    let listener = Listener::try_from(socket).map_err(ServeError::Socket)?;
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(task_service::services(&tasks))
        .register_service(sandbox_service::services(&tasks));
    server.start().await.map_err(ServeError::Serve)?;
    until_done(&tasks).await.map_err(ServeError::SetUp)?;
    let _ = server.shutdown().await;
    events.sent(PATIENCE).await;
    Ok(())
}

/// Until it is shut down, or told to end while there is nothing to do: what runs is not ended by a signal to its shim.
async fn until_done(tasks: &Tasks) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            () = tasks.done() => return Ok(()),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if tasks.is_idle() {
            tasks.shut_down();
            return Ok(());
        }
        log::error(format_args!("told to end, but there are tasks"));
    }
}

/// Leaves /dev/null in its place.
fn take_socket() -> io::Result<UnixListener> {
    let socket = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    // What is no socket says so here.
    socket.local_addr()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(null)?;
    Ok(socket)
}

/// Where memory is short, containerd is to go after its shims.
fn give_way() {
    let path = PathBuf::from("/proc/self/oom_score_adj");
    let score = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(score) = score {
        // As good without it.
        let _ = std::fs::write(path, score.saturating_add(1).min(1000).to_string());
    }
}
