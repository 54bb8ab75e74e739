//! A sandbox this process supervises.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use crate::broker::Broker;
use crate::container::Rootfs;
use crate::ended::Ended;
use crate::guest::{Guest, GuestError};
use crate::network::Network;
use crate::processors::Processors;
use crate::record::{Claim, Record, RecordError, State};
use crate::resize::Extent;
use crate::shares::Shares;
use crate::snapshot::Snapshotter;
use crate::templates::Learning;
use crate::timeline::Timeline;
use crate::vmm::Vmm;

/// A running sandbox: its VMM lives, and its agent has adopted an identity. Dropping it kills the VM and
/// removes the record; [`stop`](Self::stop) does so and waits.
pub struct Sandbox {
    // In the order they have to go: nobody is let in any more, the VM ends, the record is removed.
    pub(crate) broker: Broker,
    pub(crate) vmm: Vmm,
    pub(crate) shares: Mutex<Option<Shares>>,
    pub(crate) claim: Claim,
    pub(crate) guest: Guest,
    pub(crate) rootfs: Rootfs,
    pub(crate) scratch: Option<Arc<OwnedFd>>,
    pub(crate) disks_added: AtomicU64,
    pub(crate) extent: Mutex<Extent>,
    pub(crate) processors: Mutex<Processors>,
    pub(crate) network: Mutex<Network>,
    pub(crate) learning: std::sync::Mutex<Option<Learning>>,
    pub(crate) timeline: Timeline,
}

/// What a sandbox leaves when its VM has ended: a process that has the VM's memory and disks to give back, which takes
/// its time, and a record. Dropped, the process is killed, and the record removed.
pub struct Remains {
    // In the order they have to go.
    vmm: Vmm,
    shares: Option<Shares>,
    claim: Claim,
}

impl Sandbox {
    /// The agent, which makes containers and runs processes in them.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The disks this sandbox was launched with, as a container's root file system.
    pub fn rootfs(&self) -> &Rootfs {
        &self.rootfs
    }

    /// The process that holds the VM, and with it the sandbox's network namespace.
    pub fn vmm_pid(&self) -> u32 {
        self.vmm.pid()
    }

    /// What takes snapshots of it.
    pub fn snapshotter(&self) -> Snapshotter {
        Snapshotter {
            guest: self.guest.clone(),
            vmm: self.vmm.handle().clone(),
            cgroup: self.record().cgroup.clone(),
            scratch: self.scratch.clone(),
        }
    }

    pub fn record(&self) -> &Record {
        self.claim.record()
    }

    /// Notes which pages this start has written so far, for the next ones from the same template, where nobody knows yet.
    /// To be called while nothing of a tenant's has run: what one does is to have no effect on others.
    pub async fn learn_working_set(&self) {
        let learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(learning) = learning else { return };
        if let Ok(pages) = self.vmm.handle().written().await {
            // Without it the next start learns.
            let _ = learning.note(&pages);
        }
    }

    /// Says in the record that the sandbox's container runs: others may enter from now on.
    pub fn set_running(&mut self) -> Result<(), RecordError> {
        self.claim.update(|record| record.state = State::Running)
    }

    /// Waits for the VM's end, also when this value goes meanwhile.
    pub fn ended(&self) -> impl Future<Output = Arc<Ended>> + Send + use<> {
        let vmm = self.vmm.handle().clone();
        async move { vmm.ended().await }
    }

    /// Ends the VM at once, whatever the guest is doing: nothing of it runs any more, and nobody finds it. What the guest
    /// has not written to its disks is lost.
    pub async fn halt(self) -> (Arc<Ended>, Remains) {
        let Self { broker, vmm, shares, mut claim, timeline, .. } = self;
        drop(broker);
        let ended = vmm.halt().await;
        // Where that cannot be written, a start of the same sandbox is refused instead of waiting.
        let _ = claim.update(|record| record.state = State::Ending);
        timeline.mark("VM stopped");
        (ended, Remains { vmm, shares: shares.into_inner(), claim })
    }

    /// Ends the VM at once, and leaves nothing behind.
    pub async fn stop(self) -> Arc<Ended> {
        let (ended, remains) = self.halt().await;
        remains.clear_away().await;
        ended
    }

    /// Has the guest switch itself off, and waits until it has; leaves nothing behind.
    pub async fn power_off(self) -> Result<Arc<Ended>, GuestError> {
        match self.guest.power_off().await {
            // Going off, it may take the answer with it.
            Ok(()) | Err(GuestError::Ended(_)) => {}
            Err(error) => return Err(error),
        }
        self.ended().await;
        Ok(self.stop().await)
    }
}

impl Remains {
    /// Waits until all of it is gone.
    pub async fn clear_away(self) {
        let Self { vmm, shares, claim } = self;
        vmm.gone().await;
        if let Some(shares) = shares {
            shares.gone().await;
        }
        drop(claim);
    }
}
