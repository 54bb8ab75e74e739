//! The supervisor that has a virtual machine.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime::Process;
use sandbox::local_socket::LocalListener;
use sandbox::{Timeline, local_socket};
use shim::{Bundle, Host, Pod, PodId};
use tokio::sync::oneshot;

use super::carry::carry;
use super::ends::Ends;
use super::follow::follow;
use super::serve::{self, Machine};
use super::{Job, KILLED, SuperviseError};
use crate::protocol::{News, SOCKET};
use crate::state::{Root, Status};

/// Launches the machine, and keeps it until its first container has ended. Gives that one's exit code.
pub(super) async fn supervise(job: &mut Job, bundle: &Path) -> Result<u8, SuperviseError> {
    let bundle = Bundle::load(bundle)?;
    let host = Host::find()?;
    // First of all, what crashes left is cleaned up. What cannot be is in nobody else's way.
    if let Err(error) = host.state.sweep() {
        job.log.warning(&shim::describe(&error));
    }
    let (id, timeline) = (pod_id(&job.root, &job.id), Timeline::default());
    let pod = job.parent.unless_gone(Pod::launch(&host, &id, &bundle, &timeline)).await??;
    let machine = Arc::new(Machine::new(pod, job.root.clone(), job.log.clone(), job.id.clone()));
    let done = keep(job, &bundle, &machine).await;
    if let Some(machine) = Arc::into_inner(machine) {
        machine.stop().await;
    }
    if done.is_ok() {
        // Where it cannot be written, this process's end says the same.
        let any = [Status::Created, Status::Running, Status::Paused];
        let _ = job.root.advance(&job.id, &any, Status::Stopped);
    }
    done
}

/// What a pod's sandbox is called: containers of two roots may have the same id.
pub(crate) fn pod_id(root: &Root, id: &str) -> PodId {
    PodId { namespace: root.path().display().to_string(), id: id.to_owned() }
}

async fn keep(job: &mut Job, bundle: &Bundle, machine: &Arc<Machine>) -> Result<u8, SuperviseError> {
    job.enter_network_of(machine.pid()).await?;
    job.parent.launched().await?;
    let ends = ends(bundle.spec.process().as_ref(), job)?;
    let wanted = ends.wanted();
    let (process, streams) = job.parent.unless_gone(machine.create(&job.id, bundle, wanted)).await??;
    let directory = File::open(job.root.directory(&job.id)).map_err(SuperviseError::Listen)?;
    let socket = local_socket::bind(&directory, SOCKET).and_then(LocalListener::from_bound);
    let socket = socket.map_err(SuperviseError::Listen)?;
    let (open, closing) = oneshot::channel();
    let serving = tokio::spawn(serve::accept(socket, machine.clone(), closing));
    let terminal = ends.terminal.as_ref().map(|terminal| terminal.try_clone()).transpose();
    let terminal = terminal.map_err(SuperviseError::Streams)?;
    let carrying = carry(ends, streams).map_err(SuperviseError::Streams)?;
    job.parent.tell(News::Ready).await;
    let code = tokio::select! {
        biased;
        ended = follow(&process, terminal.as_ref(), &mut job.signals) => match ended {
            Ok(code) => {
                carrying.written().await;
                code
            }
            // The VMM holds the streams open until the machine is stopped: there is no end of them to wait for.
            Err(error) => job.lost(&error),
        },
        () = machine.destroyed() => KILLED,
    };
    // Nobody is let in any more, and whoever is there sees the connection close.
    drop(open);
    let _ = serving.await;
    Ok(code)
}

/// The caller's ends of a process's streams.
pub(super) fn ends(process: Option<&Process>, job: &mut Job) -> Result<Ends, SuperviseError> {
    match job.console.take() {
        None => Ends::inherited().map_err(SuperviseError::Streams),
        Some(console) => {
            let size = process.and_then(|process| process.console_size());
            let number = |size: u64| u16::try_from(size).unwrap_or(u16::MAX);
            let size = size.map(|size| (number(size.height()), number(size.width())));
            Ends::terminal(console, size).map_err(SuperviseError::Console)
        }
    }
}
