//! The fake agent: serves the contract, and "runs" processes that copy their input to their output.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use agent_api::agent::{
    self, AdoptRequest, AdoptResponse, AttachDisksRequest, AttachDisksResponse, Cause,
    CreateContainerRequest, CreateContainerResponse, Created, DetachDiskRequest, DetachDiskResponse,
    ExecRequest, ExecResponse, Exit, Failure, MountSharesRequest, MountSharesResponse, OutOfMemory, Phase,
    SetNetworkRequest, SetNetworkResponse, SignalRequest, SignalResponse, StartContainerRequest,
    StartContainerResponse, Stdio, UpdateRequest, UpdateResponse, UseProcessorsRequest,
    UseProcessorsResponse, WaitRequest, WaitResponse, create_container_response,
};
use agent_api::agent_ttrpc::{Agent, create_agent};
use agent_api::{event_frame, stream_header};
use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;

use super::{CAT, CRASHER, EATER, MISSING};

/// Keeps the service's socket and its runtime.
pub(crate) struct FakeAgent {
    directory: tempfile::TempDir,
    guest: Arc<Guest>,
    devices: Arc<Mutex<Devices>>,
}

/// What the VMM has for the guest.
#[derive(Default)]
pub(crate) struct Devices {
    pub(crate) disks: BTreeSet<String>,
    pub(crate) nets: BTreeSet<String>,
    pub(crate) has_shares: bool,
    pub(crate) vcpus: u8,
}

#[derive(Default)]
struct Guest {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    adopted: bool,
    events: Option<UnixStream>,
    streams: HashMap<u64, UnixStream>,
    created: HashMap<String, (String, Stdio)>,
    /// Standard inputs of processes that run.
    inputs: HashMap<(String, String), UnixStream>,
    exited: HashMap<(String, String), u32>,
}

impl FakeAgent {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let guest = Arc::new(Guest::default());
        let address = format!("unix://{}/rpc", directory.path().display());
        let devices = Arc::<Mutex<Devices>>::default();
        let service = Service(guest.clone(), devices.clone());
        let (bound, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut server = ttrpc::r#async::Server::new()
                    .bind(&address)
                    .unwrap()
                    .register_service(create_agent(Arc::new(service)));
                server.start().await.unwrap();
                bound.send(()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        wait.recv().unwrap();
        Self { directory, guest, devices }
    }

    pub(crate) fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap()
    }

    /// A connection to the service.
    pub(crate) fn rpc(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("rpc")).unwrap()
    }

    /// The guest's end of a process's stream.
    pub(crate) fn stream(&self, mut stream: UnixStream) {
        let guest = self.guest.clone();
        std::thread::spawn(move || {
            let mut header = [0; stream_header::LEN];
            stream.read_exact(&mut header).unwrap();
            guest.state.lock().unwrap().streams.insert(stream_header::decode(header), stream);
            guest.changed.notify_all();
        });
    }

    pub(crate) fn tell_events_to(&self, stream: UnixStream) {
        self.guest.state.lock().unwrap().events = Some(stream);
        let mut ready = agent::Event::new();
        ready.set_ready(agent::Ready::new());
        self.guest.tell(&ready);
    }
}

impl Guest {
    fn tell(&self, event: &agent::Event) {
        let frame = event_frame::encode(event).unwrap();
        self.state.lock().unwrap().events.as_mut().unwrap().write_all(&frame).unwrap();
    }

    fn take_stream(&self, id: u64) -> Option<UnixStream> {
        let state = self.state.lock().unwrap();
        let mut state =
            self.changed.wait_while(state, |state| id != 0 && !state.streams.contains_key(&id)).unwrap();
        state.streams.remove(&id)
    }

    fn run(self: Arc<Self>, container_id: String, exec_id: String, program: String, stdio: Stdio) {
        let (stdin, stdout) = (self.take_stream(stdio.stdin), self.take_stream(stdio.stdout));
        // Nothing is ever said on it.
        drop(self.take_stream(stdio.stderr));
        if let Some(stdin) = &stdin {
            let key = (container_id.clone(), exec_id.clone());
            self.state.lock().unwrap().inputs.insert(key, stdin.try_clone().unwrap());
        }
        std::thread::spawn(move || {
            if let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) {
                io::copy(&mut stdin, &mut stdout).unwrap();
            }
            match program.as_str() {
                CRASHER => std::process::abort(),
                EATER => {
                    let out = OutOfMemory { container_id: container_id.clone(), ..Default::default() };
                    let mut event = agent::Event::new();
                    event.set_out_of_memory(out);
                    self.tell(&event);
                    self.exited(container_id, exec_id, 137, true);
                }
                _ => self.exited(container_id, exec_id, 42, false),
            }
        });
    }

    /// Only the first end of a process counts.
    fn exited(&self, container_id: String, exec_id: String, code: u32, out_of_memory: bool) {
        let key = (container_id.clone(), exec_id.clone());
        {
            let mut state = self.state.lock().unwrap();
            state.inputs.remove(&key);
            if state.exited.contains_key(&key) {
                return;
            }
            state.exited.insert(key, code);
        }
        self.changed.notify_all();
        let mut event = agent::Event::new();
        event.set_exit(Exit { container_id, exec_id, code, out_of_memory, ..Default::default() });
        self.tell(&event);
    }

    /// A signal ends any process; it takes its streams along.
    fn killed(&self, container_id: String, exec_id: String, signal: u32) {
        let input = self.state.lock().unwrap().inputs.remove(&(container_id.clone(), exec_id.clone()));
        self.exited(container_id, exec_id, 128 + signal, false);
        if let Some(input) = input {
            input.shutdown(Shutdown::Both).unwrap();
        }
    }
}

struct Service(Arc<Guest>, Arc<Mutex<Devices>>);

/// Of a device that the guest cannot find.
fn none(what: impl std::fmt::Debug) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::NOT_FOUND, format!("no {what:?} here")))
}

#[async_trait]
impl Agent for Service {
    async fn adopt(&self, _: &TtrpcContext, request: AdoptRequest) -> ttrpc::Result<AdoptResponse> {
        let complete = request.entropy.len() >= 32 && request.wall_clock_ns > 0 && request.hostname == "host";
        self.0.state.lock().unwrap().adopted = complete;
        Ok(AdoptResponse::new())
    }

    async fn attach_disks(
        &self,
        _: &TtrpcContext,
        request: AttachDisksRequest,
    ) -> ttrpc::Result<AttachDisksResponse> {
        let devices = self.1.lock().unwrap();
        let there = request.serials.iter().all(|serial| devices.disks.contains(serial));
        let number = |at: u32| agent::DeviceNumber { major: 254, minor: 16 * at, ..Default::default() };
        let numbers = (0..).take(request.serials.len()).map(number).collect();
        there
            .then(|| AttachDisksResponse { numbers, ..Default::default() })
            .ok_or_else(|| none(request.serials))
    }

    async fn detach_disk(&self, _: &TtrpcContext, _: DetachDiskRequest) -> ttrpc::Result<DetachDiskResponse> {
        Ok(DetachDiskResponse::new())
    }

    async fn mount_shares(
        &self,
        _: &TtrpcContext,
        request: MountSharesRequest,
    ) -> ttrpc::Result<MountSharesResponse> {
        let there = self.1.lock().unwrap().has_shares;
        there.then(MountSharesResponse::new).ok_or_else(|| none(request.tag))
    }

    async fn set_network(
        &self,
        _: &TtrpcContext,
        request: SetNetworkRequest,
    ) -> ttrpc::Result<SetNetworkResponse> {
        let device = |device| format!("net{device}");
        let wanted: BTreeSet<_> = request.interfaces.iter().map(|each| device(each.device)).collect();
        let interfaces =
            request.interfaces.iter().map(|each| format!("{}={}", each.name, device(each.device)));
        let interfaces = interfaces.collect::<Vec<_>>().join(" ");
        eprintln!("network: {interfaces}{}", if request.name_relay { " +names" } else { "" });
        let there = self.1.lock().unwrap().nets == wanted;
        there.then(SetNetworkResponse::new).ok_or_else(|| none(wanted))
    }

    async fn use_processors(
        &self,
        _: &TtrpcContext,
        request: UseProcessorsRequest,
    ) -> ttrpc::Result<UseProcessorsResponse> {
        let there = request.count <= self.1.lock().unwrap().vcpus.into();
        there.then(UseProcessorsResponse::new).ok_or_else(|| none("processor"))
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateRequest) -> ttrpc::Result<UpdateResponse> {
        serde_json::from_slice::<oci_spec::runtime::LinuxResources>(&request.resources_json)
            .map_err(|_| none("resources"))?;
        Ok(UpdateResponse::new())
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> ttrpc::Result<CreateContainerResponse> {
        let spec: oci_spec::runtime::Spec = serde_json::from_slice(&request.spec_json).unwrap();
        let args = spec.process().as_ref().and_then(|process| process.args().clone()).unwrap();
        let mut state = self.0.state.lock().unwrap();
        let complete =
            state.adopted && request.rootfs.layers == ["pmem0"] && request.rootfs.scratch == "scratch";
        let result = if complete && args[0] != MISSING {
            state.created.insert(request.container_id, (args[0].clone(), request.stdio.unwrap_or_default()));
            create_container_response::Result::Created(Created { pid: 7, ..Default::default() })
        } else {
            create_container_response::Result::Failure(Failure {
                phase: Phase::PHASE_CREATE.into(),
                cause: Cause::CAUSE_COMMAND_NOT_FOUND.into(),
                message: "no such program".to_owned(),
                ..Default::default()
            })
        };
        Ok(CreateContainerResponse { result: Some(result), ..Default::default() })
    }

    async fn start_container(
        &self,
        _: &TtrpcContext,
        request: StartContainerRequest,
    ) -> ttrpc::Result<StartContainerResponse> {
        let (program, stdio) = self.0.state.lock().unwrap().created.remove(&request.container_id).unwrap();
        let guest = self.0.clone();
        tokio::task::spawn_blocking(move || guest.run(request.container_id, String::new(), program, stdio));
        Ok(StartContainerResponse::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecRequest) -> ttrpc::Result<ExecResponse> {
        let guest = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let stdio = request.stdio.unwrap_or_default();
            guest.run(request.container_id, request.exec_id, CAT.to_owned(), stdio);
        });
        let mut response = ExecResponse::new();
        response.set_created(Created { pid: 8, ..Default::default() });
        Ok(response)
    }

    async fn signal(&self, _: &TtrpcContext, request: SignalRequest) -> ttrpc::Result<SignalResponse> {
        self.0.killed(request.container_id, request.exec_id, request.signal);
        Ok(SignalResponse::new())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let guest = self.0.clone();
        let key = (request.container_id, request.exec_id);
        let waited = tokio::task::spawn_blocking(move || {
            let state = guest.state.lock().unwrap();
            let state = guest.changed.wait_while(state, |state| !state.exited.contains_key(&key)).unwrap();
            state.exited[&key]
        });
        let exit = Exit { code: waited.await.unwrap(), ..Default::default() };
        Ok(WaitResponse { exit: Some(exit).into(), ..Default::default() })
    }
}
