//! The contract's calls, each handed to whoever does the work.

use std::sync::Arc;

use agent_api::agent::{
    AdoptRequest, AdoptResponse, AttachDisksRequest, AttachDisksResponse, ChangesRequest, ChangesResponse,
    CreateContainerRequest, CreateContainerResponse, Created, DetachDiskRequest, DetachDiskResponse,
    ExecRequest, ExecResponse, ExportRequest, ExportResponse, MountContainerRequest, MountContainerResponse,
    MountSharesRequest, MountSharesResponse, PauseRequest, PauseResponse, PowerOffRequest, PowerOffResponse,
    PrepareRequest, PrepareResponse, ProcessesRequest, ProcessesResponse, ReadArchiveRequest,
    ReadArchiveResponse, RemoveContainerRequest, RemoveContainerResponse, ResizeTerminalRequest,
    ResizeTerminalResponse, ResumeRequest, ResumeResponse, SetNetworkRequest, SetNetworkResponse,
    SignalRequest, SignalResponse, StartContainerRequest, StartContainerResponse, StatPathRequest,
    StatPathResponse, StatsRequest, StatsResponse, TakeOverRequest, TakeOverResponse, UpdateRequest,
    UpdateResponse, UseProcessorsRequest, UseProcessorsResponse, WaitRequest, WaitResponse,
    WriteArchiveRequest, WriteArchiveResponse,
};
use agent_api::agent_ttrpc::{self, Agent};
use async_trait::async_trait;
use ttrpc::asynchronous::TtrpcContext;
use ttrpc::asynchronous::transport::Listener;
use ttrpc::{Code, Error, Result, get_status};

use crate::container::{CallError, Containers};
use crate::disks::DiskError;
use crate::identity::AdoptError;
use crate::network::NetworkError;
use crate::processors::ProcessorError;
use crate::{disks, error_chain, identity, network, power, processors, shares};

/// Serves the contract to whoever connects, for as long as the result lives.
pub async fn serve(listener: Listener, containers: Containers) -> Result<ttrpc::asynchronous::Server> {
    let service = agent_ttrpc::create_agent(Arc::new(Service { containers }));
    let mut server = ttrpc::asynchronous::Server::new().add_listener(listener).register_service(service);
    server.start().await?;
    Ok(server)
}

struct Service {
    containers: Containers,
}

#[async_trait]
impl Agent for Service {
    async fn adopt(&self, _: &TtrpcContext, request: AdoptRequest) -> Result<AdoptResponse> {
        identity::adopt(&request).map_err(|error| adopt_status(&error))?;
        Ok(AdoptResponse::default())
    }

    async fn prepare(&self, _: &TtrpcContext, _: PrepareRequest) -> Result<PrepareResponse> {
        disks::prepare().await.map_err(|error| disk_status(&error))?;
        network::park().await.map_err(|error| status(Code::INTERNAL, &error))?;
        Ok(PrepareResponse::default())
    }

    async fn take_over(&self, _: &TtrpcContext, request: TakeOverRequest) -> Result<TakeOverResponse> {
        let pid = self.containers.take_over(request).await.map_err(call_status)?;
        Ok(TakeOverResponse { pid, ..Default::default() })
    }

    async fn attach_disks(
        &self,
        _: &TtrpcContext,
        request: AttachDisksRequest,
    ) -> Result<AttachDisksResponse> {
        disks::attach(&request.serials).await.map_err(|error| disk_status(&error))?;
        let number = |serial: &String| disks::number(serial).map_err(|error| disk_status(&error));
        let numbers = request.serials.iter().map(number).collect::<Result<_>>()?;
        Ok(AttachDisksResponse { numbers, ..Default::default() })
    }

    async fn mount_shares(
        &self,
        _: &TtrpcContext,
        request: MountSharesRequest,
    ) -> Result<MountSharesResponse> {
        shares::mount_once(&request.tag).await.map_err(|error| status(Code::INTERNAL, &error))?;
        Ok(MountSharesResponse::default())
    }

    async fn set_network(&self, _: &TtrpcContext, request: SetNetworkRequest) -> Result<SetNetworkResponse> {
        network::set(&request).await.map_err(|error| network_status(&error))?;
        Ok(SetNetworkResponse::default())
    }

    async fn use_processors(
        &self,
        _: &TtrpcContext,
        request: UseProcessorsRequest,
    ) -> Result<UseProcessorsResponse> {
        processors::use_first(request.count).await.map_err(|error| processor_status(&error))?;
        Ok(UseProcessorsResponse::default())
    }

    async fn detach_disk(&self, _: &TtrpcContext, request: DetachDiskRequest) -> Result<DetachDiskResponse> {
        disks::detach(&request.serial).await.map_err(|error| disk_status(&error))?;
        Ok(DetachDiskResponse::default())
    }

    async fn create_container(
        &self,
        _: &TtrpcContext,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse> {
        let mut response = CreateContainerResponse::default();
        match self.containers.create(request).await.map_err(call_status)? {
            Ok(pid) => response.set_created(Created { pid, ..Default::default() }),
            Err(failure) => response.set_failure(failure),
        }
        Ok(response)
    }

    async fn start_container(
        &self,
        _: &TtrpcContext,
        request: StartContainerRequest,
    ) -> Result<StartContainerResponse> {
        let failure = self.containers.start(&request.container_id).await.map_err(call_status)?;
        Ok(StartContainerResponse { failure: failure.into(), ..Default::default() })
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecRequest) -> Result<ExecResponse> {
        let mut response = ExecResponse::default();
        match self.containers.exec(request).await.map_err(call_status)? {
            Ok(pid) => response.set_created(Created { pid, ..Default::default() }),
            Err(failure) => response.set_failure(failure),
        }
        Ok(response)
    }

    async fn signal(&self, _: &TtrpcContext, request: SignalRequest) -> Result<SignalResponse> {
        let SignalRequest { container_id, exec_id, signal, all, .. } = request;
        self.containers.signal(&container_id, exec_id, signal, all).await.map_err(call_status)?;
        Ok(SignalResponse::default())
    }

    async fn resize_terminal(
        &self,
        _: &TtrpcContext,
        request: ResizeTerminalRequest,
    ) -> Result<ResizeTerminalResponse> {
        let ResizeTerminalRequest { container_id, exec_id, size, .. } = request;
        let size = size.into_option().unwrap_or_default();
        self.containers.resize(&container_id, exec_id, size).await.map_err(call_status)?;
        Ok(ResizeTerminalResponse::default())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let exit = self.containers.wait(&request.container_id, request.exec_id).await.map_err(call_status)?;
        Ok(WaitResponse { exit: Some(exit).into(), ..Default::default() })
    }

    async fn remove_container(
        &self,
        _: &TtrpcContext,
        request: RemoveContainerRequest,
    ) -> Result<RemoveContainerResponse> {
        self.containers.remove(&request.container_id).await.map_err(call_status)?;
        Ok(RemoveContainerResponse::default())
    }

    async fn mount_container(
        &self,
        _: &TtrpcContext,
        request: MountContainerRequest,
    ) -> Result<MountContainerResponse> {
        let failure = self.containers.mount(request).await.map_err(call_status)?;
        Ok(MountContainerResponse { failure: failure.into(), ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Result<PauseResponse> {
        self.containers.pause(&request.container_id).await.map_err(call_status)?;
        Ok(PauseResponse::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Result<ResumeResponse> {
        self.containers.resume(&request.container_id).await.map_err(call_status)?;
        Ok(ResumeResponse::default())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateRequest) -> Result<UpdateResponse> {
        self.containers.update(request).await.map_err(call_status)?;
        Ok(UpdateResponse::default())
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        self.containers.stats(&request.container_id).await.map_err(call_status)
    }

    async fn processes(&self, _: &TtrpcContext, request: ProcessesRequest) -> Result<ProcessesResponse> {
        self.containers.processes(&request.container_id).await.map_err(call_status)
    }

    async fn stat_path(&self, _: &TtrpcContext, request: StatPathRequest) -> Result<StatPathResponse> {
        let StatPathRequest { container_id, path, .. } = request;
        let stat = self.containers.stat_path(&container_id, path).await.map_err(call_status)?;
        Ok(StatPathResponse { stat: stat.into(), ..Default::default() })
    }

    async fn read_archive(
        &self,
        _: &TtrpcContext,
        request: ReadArchiveRequest,
    ) -> Result<ReadArchiveResponse> {
        self.containers.read_archive(request).await.map_err(call_status)?;
        Ok(ReadArchiveResponse::default())
    }

    async fn write_archive(
        &self,
        _: &TtrpcContext,
        request: WriteArchiveRequest,
    ) -> Result<WriteArchiveResponse> {
        self.containers.write_archive(request).await.map_err(call_status)?;
        Ok(WriteArchiveResponse::default())
    }

    async fn changes(&self, _: &TtrpcContext, request: ChangesRequest) -> Result<ChangesResponse> {
        self.containers.changes(request).await.map_err(call_status)?;
        Ok(ChangesResponse::default())
    }

    async fn export(&self, _: &TtrpcContext, request: ExportRequest) -> Result<ExportResponse> {
        self.containers.export(request).await.map_err(call_status)?;
        Ok(ExportResponse::default())
    }

    async fn power_off(&self, _: &TtrpcContext, _: PowerOffRequest) -> Result<PowerOffResponse> {
        tokio::spawn(async { power::off() });
        Ok(PowerOffResponse::default())
    }
}

fn call_status(error: CallError) -> Error {
    let code = match error {
        CallError::BadId(_) | CallError::BadArgument(_) => Code::INVALID_ARGUMENT,
        CallError::NotFound(_) | CallError::NoSuchFile(_) => Code::NOT_FOUND,
        CallError::Exists(_) => Code::ALREADY_EXISTS,
        CallError::WrongState(_) => Code::FAILED_PRECONDITION,
        CallError::Internal(_) => Code::INTERNAL,
    };
    status(code, &error)
}

fn adopt_status(error: &AdoptError) -> Error {
    let code = match error {
        AdoptError::TooLittleEntropy(_) => Code::INVALID_ARGUMENT,
        _ => Code::INTERNAL,
    };
    status(code, error)
}

fn disk_status(error: &DiskError) -> Error {
    let code = match error {
        DiskError::Missing { .. } => Code::NOT_FOUND,
        DiskError::InUse { .. } => Code::FAILED_PRECONDITION,
        _ => Code::INTERNAL,
    };
    status(code, error)
}

fn processor_status(error: &ProcessorError) -> Error {
    let code = match error {
        ProcessorError::Missing(_) => Code::INVALID_ARGUMENT,
        ProcessorError::Use(..) => Code::INTERNAL,
    };
    status(code, error)
}

fn network_status(error: &NetworkError) -> Error {
    let code = match error {
        NetworkError::Request(_) => Code::INVALID_ARGUMENT,
        NetworkError::NoDevice { .. } => Code::NOT_FOUND,
        _ => Code::INTERNAL,
    };
    status(code, error)
}

fn status(code: Code, error: &dyn std::error::Error) -> Error {
    Error::RpcStatus(get_status(code, error_chain::describe(error)))
}
