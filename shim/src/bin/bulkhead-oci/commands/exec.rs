//! `bulkhead-oci exec`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};
use shim::{Bundle, BundleError};

use crate::args::ExecArgs;
use crate::blob::{self, BlobError};
use crate::foreground::{self, ForegroundError, Tied};
use crate::hire::{HireError, Hired};
use crate::log::Log;
use crate::make::{Console, MakeError, refuse_descriptors};
use crate::pid_file::{self, PidFileError};
use crate::protocol::{Orders, Task};
use crate::runtime::wait_for;
use crate::state::{Root, StateError, Status};

/// In runc's words, where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot exec in a stopped container")]
    Stopped,
    #[error("cannot exec in a paused container (use --ignore-paused to override)")]
    Paused,
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("cannot read the process from {}", path.display())]
    Process { path: PathBuf, source: BlobError },
    #[error("process args cannot be empty")]
    NoArguments,
    #[error("Cwd must be an absolute path")]
    Cwd,
    #[error("bad user {0:?}: write UID or UID:GID, by number")]
    User(String),
    #[error("unknown capability {0:?}")]
    Capability(String),
    #[error(transparent)]
    Make(#[from] MakeError),
    #[error("cannot pass the process on")]
    Pass(#[source] BlobError),
    #[error(transparent)]
    Hire(#[from] HireError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(transparent)]
    Foreground(#[from] ForegroundError),
    #[error("cannot wait for the process's supervisor")]
    Runtime(#[from] io::Error),
}

/// Gives the exit code of the process, where it is waited for.
pub(super) fn exec(root: &Root, args: &ExecArgs, log: &Log) -> Result<u8, Error> {
    let container = root.load(&args.id)?;
    match container.status() {
        Status::Stopped => return Err(Error::Stopped),
        Status::Paused if !args.ignore_paused => return Err(Error::Paused),
        _ => {}
    }
    refuse_descriptors(args.preserve_fds)?;
    let process = process(args, &container.bundle)?;
    let terminal = process.terminal().unwrap_or(false);
    let console = Console::choose(terminal, args.detach, args.console_socket.as_deref())?;
    let (sent, received) = console.split();
    let orders = Orders {
        root: root.path().to_owned(),
        id: container.id.clone(),
        console: sent.is_some(),
        cgroup: container.cgroup.clone(),
        log: log.clone(),
        task: Task::Exec { pod: container.pod.clone() },
    };
    let blob = blob::write(&process).map_err(Error::Pass)?;
    let descriptors: Vec<_> = sent.iter().chain([&blob]).map(AsFd::as_fd).collect();
    let supervisor = Hired::hire(&orders, &descriptors)?;
    drop(sent);
    supervisor.launched()?;
    supervisor.ready()?;
    if let Some(path) = &args.pid_file {
        pid_file::write(path, supervisor.pid())?;
    }
    if args.detach {
        return Ok(0);
    }
    let tied = received.as_ref().map(Tied::tie).transpose();
    Ok(wait_for(async { foreground::follow(supervisor.into_child(), tied?).await })??)
}

/// From a file, or else the container's own with what the command line changes.
fn process(args: &ExecArgs, bundle: &std::path::Path) -> Result<Process, Error> {
    let process = match &args.process {
        Some(path) => {
            let read = File::open(path).map_err(BlobError::from).and_then(blob::parse);
            read.map_err(|source| Error::Process { path: path.clone(), source })?
        }
        None => {
            let own = Bundle::load(bundle)?.spec.process().clone().unwrap_or_default();
            changed(own, args)?
        }
    };
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::NoArguments);
    }
    if !process.cwd().is_absolute() {
        return Err(Error::Cwd);
    }
    Ok(process)
}

fn changed(mut process: Process, args: &ExecArgs) -> Result<Process, Error> {
    process.set_args(Some(args.command.clone()));
    // As runc has it: the container's terminal is its own process's.
    process.set_terminal(Some(args.tty));
    if let Some(cwd) = &args.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some(profile) = &args.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if let Some(label) = &args.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(args.env.iter().cloned());
    process.set_env(Some(env));
    let mut user = process.user().clone();
    if let Some(wanted) = &args.user {
        let (uid, gid) = parse_user(wanted).ok_or_else(|| Error::User(wanted.clone()))?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    groups.extend(&args.additional_gids);
    user.set_additional_gids(Some(groups));
    process.set_user(user);
    if !args.cap.is_empty() {
        let capabilities = process.capabilities().clone().unwrap_or_default();
        process.set_capabilities(Some(with(capabilities, &args.cap)?));
    }
    Ok(process)
}

fn parse_user(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once(':') {
        None => Some((text.parse().ok()?, None)),
        Some((uid, gid)) => Some((uid.parse().ok()?, Some(gid.parse().ok()?))),
    }
}

/// Adds capabilities to those that a process may use at once.
fn with(mut all: LinuxCapabilities, names: &[String]) -> Result<LinuxCapabilities, Error> {
    let added: Capabilities = names.iter().map(|name| parse_capability(name)).collect::<Result<_, _>>()?;
    let and_added = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&added).copied().collect());
    all.set_bounding(and_added(all.bounding()));
    all.set_effective(and_added(all.effective()));
    all.set_permitted(and_added(all.permitted()));
    Ok(all)
}

fn parse_capability(name: &str) -> Result<Capability, Error> {
    let parsed = serde_json::from_value(serde_json::Value::String(name.to_owned()));
    parsed.map_err(|_| Error::Capability(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(line: &str) -> ExecArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Exec(args) => args,
            _ => panic!(),
        }
    }

    #[test]
    fn what_is_not_said_is_as_the_container_has_it() {
        let own = serde_json::json!({
            "terminal": true, "user": {"uid": 5, "gid": 6}, "args": ["sh"], "env": ["A=1"], "cwd": "/srv",
            "capabilities": {"bounding": ["CAP_KILL"]}
        });
        let own: Process = serde_json::from_value(own).unwrap();
        let process = changed(own.clone(), &args("bulkhead-oci exec web ls")).unwrap();
        assert_eq!(process.args().as_deref(), Some(&["ls".to_owned()][..]));
        assert_eq!((process.terminal(), process.cwd().to_str()), (Some(false), Some("/srv")));
        assert_eq!((process.user().uid(), process.user().gid()), (5, 6));
        let line = "bulkhead-oci exec -t -e B=2 --cwd /tmp -u 7 -g 8 --cap CAP_NET_RAW web ls";
        let process = changed(own.clone(), &args(line)).unwrap();
        assert_eq!(process.env().as_deref(), Some(&["A=1".to_owned(), "B=2".to_owned()][..]));
        assert_eq!((process.user().uid(), process.user().gid()), (7, 6));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[8][..]));
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 2);
        assert_eq!(capabilities.effective().as_ref().unwrap().len(), 1);
        assert!(matches!(changed(own.clone(), &args("x exec -u root web ls")), Err(Error::User(_))));
        assert!(matches!(changed(own, &args("x exec -c CAP_X web ls")), Err(Error::Capability(_))));
    }

    #[test]
    fn a_process_without_a_command_or_a_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("process.json");
        let mut args = args("bulkhead-oci exec web");
        args.process = Some(file.clone());
        let told = |text: &str| {
            std::fs::write(&file, text).unwrap();
            process(&args, directory.path()).unwrap_err().to_string()
        };
        let user = r#""user":{"uid":0,"gid":0}"#;
        assert_eq!(told(&format!(r#"{{{user},"args":[],"cwd":"/"}}"#)), "process args cannot be empty");
        assert_eq!(told(&format!(r#"{{{user},"args":["a"],"cwd":"x"}}"#)), "Cwd must be an absolute path");
        assert!(told("{").starts_with("cannot read the process from"));
    }
}
