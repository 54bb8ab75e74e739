//! From a VMM that runs to an agent that is this sandbox's.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use agent_api::ports;
use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use vmm_api::{Reply, Request};

use super::error::{LaunchError, LaunchPhase, agent_failed, failed};
use super::source::Start;
use crate::events::{EventStream, Events};
use crate::guest::{Dialer, END_GRACE, Guest, GuestError};
use crate::timeline::Timeline;
use crate::vmm::{self, Incoming, VmmError, VmmHandle};

/// How long a guest may take to boot, or its agent to adopt. Slow machines need a tenth of it.
pub(super) const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long a guest that goes on from a template may take to be heard of, before it is given up for one that boots.
const RESUME_LIMIT: Duration = Duration::from_secs(60);

/// A guest whose agent is there.
pub(super) struct Begun {
    events: EventStream,
    /// As the VMM says, in ns.
    clock_behind: u64,
}

/// Has the VMM start the VM, or let a saved one go on, and waits until the agent in it opens its event stream:
/// the first of those that come in.
pub(super) async fn boot(
    vmm: &VmmHandle,
    start: Start,
    mut incoming: mpsc::Receiver<Incoming>,
    timeline: &Timeline,
) -> Result<(Begun, mpsc::Receiver<Incoming>), LaunchError> {
    let limit = if matches!(start.request, Request::Resume(_)) { RESUME_LIMIT } else { BOOT_LIMIT };
    let launching = vmm.call(start.request, start.descriptors);
    // Asked for at once, so that it is in force before the guest can connect.
    let ((launched, _), ()) = tokio::try_join!(launching, vmm.listen(ports::EVENT_PORT))
        .map_err(|error| failed(LaunchPhase::Vm, error))?;
    let Reply::Launched { stamps, clock_behind } = launched else {
        return Err(failed(LaunchPhase::Vm, VmmError::WrongReply));
    };
    stamps.into_iter().for_each(|stamp| timeline.add(stamp));
    timeline.mark("VM running");

    let connected = async {
        match incoming.recv().await {
            Some(Incoming { port: ports::EVENT_PORT, stream }) => {
                vmm::stream(stream).map_err(|error| failed(LaunchPhase::Boot, VmmError::Stream(error)))
            }
            Some(_) => Err(failed(LaunchPhase::Boot, VmmError::WrongReply)),
            None => Err(failed(LaunchPhase::Boot, VmmError::Ended(vmm.ended().await))),
        }
    };
    let stream = within_limit(vmm, LaunchPhase::Boot, limit, connected).await?;
    timeline.mark("agent connected");
    Ok((Begun { events: EventStream::new(stream), clock_behind }, incoming))
}

/// Connects to the agent, and makes its guest this sandbox's.
pub(super) async fn adopt(
    vmm: &VmmHandle,
    begun: Begun,
    hostname: &str,
    timeline: &Timeline,
) -> Result<Guest, LaunchError> {
    let Begun { mut events, clock_behind } = begun;
    let exits = Events::default();
    let dialer = Arc::new(VmmDialer { vmm: vmm.clone() });
    let adopting = async {
        let ready = async {
            events.ready().await.map_err(|source| LaunchError::Events { phase: LaunchPhase::Adopt, source })
        };
        // The agent serves before it opens its event stream: no need to wait for the stream's first word.
        let connect = async { Guest::connect(dialer, Some(exits.clone())).await.map_err(agent_failed) };
        let ((), guest) = tokio::try_join!(ready, connect)?;
        timeline.mark("agent ready");
        guest.adopt(hostname, clock_behind).await.map_err(agent_failed)?;
        Ok(guest)
    };
    let guest = within_limit(vmm, LaunchPhase::Adopt, BOOT_LIMIT, adopting).await?;
    timeline.mark("identity adopted");
    // Ends with the stream, and that with the VM.
    tokio::spawn(exits.follow(events));
    Ok(guest)
}

/// The step's result; an error when it fails, the VM ends, or nothing happens for too long.
async fn within_limit<T>(
    vmm: &VmmHandle,
    phase: LaunchPhase,
    limit: Duration,
    step: impl Future<Output = Result<T, LaunchError>>,
) -> Result<T, LaunchError> {
    let error = tokio::select! {
        biased;
        done = step => match done {
            Ok(result) => return Ok(result),
            Err(error) => error,
        },
        ended = vmm.ended() => return Err(LaunchError::Ended { phase, ended }),
        () = tokio::time::sleep(limit) => {
            let console = vmm.console().await.unwrap_or_default();
            return Err(LaunchError::TooLong { phase, limit, console });
        }
    };
    // A guest that ends breaks its connections first; its end is the better reason.
    match tokio::time::timeout(END_GRACE, vmm.ended()).await {
        Ok(ended) => Err(LaunchError::Ended { phase, ended }),
        Err(_) => Err(error),
    }
}

/// The supervisor's own way to the guest.
struct VmmDialer {
    vmm: VmmHandle,
}

#[async_trait]
impl Dialer for VmmDialer {
    async fn dial(&self, port: u32) -> Result<UnixStream, GuestError> {
        match self.vmm.connect(port).await {
            Ok(stream) => {
                vmm::stream(stream).map_err(|error| GuestError::Dial { port, source: error.into() })
            }
            Err(VmmError::Ended(ended)) => Err(GuestError::Ended(ended)),
            Err(error) => Err(GuestError::Dial { port, source: error.into() }),
        }
    }

    async fn ended(&self) -> GuestError {
        GuestError::Ended(self.vmm.ended().await)
    }
}
