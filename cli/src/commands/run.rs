//! Runs a command in a new sandbox.

use std::io;

use oci_spec::runtime::Spec;
use sandbox::{
    ContainerConfig, CreateError, DEFAULT_SCRATCH_SIZE, Installation, InstallationError, Label, LaunchError,
    RecordError, Sandbox, SandboxConfig, Scratch, StateDir, Stdio, Timeline,
};

use crate::args::RunArgs;
use crate::container::{Container, ContainerError};
use crate::data_dir::DataDir;
use crate::exit_code;
use crate::foreground::{self, Foreground, ForegroundError, Outcome};
use crate::id;
use crate::image::{self, ImageError, ImportedImage};
use crate::signals::Signals;
use crate::spec::{self, SpecError};
use crate::timing::Timing;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Foreground(#[from] ForegroundError),
    #[error(transparent)]
    Installation(#[from] InstallationError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("cannot get random bytes for an id")]
    Id(#[source] io::Error),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Create(#[from] CreateError),
}

impl RunError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Create(error) => exit_code::of_create_error(error),
            _ => exit_code::FAILED,
        }
    }
}

/// What a run is made from.
struct Start<'a> {
    installation: &'a Installation,
    state: &'a StateDir,
    data: &'a DataDir,
    args: &'a RunArgs,
    stdio: Stdio,
    timeline: &'a Timeline,
}

/// The command's exit code.
pub(crate) async fn run(
    state: &StateDir,
    data: &DataDir,
    args: &RunArgs,
    signals: &mut Signals,
    timeline: &Timeline,
) -> Result<u8, RunError> {
    let stdio = foreground::stdio(&args.stdio)?;
    let installation = Installation::find()?;
    let start = Start { installation: &installation, state, data, args, stdio, timeline };
    // A start that is dropped takes all it made with it.
    let (sandbox, foreground) = tokio::select! {
        biased;
        signal = signals.terminating() => return Ok(foreground::signalled(signal)),
        started = start.start() => started?,
    };
    let outcome = foreground.follow(signals).await;
    timeline.mark("command ended");
    let ended = sandbox.stop().await;
    if let Some(format) = args.timing {
        eprint!("{}", Timing::new(&timeline.stamps(), ended.exits.clone()).render(format));
    }
    let Outcome { code, out_of_memory } = outcome?;
    if out_of_memory {
        report_out_of_memory(args);
    }
    Ok(code)
}

impl Start<'_> {
    async fn start(&self) -> Result<(Sandbox, Foreground), RunError> {
        let id = id::random().map_err(RunError::Id)?;
        let image = image::import(self.data, self.args.image()).await?;
        self.timeline.mark("image ready");
        let container = Container::new(self.args, &image.config, &id)?;
        let spec = spec::spec(&container)?;

        let config = self.sandbox_config(&id, image, &container, &spec);
        let mut sandbox = Sandbox::launch(self.installation, self.state, config, self.timeline).await?;
        let foreground = self.start_container(&sandbox, &id, container, spec).await?;
        sandbox.set_running()?;
        Ok((sandbox, foreground))
    }

    fn sandbox_config(
        &self,
        id: &str,
        image: ImportedImage,
        container: &Container,
        spec: &Spec,
    ) -> SandboxConfig {
        SandboxConfig {
            label: Label {
                id: id.to_owned(),
                name: self.args.name.clone().unwrap_or_else(|| id::short(id).to_owned()),
                image: self.args.image().to_owned(),
                command: container.command.args.clone(),
                process: spec.process().clone().unwrap_or_default(),
                user: container.command.user.clone(),
            },
            hostname: container.hostname.clone(),
            vcpus: container.cpus.map_or(1, |cpus| cpus.vcpus()),
            memory_limit: container.memory.map(|memory| memory.0),
            layers: image.layers,
            scratch: Some(Scratch { directory: self.data.scratch(), size: DEFAULT_SCRATCH_SIZE }),
        }
    }

    async fn start_container(
        &self,
        sandbox: &Sandbox,
        id: &str,
        container: Container,
        spec: Spec,
    ) -> Result<Foreground, RunError> {
        let config = ContainerConfig {
            id: id.to_owned(),
            spec,
            rootfs: sandbox.rootfs().clone(),
            stdio: self.stdio,
            user: container.command.user,
            files: spec::files::files(&container.hostname),
        };
        let (process, streams) = sandbox.guest().create_container(config).await?;
        self.timeline.mark("container created");
        let foreground = Foreground::attach(process, streams, &self.args.stdio, container.stop_signal)?;
        foreground.process().start().await?;
        self.timeline.mark("command started");
        Ok(foreground)
    }
}

fn report_out_of_memory(args: &RunArgs) {
    let limit = args.memory.map_or(sandbox::DEFAULT_MEMORY, |memory| memory.0) >> 20;
    eprintln!("bulkhead: the container ran out of its {limit} MiB of memory; give it more with --memory");
}
