//! `start`: finds the shim that serves a container's pod, or starts one; answers where it serves, and is gone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::TTRPC_ADDRESS_VARIABLE;
use crate::arguments::Arguments;
use crate::bootstrap::{MAX_REQUEST, MAX_VERSION_VARIABLE, Request};
use crate::shim_cgroup::{ShimCgroup, ShimCgroupError};
use crate::socket::{self, ADDRESS_FILE, Claimed, SocketError};

/// Which annotations say whose shim a container's is, the first that is there.
const GROUPS: [&str; 3] =
    ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];

/// The file in a bundle with the number of the shim that was started for it.
pub(crate) const PID_FILE: &str = "shim.pid";

/// The longest configuration that is looked into, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot read the request")]
    Request(#[source] io::Error),
    #[error("cannot use the bundle {}", path.display())]
    Bundle { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    ShimCgroup(#[from] ShimCgroupError),
    #[error("cannot start a shim")]
    Spawn(#[source] io::Error),
    #[error("cannot answer")]
    Answer(#[source] io::Error),
}

pub(crate) fn start(arguments: &Arguments) -> Result<(), StartError> {
    let mut stdin = Vec::new();
    io::stdin().take(MAX_REQUEST).read_to_end(&mut stdin).map_err(StartError::Request)?;
    let max_version = std::env::var(MAX_VERSION_VARIABLE).ok();
    let request = Request::parse(&stdin, arguments, max_version.as_deref());
    let bundle = bundle(arguments).map_err(|source| StartError::Bundle { path: ".".into(), source })?;

    let group = group(&bundle).unwrap_or_else(|| arguments.id.clone());
    let path = socket::path(request.socket_directory.as_deref(), arguments, &group);
    let address = socket::address(&path);
    if let Claimed::New(listener) = socket::claim(&path)?
        && let Err(error) = spawn(arguments, &bundle, listener, &request)
    {
        // Nobody will ever listen there.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    let unusable = |source| StartError::Bundle { path: bundle.clone(), source };
    fs::write(bundle.join(ADDRESS_FILE), &address).map_err(unusable)?;
    let answer = request.dialect.answer(&address).map_err(|error| StartError::Answer(error.into()))?;
    let mut stdout = io::stdout();
    stdout.write_all(answer.as_bytes()).and_then(|()| stdout.flush()).map_err(StartError::Answer)
}

/// The serving shim, which is where it belongs before anybody asks anything of it.
fn spawn(
    arguments: &Arguments,
    bundle: &Path,
    listener: UnixListener,
    request: &Request,
) -> Result<(), StartError> {
    let cgroup = request.shim_cgroup.clone().map(ShimCgroup::open).transpose()?;
    let mut command = serving(arguments, bundle, listener, request.ttrpc_address.as_deref())?;
    let mut child = command.spawn().map_err(StartError::Spawn)?;
    if let Err(error) = cgroup.map_or(Ok(()), |cgroup| cgroup.take_in(child.id())) {
        // It has begun nothing.
        let _ = child.kill();
        return Err(error.into());
    }
    fs::write(bundle.join(PID_FILE), child.id().to_string()).map_err(StartError::Spawn)
}

/// The socket is its standard input, and the bundle's `log` takes what it has to say.
fn serving(
    arguments: &Arguments,
    bundle: &Path,
    listener: UnixListener,
    ttrpc_address: Option<&str>,
) -> Result<Command, StartError> {
    let mut command = Command::new(std::env::current_exe().map_err(StartError::Spawn)?);
    command
        .args(["-namespace", &arguments.namespace, "-id", &arguments.id, "-address", &arguments.address])
        .arg("-publish-binary")
        .arg(&arguments.publish_binary)
        .current_dir(bundle)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(log(bundle).map_or_else(Stdio::null, Stdio::from));
    if arguments.debug {
        command.arg("-debug");
    }
    if let Some(address) = ttrpc_address {
        command.env(TTRPC_ADDRESS_VARIABLE, address);
    }
    Ok(command)
}

/// The FIFO containerd reads a shim's log from, if it made one. Opened for reading, too, it outlives a restart of containerd;
/// and nobody waits because it is full.
fn log(bundle: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let log = rustix::fs::open(bundle.join("log"), flags, Mode::empty()).ok()?;
    let fifo = rustix::fs::fstat(&log).ok()?;
    (rustix::fs::FileType::from_raw_mode(fifo.st_mode) == rustix::fs::FileType::Fifo).then_some(log)
}

pub(crate) fn bundle(arguments: &Arguments) -> io::Result<PathBuf> {
    match arguments.bundle.as_os_str().is_empty() {
        true => std::env::current_dir(),
        false => Ok(arguments.bundle.clone()),
    }
}

/// Whose shim the container's is, if not its own. A bundle without a configuration is the Sandbox API's; one with a broken
/// configuration is refused by its creation, where clients look for the reason.
fn group(bundle: &Path) -> Option<String> {
    /// No more of it than is needed: each start takes the time.
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        annotations: HashMap<String, String>,
    }
    let mut text = Vec::new();
    File::open(bundle.join("config.json")).ok()?.take(MAX_CONFIG).read_to_end(&mut text).ok()?;
    let Config { mut annotations } = serde_json::from_slice(&text).ok()?;
    GROUPS.iter().find_map(|group| annotations.remove(*group)).filter(|group| !group.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(config: &str) -> Option<String> {
        let bundle = tempfile::tempdir().unwrap();
        fs::write(bundle.path().join("config.json"), config).unwrap();
        group(bundle.path())
    }

    #[test]
    fn a_pods_containers_have_its_shim() {
        let annotated =
            |annotation: &str| group_of(&format!("{{\"annotations\":{{\"{annotation}\":\"p\"}}}}"));
        for annotation in GROUPS {
            assert_eq!(annotated(annotation), Some("p".to_owned()));
        }
        assert_eq!(annotated("io.kubernetes.cri.container-type"), None);
    }

    #[test]
    fn others_have_their_own() {
        for config in
            ["{}", "{\"annotations\":7}", "", "{\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"\"}}"]
        {
            assert_eq!(group_of(config), None, "{config}");
        }
        assert_eq!(group(Path::new("/nowhere")), None);
    }
}
