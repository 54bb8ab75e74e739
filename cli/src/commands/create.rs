//! Makes a container, as `create` and `run` do.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use containers::{
    Claimed, Config, Containers, ContainersError, ImageOf, Limits, OpenStdin, RestartPolicy, SnapshotsError,
    Timestamp, id,
};
use images::store::StoreError;
use images::{Store, StoredImage};
use sandbox::DEFAULT_SCRATCH_SIZE;

use super::copy_of::{self, CopyError, Wanted};
use crate::args::{Bytes, ContainerArgs, CreateArgs};
use crate::container::{Container, ContainerError};
use crate::data_dir::DataDir;
use crate::image::{self, ImageError};
use crate::spec::{self, SpecError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("--rm and --restart contradict each other")]
    RemoveAndRestart,
    #[error("cannot get random bytes for an id")]
    Id(#[source] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("there is a file {} already: is its container still wanted?", .0.display())]
    CidFileExists(PathBuf),
    #[error("cannot write the id to {}", path.display())]
    CidFile { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error("cannot go on from snapshot {name}")]
    Copy { name: String, source: CopyError },
}

/// What is known of a container's first run when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FirstRun {
    /// Whether its input ends with the client that was attached first.
    pub stdin_once: bool,
    /// Whether it comes before anybody else can look into the container.
    pub at_once: bool,
}

/// Prints the id of the container it made.
pub(crate) async fn create(
    containers: &Containers,
    data: &DataDir,
    args: &CreateArgs,
) -> Result<String, CreateError> {
    let first = FirstRun { stdin_once: args.container.stdio.interactive, at_once: false };
    let claimed = make(containers, data, &args.container, first).await?;
    Ok(claimed.release()?.id().to_owned())
}

/// Makes the container that the flags and the image describe.
pub(crate) async fn make(
    containers: &Containers,
    data: &DataDir,
    args: &ContainerArgs,
    first: FirstRun,
) -> Result<Claimed, CreateError> {
    if args.rm && args.restart != RestartPolicy::No {
        return Err(CreateError::RemoveAndRestart);
    }
    if let Some(path) = args.cidfile.as_ref().filter(|path| path.exists()) {
        return Err(CreateError::CidFileExists(path.clone()));
    }
    if let Some(name) = &args.from {
        let snapshot = data.snapshots().find_usable(name)?;
        let wanted = Wanted { name: args.name.clone(), rm: args.rm, stdin_once: Some(first.stdin_once) };
        let made = copy_of::make(containers, data, &snapshot.about.container, &snapshot.files, wanted);
        let claimed = made.map_err(|source| CreateError::Copy { name: name.clone(), source })?;
        return with_cidfile(containers, args, claimed);
    }
    let id = id::random().map_err(CreateError::Id)?;
    let store = Store::open(data.images())?;
    // From finding the image to the record that says it is used, nobody may take it away.
    let hold = store.hold()?;
    let wanted = image::Wanted {
        name: args.image().to_owned(),
        platform: args.platform.clone(),
        pull: args.pull,
        quiet: args.quiet,
    };
    let image = image::resolve(&store, wanted).await?;
    let config = config(args, id, &image, first)?;
    let claimed = containers.create(config)?;
    drop(hold);
    with_cidfile(containers, args, claimed)
}

fn with_cidfile(
    containers: &Containers,
    args: &ContainerArgs,
    claimed: Claimed,
) -> Result<Claimed, CreateError> {
    match args.cidfile.as_ref().map_or(Ok(()), |path| write_id(path, claimed.container().id())) {
        Ok(()) => Ok(claimed),
        Err(error) => {
            containers.remove(claimed)?;
            Err(error)
        }
    }
}

fn config(
    args: &ContainerArgs,
    id: String,
    image: &StoredImage,
    first: FirstRun,
) -> Result<Config, CreateError> {
    let wishes = image.configuration().config().clone().unwrap_or_default();
    let container = Container::new(args, &wishes, image::health_check(image).as_ref(), &id)?;
    let spec = spec::spec(&container)?;
    Ok(Config {
        name: args.name.clone().unwrap_or_else(|| id::short(&id).to_owned()),
        created: Timestamp::now(),
        image: ImageOf { name: args.image().to_owned(), id: image.id().to_string() },
        spec,
        user: container.command.user,
        files: spec::files::files(&container.hostname, &args.add_host),
        hostname: container.hostname,
        vcpus: container.cpus.map_or(1, |cpus| cpus.vcpus()),
        memory: container.memory.map(|memory| memory.0),
        limits: limits(args),
        storage: args.storage.map_or(DEFAULT_SCRATCH_SIZE, |Bytes(bytes)| bytes),
        stop_signal: container.stop_signal.number(),
        stop_timeout: args.stop_timeout.unwrap_or_default(),
        restart: args.restart,
        auto_remove: args.rm,
        keeps_disk: !(args.rm && first.at_once),
        labels: container.labels,
        stdin: OpenStdin { open: args.stdio.interactive, once: first.stdin_once },
        init: args.init,
        health: container.health,
        log: args.log.options(),
        id,
    })
}

fn limits(args: &ContainerArgs) -> Limits {
    let args = &args.limits;
    Limits {
        cpu_quota_us: args.cpus.map(|cpus| cpus.quota_us()),
        cpu_shares: args.cpu_shares,
        blkio_weight: args.blkio_weight,
        blkio_weight_devices: args.blkio_weight_device.iter().map(|device| device.0.clone()).collect(),
        device_read_bps: args.device_read_bps.iter().map(|device| device.0.clone()).collect(),
        device_write_bps: args.device_write_bps.iter().map(|device| device.0.clone()).collect(),
        device_read_iops: args.device_read_iops.iter().map(|device| device.0.clone()).collect(),
        device_write_iops: args.device_write_iops.iter().map(|device| device.0.clone()).collect(),
    }
}

fn write_id(path: &Path, id: &str) -> Result<(), CreateError> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(id.as_bytes()));
    written.map_err(|source| CreateError::CidFile { path: path.to_owned(), source })
}
