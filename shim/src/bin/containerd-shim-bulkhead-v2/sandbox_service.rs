//! containerd's Sandbox API: a pod that is made and kept by calls of its own instead of by a first container.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
    PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
    SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse, StartSandboxRequest,
    StartSandboxResponse, StopSandboxRequest, StopSandboxResponse, WaitSandboxRequest, WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::{Sandbox as SandboxApi, create_sandbox};
use containerd_shim_protos::types::platform::Platform;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCpu, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResources,
    LinuxResourcesBuilder, Spec, SpecBuilder,
};
use protobuf::MessageField;
use shim::Bundle;
use ttrpc::r#async::{Service, TtrpcContext};

use crate::calls::{Answer, to_the_end};
use crate::failure::Failure;
use crate::pod_config::{self, PodConfig, Resources};
use crate::tasks::Tasks;
use crate::timestamp::timestamp;

/// By which the pod's configuration says what it is (CRI).
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// Why there is nothing to launch a sandbox by.
#[derive(Debug, thiserror::Error)]
enum SpecError {
    #[error("the options are no {}", pod_config::TYPE)]
    Options(#[from] protobuf::Error),
    #[error(transparent)]
    Spec(#[from] OciSpecError),
}

#[derive(Clone)]
pub(crate) struct SandboxService {
    tasks: Arc<Tasks>,
}

pub(crate) fn services(tasks: &Arc<Tasks>) -> HashMap<String, Service> {
    create_sandbox(Arc::new(SandboxService { tasks: tasks.clone() }))
}

#[async_trait]
impl SandboxApi for SandboxService {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> Answer<CreateSandboxResponse> {
        if self.tasks.sandbox(&request.sandbox_id).is_ok() {
            let words = format!("sandbox {} exists", request.sandbox_id);
            return Err(Failure::new(ttrpc::Code::ALREADY_EXISTS, words).into());
        }
        let tasks = self.tasks.clone();
        to_the_end(async move {
            let id = request.sandbox_id.clone();
            let path = PathBuf::from(&request.bundle_path);
            let spec = spec(request).map_err(|error| Failure::invalid(error.to_string()))?;
            tasks.keep(&id, &Bundle { path, spec }).await?;
            Ok(CreateSandboxResponse::new())
        })
        .await
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> Answer<StartSandboxResponse> {
        let sandbox = self.tasks.sandbox(&request.sandbox_id)?;
        if sandbox.process.exited().is_some() {
            return Err(Failure::precondition("cannot start a stopped sandbox").into());
        }
        sandbox.process.set_running();
        Ok(StartSandboxResponse {
            pid: sandbox.pid,
            created_at: MessageField::some(timestamp(sandbox.created)),
            ..Default::default()
        })
    }

    async fn platform(&self, _: &TtrpcContext, _: PlatformRequest) -> Answer<PlatformResponse> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let platform =
            Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), ..Default::default() };
        Ok(PlatformResponse { platform: MessageField::some(platform), ..Default::default() })
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> Answer<StopSandboxResponse> {
        let tasks = self.tasks.clone();
        to_the_end(async move {
            tasks.stop_sandbox(&request.sandbox_id).await?;
            Ok(StopSandboxResponse::new())
        })
        .await
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> Answer<WaitSandboxResponse> {
        let exited = self.tasks.sandbox(&request.sandbox_id)?.process.stopped().await;
        Ok(WaitSandboxResponse {
            exit_status: exited.code,
            exited_at: MessageField::some(timestamp(exited.at)),
            ..Default::default()
        })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> Answer<SandboxStatusResponse> {
        let sandbox = self.tasks.sandbox(&request.sandbox_id)?;
        let exited = sandbox.process.exited();
        // CRI's names of the two states it has.
        let state = if exited.is_some() { "SANDBOX_NOTREADY" } else { "SANDBOX_READY" };
        Ok(SandboxStatusResponse {
            sandbox_id: request.sandbox_id,
            pid: sandbox.pid,
            state: state.to_owned(),
            created_at: MessageField::some(timestamp(sandbox.created)),
            exited_at: exited.map(|exited| timestamp(exited.at)).into(),
            ..Default::default()
        })
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, _: PingRequest) -> Answer<PingResponse> {
        Ok(PingResponse::new())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> Answer<ShutdownSandboxResponse> {
        let tasks = self.tasks.clone();
        to_the_end(async move {
            match tasks.stop_sandbox(&request.sandbox_id).await {
                Ok(()) => tasks.shut_down_now(),
                // It was never made, or is not this one.
                Err(_) => tasks.shut_down(),
            }
            Ok(ShutdownSandboxResponse::new())
        })
        .await
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> Answer<SandboxMetricsResponse> {
        self.tasks.sandbox(&request.sandbox_id)?;
        Ok(SandboxMetricsResponse::new())
    }
}

/// What a pod is launched by, where nobody wrote a configuration.
fn spec(request: CreateSandboxRequest) -> Result<Spec, SpecError> {
    let options =
        request.options.into_option().filter(|options| options.type_url.ends_with(pod_config::TYPE));
    let config = options.map(|options| PodConfig::parse(&options.value)).transpose()?.unwrap_or_default();
    let mut network = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Network);
    if !request.netns_path.is_empty() {
        network = network.path(request.netns_path);
    }
    // Whether it is to be the host's, each container's configuration says.
    let pids = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Pid).build()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(vec![network.build()?, pids])
        .resources(resources(&config.resources)?)
        .build()?;
    linux.set_cgroups_path(config.cgroups_path(&request.sandbox_id));
    linux.set_sysctl(Some(config.sysctls));
    let mut annotations = request.annotations;
    annotations.insert(CONTAINER_TYPE.to_owned(), "sandbox".to_owned());
    let mut spec = SpecBuilder::default().linux(linux).annotations(annotations).mounts(Vec::new()).build()?;
    spec.set_hostname(Some(config.hostname).filter(|name| !name.is_empty()));
    Ok(spec)
}

fn resources(told: &Resources) -> Result<LinuxResources, OciSpecError> {
    let mut cpu = LinuxCpu::default();
    cpu.set_period(told.cpu_period).set_quota(Some(told.cpu_quota)).set_shares(told.cpu_shares);
    let memory = LinuxMemoryBuilder::default().limit(told.memory_limit).build()?;
    LinuxResourcesBuilder::default().cpu(cpu).memory(memory).build()
}
