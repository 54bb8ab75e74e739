//! A pod's first container, which CRI calls its sandbox. Elsewhere a process that sleeps keeps a pod's namespaces by it;
//! here a VM does, so that nothing runs for it in the guest.

use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::runtime::{LinuxResources, Process as ProcessSpec};
use sandbox::{Exit, GuestStats, Stdio, Streams, TerminalSize};
use tokio::sync::watch;

use crate::backend::{ContainerBackend, PodBackend, ProcessBackend};
use crate::failure::Failure;

// signal(7)
const SIGINT: u32 = 2;
const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;

#[derive(Clone)]
pub(crate) struct Keeper {
    pod: Arc<dyn PodBackend>,
    ended_with: Arc<watch::Sender<Option<u8>>>,
}

impl Keeper {
    pub(crate) fn of(pod: Arc<dyn PodBackend>) -> Self {
        Self { pod, ended_with: Arc::new(watch::Sender::new(None)) }
    }
}

#[async_trait]
impl ProcessBackend for Keeper {
    async fn wait(&self) -> Option<Exit> {
        let mut ended_with = self.ended_with.subscribe();
        tokio::select! {
            biased;
            code = ended_with.wait_for(Option::is_some) => {
                code.ok().and_then(|code| *code).map(|code| Exit { code, out_of_memory: false })
            }
            () = self.pod.ended() => None,
        }
    }

    /// As the process would take it whose place this is: asked to end, it does, with success; others it has no mind for.
    async fn signal(&self, signal: u32) -> Result<(), Failure> {
        let code = match signal {
            SIGKILL => 137,
            SIGTERM | SIGINT => 0,
            _ => return Ok(()),
        };
        self.ended_with.send_if_modified(|ended_with| {
            let first = ended_with.is_none();
            ended_with.get_or_insert(code);
            first
        });
        Ok(())
    }

    async fn signal_all(&self, signal: u32) -> Result<(), Failure> {
        self.signal(signal).await
    }

    async fn resize(&self, _: TerminalSize) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl ContainerBackend for Keeper {
    fn pid(&self) -> u32 {
        self.pod.pid()
    }

    fn process(&self) -> Arc<dyn ProcessBackend> {
        Arc::new(self.clone())
    }

    async fn start(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn exec(
        &self,
        _: &str,
        _: ProcessSpec,
        _: Stdio,
    ) -> Result<(Arc<dyn ProcessBackend>, Streams), Failure> {
        Err(Failure::precondition("a pod's sandbox container has no files to execute"))
    }

    async fn pause(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn resume(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn stats(&self) -> Result<GuestStats, Failure> {
        Ok(GuestStats::default())
    }

    async fn update(&self, _: LinuxResources) -> Result<(), Failure> {
        Ok(())
    }

    async fn give_back_disks(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn remove(&self) -> Result<(), Failure> {
        Ok(())
    }
}
