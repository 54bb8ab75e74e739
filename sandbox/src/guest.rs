//! The agent's interface, the same for whoever holds the VMM's control socket and for whoever asks that
//! process for streams.

mod containers;
mod devices;
mod files;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_api::agent::{
    self, AdoptRequest, CreateContainerRequest, ExecRequest, PowerOffRequest, PrepareRequest,
    ResizeTerminalRequest, SignalRequest, StartContainerRequest, TakeOverRequest, WaitRequest,
    create_container_response, exec_response,
};
use agent_api::agent_ttrpc::AgentClient;
use agent_api::ports;
use async_trait::async_trait;
use protobuf::MessageField;
use tokio::net::UnixStream;
use tokio::sync::watch;
use ttrpc::context::Context;

use crate::container::{ContainerConfig, CreateError, ExecConfig, Exit, Streams, TerminalSize};
use crate::ended::Ended;
use crate::events::{Events, Told};
use crate::guest_text;
use crate::streams;

/// How long the VM's end may stay untold once the agent's connection broke.
pub(crate) const END_GRACE: Duration = Duration::from_secs(2);

/// Bytes for the guest kernel's generator.
const ENTROPY: usize = 64;

/// A way to reach the guest.
#[async_trait]
pub(crate) trait Dialer: Send + Sync {
    /// Opens a stream to a vsock port of the guest.
    async fn dial(&self, port: u32) -> Result<UnixStream, GuestError>;

    /// Waits until the guest is gone, and says why.
    async fn ended(&self) -> GuestError;
}

/// The agent in a sandbox, and the containers it keeps.
#[derive(Clone)]
pub struct Guest {
    client: AgentClient,
    dialer: Arc<dyn Dialer>,
    /// The event stream, for its one holder; others ask the agent.
    events: Option<Events>,
}

/// A container's own process, or one executed in it.
#[derive(Clone)]
pub struct Process {
    guest: Guest,
    container_id: String,
    exec_id: String,
    pid: u32,
    told: Option<Told>,
}

/// Why the agent could not be asked, or did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error("the sandbox's VM ended: {0}")]
    Ended(Arc<Ended>),
    #[error("the sandbox has ended")]
    Gone,
    #[error("cannot open a stream to port {port} of the guest")]
    Dial { port: u32, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{0}")]
    NotFound(String),
    #[error("the agent refused: {0}")]
    Refused(String),
    #[error("the connection to the agent broke")]
    Connection(#[source] ttrpc::Error),
    #[error("cannot get random bytes for the guest")]
    Entropy(#[source] io::Error),
}

impl Guest {
    /// Connects to the agent.
    pub(crate) async fn connect(dialer: Arc<dyn Dialer>, events: Option<Events>) -> Result<Self, GuestError> {
        let stream = dialer.dial(ports::RPC_PORT).await?;
        let socket = ttrpc::r#async::transport::Socket::new(stream);
        Ok(Self { client: AgentClient::new(ttrpc::r#async::Client::new(socket)), dialer, events })
    }

    /// The way to its vsock ports.
    pub(crate) fn dialer(&self) -> Arc<dyn Dialer> {
        Arc::clone(&self.dialer)
    }

    /// Makes the guest someone: randomness, time and name of its own. `clock_behind` is how far its clock is known to
    /// be behind, in ns.
    pub(crate) async fn adopt(&self, hostname: &str, clock_behind: u64) -> Result<(), GuestError> {
        let request = AdoptRequest {
            entropy: entropy()?,
            wall_clock_ns: wall_clock_ns(),
            hostname: hostname.to_owned(),
            clock_behind_ns: clock_behind,
            ..Default::default()
        };
        self.answer(self.client.adopt(Context::default(), &request)).await?;
        Ok(())
    }

    /// Has the guest do ahead what its clones need not do then.
    pub(crate) async fn prepare(&self) -> Result<(), GuestError> {
        self.answer(self.client.prepare(Context::default(), &PrepareRequest::new())).await?;
        Ok(())
    }

    /// Sets the guest's clock as exactly as calls can: a time told is late by the way of its call, so it is told again
    /// until a call was about as quick as they get.
    pub(crate) async fn set_clock(&self) -> Result<(), GuestError> {
        const TO_KNOW: u32 = 8;
        const AT_MOST: u32 = 100;
        let mut quickest = Duration::MAX;
        for call in 0..AT_MOST {
            let begun = Instant::now();
            self.adopt("", 0).await?;
            let took = begun.elapsed();
            if call >= TO_KNOW && took <= quickest.saturating_mul(5) / 4 {
                break;
            }
            quickest = quickest.min(took);
        }
        Ok(())
    }

    /// Makes a container, ready to be started. Its streams open meanwhile.
    pub async fn create_container(&self, config: ContainerConfig) -> Result<(Process, Streams), CreateError> {
        let (stdio, opening) = streams::open(self.dialer.as_ref(), &config.stdio)?;
        let request = CreateContainerRequest {
            container_id: config.id.clone(),
            spec_json: serde_json::to_vec(&config.spec)?,
            rootfs: MessageField::some(config.rootfs.into()),
            stdio: MessageField::some(stdio),
            user: config.user,
            files: config.files.into_iter().map(Into::into).collect(),
            init: config.init,
            seccomp: config.seccomp.map(Into::into).into(),
            shared_pids: config.shared_pids.map(Into::into).into(),
            ..Default::default()
        };
        let process = self.process(config.id, String::new());
        let creating = async {
            let answer = self.answer(self.client.create_container(Context::default(), &request)).await?;
            match answer.result {
                Some(create_container_response::Result::Created(created)) => Ok(created.pid),
                Some(create_container_response::Result::Failure(failure)) => {
                    Err(CreateError::refused(failure))
                }
                _ => Err(CreateError::NoAnswer),
            }
        };
        let (pid, streams) = tokio::try_join!(creating, opening)?;
        Ok((Process { pid, ..process }, streams))
    }

    /// Takes over the container `was` of the guest that this one is a copy of: under the name, with the files and streams
    /// of `config`, in the host's `hostname`. The rest of `config` is as it was there.
    pub async fn take_over(
        &self,
        was: &str,
        config: ContainerConfig,
        hostname: &str,
    ) -> Result<(Process, Streams), CreateError> {
        let (stdio, opening) = streams::open(self.dialer.as_ref(), &config.stdio)?;
        let request = TakeOverRequest {
            container_id: was.to_owned(),
            new_container_id: config.id.clone(),
            hostname: hostname.to_owned(),
            stdio: MessageField::some(stdio),
            files: config.files.into_iter().map(Into::into).collect(),
            ..Default::default()
        };
        let process = self.process(config.id, String::new());
        let taking = async {
            let answer = self.answer(self.client.take_over(Context::default(), &request)).await?;
            Ok::<_, CreateError>(answer.pid)
        };
        let (pid, streams) = tokio::try_join!(taking, opening)?;
        Ok((Process { pid, ..process }, streams))
    }

    /// Runs a further process in a running container; it runs when this returns.
    pub async fn exec(&self, config: ExecConfig) -> Result<(Process, Streams), CreateError> {
        let (stdio, opening) = streams::open(self.dialer.as_ref(), &config.stdio)?;
        let request = ExecRequest {
            container_id: config.container_id.clone(),
            exec_id: config.exec_id.clone(),
            process_json: serde_json::to_vec(&config.process)?,
            stdio: MessageField::some(stdio),
            user: config.user,
            ..Default::default()
        };
        let process = self.process(config.container_id, config.exec_id);
        let creating = async {
            let answer = self.answer(self.client.exec(Context::default(), &request)).await?;
            match answer.result {
                Some(exec_response::Result::Created(created)) => Ok(created.pid),
                Some(exec_response::Result::Failure(failure)) => Err(CreateError::refused(failure)),
                _ => Err(CreateError::NoAnswer),
            }
        };
        let (pid, streams) = tokio::try_join!(creating, opening)?;
        Ok((Process { pid, ..process }, streams))
    }

    /// A process that exists already: of `container_id`, its own when `exec_id` is empty.
    pub fn existing(&self, container_id: &str, exec_id: &str) -> Process {
        Process {
            guest: self.clone(),
            container_id: container_id.to_owned(),
            exec_id: exec_id.to_owned(),
            pid: 0,
            told: None,
        }
    }

    /// Asks the guest to switch itself off; the end of its VM tells that it did.
    pub(crate) async fn power_off(&self) -> Result<(), GuestError> {
        self.answer(self.client.power_off(Context::default(), &PowerOffRequest::new())).await?;
        Ok(())
    }

    fn process(&self, container_id: String, exec_id: String) -> Process {
        let told = self.events.as_ref().map(|events| events.expect(&container_id, &exec_id));
        Process { guest: self.clone(), container_id, exec_id, pid: 0, told }
    }

    /// Waits for the answer of a call, as long as there is a guest to give it.
    async fn answer<T>(&self, call: impl Future<Output = ttrpc::Result<T>>) -> Result<T, GuestError> {
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            ended = self.dialer.ended() => return Err(ended),
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(ttrpc::Error::RpcStatus(status)) => {
                let message = guest_text::message(&status.message);
                match status.code.enum_value() {
                    Ok(ttrpc::Code::NOT_FOUND) => Err(GuestError::NotFound(message)),
                    _ => Err(GuestError::Refused(message)),
                }
            }
            // A guest that ends breaks its connections first; its end is the better reason.
            Err(broken) => match tokio::time::timeout(END_GRACE, self.dialer.ended()).await {
                Ok(ended) => Err(ended),
                Err(_) => Err(GuestError::Connection(broken)),
            },
        }
    }
}

impl Process {
    /// In the guest; 0 when not known.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Starts a created container.
    pub async fn start(&self) -> Result<(), CreateError> {
        let request = StartContainerRequest { container_id: self.container_id.clone(), ..Default::default() };
        let client = &self.guest.client;
        let answer = self.guest.answer(client.start_container(Context::default(), &request)).await?;
        match answer.failure.into_option() {
            None => Ok(()),
            Some(failure) => Err(CreateError::refused(failure)),
        }
    }

    /// Sends a signal, by its Linux number.
    pub async fn signal(&self, signal: u32) -> Result<(), GuestError> {
        self.send_signal(signal, false).await
    }

    /// Sends a signal to every process of the container.
    pub async fn signal_all(&self, signal: u32) -> Result<(), GuestError> {
        self.send_signal(signal, true).await
    }

    async fn send_signal(&self, signal: u32, all: bool) -> Result<(), GuestError> {
        let request = SignalRequest {
            container_id: self.container_id.clone(),
            exec_id: self.exec_id.clone(),
            signal,
            all,
            ..Default::default()
        };
        self.guest.answer(self.guest.client.signal(Context::default(), &request)).await?;
        Ok(())
    }

    pub async fn resize(&self, size: TerminalSize) -> Result<(), GuestError> {
        let request = ResizeTerminalRequest {
            container_id: self.container_id.clone(),
            exec_id: self.exec_id.clone(),
            size: MessageField::some(size.into()),
            ..Default::default()
        };
        self.guest.answer(self.guest.client.resize_terminal(Context::default(), &request)).await?;
        Ok(())
    }

    /// How often its container ran out of memory so far: a change is news, and the end of the channel is that of the process.
    /// Of a process that this host did not make just now, nothing is told.
    pub fn out_of_memory(&self) -> watch::Receiver<u64> {
        match &self.told {
            Some(told) => told.out_of_memory.clone(),
            None => watch::channel(0).1,
        }
    }

    /// Waits until the process has ended and its output streams are drained: read them meanwhile.
    pub async fn wait(&self) -> Result<Exit, GuestError> {
        match &self.told {
            Some(told) => self.wait_for_event(told.exit.clone()).await,
            None => self.wait_for_answer().await,
        }
    }

    async fn wait_for_event(&self, mut exit: watch::Receiver<Option<Exit>>) -> Result<Exit, GuestError> {
        let told = async {
            match exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit) {
                Some(exit) => exit,
                // The event stream broke: only the VM's end can come now.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            exit = told => Ok(exit),
            ended = self.guest.dialer.ended() => Err(ended),
        }
    }

    async fn wait_for_answer(&self) -> Result<Exit, GuestError> {
        let request = WaitRequest {
            container_id: self.container_id.clone(),
            exec_id: self.exec_id.clone(),
            ..Default::default()
        };
        let answer = self.guest.answer(self.guest.client.wait(Context::default(), &request)).await?;
        Ok(Exit::from_agent(&answer.exit))
    }
}

impl Exit {
    /// A guest may say any number; as an exit code, one beyond 255 says no more than 255.
    pub(crate) fn from_agent(exit: &agent::Exit) -> Self {
        Self { code: u8::try_from(exit.code).unwrap_or(u8::MAX), out_of_memory: exit.out_of_memory }
    }
}

fn entropy() -> Result<Vec<u8>, GuestError> {
    let mut bytes = vec![0; ENTROPY];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| GuestError::Entropy(error.into()))?;
    // Up to 256 bytes come whole (getrandom(2)).
    bytes.truncate(length);
    Ok(bytes)
}

fn wall_clock_ns() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
