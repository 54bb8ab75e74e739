//! containerd's Task API, versions 2 and 3: the same calls and messages under two names.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse,
    StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim_async::{Task as TaskApi, create_task};
use containerd_shim_protos::types::task::ProcessInfo;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::empty::Empty;
use protobuf::{Message, MessageField};
use sandbox::TerminalSize;
use serde::de::DeserializeOwned;
use ttrpc::r#async::{Service, TtrpcContext};

use crate::calls::{Answer, to_the_end};
use crate::failure::Failure;
use crate::metrics;
use crate::stdio::Stdio;
use crate::tasks::{Creation, Tasks};
use crate::timestamp::timestamp;

const VERSIONS: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

#[derive(Clone)]
pub(crate) struct TaskService {
    tasks: Arc<Tasks>,
}

/// Both versions, by name.
pub(crate) fn services(tasks: &Arc<Tasks>) -> HashMap<String, Service> {
    VERSIONS
        .into_iter()
        .flat_map(|version| {
            let service = create_task(Arc::new(TaskService { tasks: tasks.clone() }));
            service.into_values().map(move |service| (version.to_owned(), service))
        })
        .collect()
}

#[async_trait]
impl TaskApi for TaskService {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Answer<CreateTaskResponse> {
        let tasks = self.tasks.clone();
        to_the_end(async move {
            if !request.checkpoint.is_empty() {
                return Err(no_checkpoints());
            }
            let creation = Creation {
                id: request.id,
                bundle: request.bundle.into(),
                rootfs: request.rootfs,
                stdio: Stdio {
                    stdin: request.stdin,
                    stdout: request.stdout,
                    stderr: request.stderr,
                    terminal: request.terminal,
                },
            };
            let pid = tasks.create(creation).await?;
            Ok(CreateTaskResponse { pid, ..Default::default() })
        })
        .await
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        let tasks = self.tasks.clone();
        to_the_end(async move {
            let task = tasks.get(&request.id)?;
            let pid = match request.exec_id.as_str() {
                "" => task.start().await?,
                exec_id => task.start_exec(exec_id).await?,
            };
            Ok(StartResponse { pid, ..Default::default() })
        })
        .await
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Answer<DeleteResponse> {
        let tasks = self.tasks.clone();
        to_the_end(async move {
            let (task, exited) = match request.exec_id.as_str() {
                "" => tasks.delete(&request.id).await?,
                exec_id => {
                    let task = tasks.get(&request.id)?;
                    let exited = task.delete_exec(exec_id)?;
                    (task, exited)
                }
            };
            Ok(DeleteResponse {
                pid: task.pid,
                exit_status: exited.code,
                exited_at: MessageField::some(timestamp(exited.at)),
                ..Default::default()
            })
        })
        .await
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Answer<Empty> {
        let task = self.tasks.get(&request.id)?;
        if request.exec_id.is_empty() {
            return Err(Failure::invalid("an exec needs an id").into());
        }
        let mut spec: oci_spec::runtime::Process = parse(request.spec.as_ref(), "process")?;
        spec.set_terminal(Some(request.terminal));
        let stdio = Stdio {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        task.exec(&request.exec_id, spec, stdio)?;
        Ok(Empty::new())
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Answer<StateResponse> {
        let task = self.tasks.get(&request.id)?;
        let process = task.process(&request.exec_id)?;
        let exited = process.exited();
        let id = if request.exec_id.is_empty() { request.id } else { request.exec_id };
        Ok(StateResponse {
            id,
            bundle: task.bundle.display().to_string(),
            pid: task.pid,
            status: task.status(&process).into(),
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.terminal,
            exit_status: exited.map_or(0, |exited| exited.code),
            exited_at: exited.map(|exited| timestamp(exited.at)).into(),
            ..Default::default()
        })
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Answer<WaitResponse> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        let exited = process.stopped().await;
        Ok(WaitResponse {
            exit_status: exited.code,
            exited_at: MessageField::some(timestamp(exited.at)),
            ..Default::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Answer<Empty> {
        let task = self.tasks.get(&request.id)?;
        to_the_end(async move {
            task.kill(&request.exec_id, request.signal, request.all).await?;
            Ok(Empty::new())
        })
        .await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        let task = self.tasks.get(&request.id)?;
        if task.own.exited().is_some() {
            return Ok(PidsResponse::new());
        }
        // The guest's numbers would be taken for this host's. What is executed shares the one there is.
        let mut processes = vec![ProcessInfo { pid: task.pid, ..Default::default() }];
        for exec_id in task.running_exec_ids() {
            let info = MessageField::some(details(exec_id)?);
            processes.push(ProcessInfo { pid: task.pid, info, ..Default::default() });
        }
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Answer<Empty> {
        let task = self.tasks.get(&request.id)?;
        to_the_end(async move { task.pause().await.map(|()| Empty::new()) }).await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Answer<Empty> {
        let task = self.tasks.get(&request.id)?;
        to_the_end(async move { task.resume().await.map(|()| Empty::new()) }).await
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> Answer<Empty> {
        self.tasks.get(&request.id)?;
        Err(no_checkpoints().into())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        process.resize(TerminalSize { rows: request.height, columns: request.width }).await?;
        Ok(Empty::new())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        let process = self.tasks.get(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Answer<Empty> {
        let task = self.tasks.get(&request.id)?;
        let resources = parse(request.resources.as_ref(), "resources")?;
        to_the_end(async move { task.update(resources).await.map(|()| Empty::new()) }).await
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        let stats = self.tasks.get(&request.id)?.stats().await?;
        let stats = metrics::encode(&stats).map_err(|error| Failure::internal(error.to_string()))?;
        Ok(StatsResponse { stats: MessageField::some(stats), ..Default::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        Ok(ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: self.tasks.get(&request.id).map_or(0, |task| task.pid),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Answer<Empty> {
        self.tasks.shut_down();
        Ok(Empty::new())
    }
}

/// JSON, which is what containerd puts into an Any for what is not of its own making.
fn parse<T: DeserializeOwned>(any: Option<&Any>, what: &str) -> Result<T, Failure> {
    let any = any.ok_or_else(|| Failure::invalid(format!("no {what} in the request")))?;
    serde_json::from_slice(&any.value)
        .map_err(|error| Failure::invalid(format!("cannot parse the {what} of the request: {error}")))
}

fn details(exec_id: String) -> Result<Any, Failure> {
    let details = ProcessDetails { exec_id, ..Default::default() };
    let value = details.write_to_bytes().map_err(|error| Failure::internal(error.to_string()))?;
    Ok(Any { type_url: "containerd.runc.v1.ProcessDetails".to_owned(), value, ..Default::default() })
}

fn no_checkpoints() -> Failure {
    Failure::new(ttrpc::Code::UNIMPLEMENTED, "checkpoints are not supported")
}
