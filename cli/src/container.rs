//! What is to be run: the image's wishes under the user's flags, merged as Docker does.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use containers::HealthCheck;
use oci_spec::image::Config;
use oci_spec::runtime::Capabilities;

use crate::args::environment::{self, EnvFileError};
use crate::args::label::{self, LabelFileError};
use crate::args::{
    Bytes, ContainerArgs, Cpus, HealthArgs, Label, Memory, NotYet, ProcessArgs, SeccompChoice, SecurityOpt,
    Signal, SignalError, Tmpfs, Ulimit, Variable,
};
use crate::spec::capabilities::chosen;
use containers::id;

/// Where a command is looked for unless the image or the user says otherwise.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest host name the kernel takes (uname(2)).
const MAX_HOSTNAME: usize = 64;

/// A container as it is to be.
#[derive(Debug)]
pub(crate) struct Container {
    pub command: Command,
    pub hostname: String,
    pub read_only: bool,
    pub tmpfs: Vec<Tmpfs>,
    pub memory: Option<Memory>,
    pub memory_reservation: Option<u64>,
    pub cpus: Option<Cpus>,
    pub pids: Option<i64>,
    /// Size of /dev/shm, in bytes.
    pub shm_size: Option<u64>,
    pub ulimits: Vec<Ulimit>,
    pub capabilities: Capabilities,
    pub seccomp: SeccompChoice,
    pub no_new_privileges: bool,
    pub stop_signal: Signal,
    pub health: Option<HealthCheck>,
    pub labels: BTreeMap<String, String>,
    pub annotations: HashMap<String, String>,
}

/// A process as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub args: Vec<String>,
    /// Each `NAME=VALUE`.
    pub environment: Vec<String>,
    pub directory: PathBuf,
    /// By name or number, with a group or not; looked up in the guest. Empty: root.
    pub user: String,
    pub terminal: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    #[error("no command specified: the image has none; name one after it")]
    NoCommand,
    #[error("the working directory {0:?} is not an absolute path")]
    RelativeDirectory(String),
    #[error("{0:?} is no host name: letters, digits, '.' and '-', at most {MAX_HOSTNAME} of them")]
    BadHostname(String),
    #[error("the image's stop signal is unusable")]
    StopSignal(#[source] SignalError),
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    #[error("{0} holds a NUL character, which no program can be given")]
    Nul(&'static str),
    #[error(transparent)]
    LabelFile(#[from] LabelFileError),
    #[error(transparent)]
    NotYet(#[from] NotYet),
    #[error("a health check's times say nothing without --health-cmd, as the image has no check of its own")]
    HealthWithoutCommand,
}

impl Container {
    /// `id` names the host unless the user does.
    pub(crate) fn new(
        args: &ContainerArgs,
        image: &Config,
        image_health: Option<&HealthCheck>,
        id: &str,
    ) -> Result<Self, ContainerError> {
        args.not_yet.check()?;
        let hostname = match &args.hostname {
            Some(name) if !is_hostname(name) => return Err(ContainerError::BadHostname(name.clone())),
            Some(name) => name.clone(),
            None => id::short(id).to_owned(),
        };
        let command = command(args, image, &hostname)?;
        let mut container = Self {
            command,
            hostname,
            read_only: args.read_only,
            tmpfs: args.tmpfs.clone(),
            memory: args.limits.memory,
            memory_reservation: args.limits.memory_reservation.map(|Bytes(bytes)| bytes),
            cpus: args.limits.cpus,
            pids: args.limits.pids_limit.filter(|most| *most > 0),
            shm_size: args.shm_size.map(|Bytes(bytes)| bytes),
            ulimits: args.ulimit.clone(),
            capabilities: chosen(&args.cap_add, &args.cap_drop),
            seccomp: SeccompChoice::default(),
            no_new_privileges: false,
            stop_signal: stop_signal(args, image)?,
            health: health(&args.health, image_health)?,
            labels: labels(args, image)?,
            annotations: args.annotation.iter().cloned().map(|Label { name, value }| (name, value)).collect(),
        };
        for option in &args.security_opt {
            match option {
                SecurityOpt::Seccomp(choice) => container.seccomp = choice.clone(),
                SecurityOpt::NoNewPrivileges(yes) => container.no_new_privileges = *yes,
            }
        }
        Ok(container)
    }
}

fn command(args: &ContainerArgs, image: &Config, hostname: &str) -> Result<Command, ContainerError> {
    let wanted = variables(&args.process.env, &args.process.env_file)?;
    let mut environment = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if args.stdio.tty {
        environment.push("TERM=xterm".to_owned());
    }
    for variable in image.env().iter().flatten() {
        set(&mut environment, variable);
    }
    apply(&mut environment, &wanted);

    let of_image = image.working_dir().as_deref().filter(|path| !path.is_empty());
    let directory = args.process.workdir.as_deref().or(of_image).unwrap_or("/");
    let user = args.process.user.as_deref().or(image.user().as_deref()).unwrap_or_default();
    Command {
        args: program(args, image),
        environment,
        directory: directory.into(),
        user: user.to_owned(),
        terminal: args.stdio.tty,
    }
    .checked()
}

/// An entrypoint of the user's takes the image's command away with the image's entrypoint.
fn program(args: &ContainerArgs, image: &Config) -> Vec<String> {
    let entrypoint = match args.entrypoint.as_deref() {
        Some("") => Vec::new(),
        Some(program) => vec![program.to_owned()],
        None => image.entrypoint().clone().unwrap_or_default(),
    };
    let command = if args.entrypoint.is_some() || !args.command().is_empty() {
        args.command().to_vec()
    } else {
        image.cmd().clone().unwrap_or_default()
    };
    [entrypoint, command].concat()
}

fn stop_signal(args: &ContainerArgs, image: &Config) -> Result<Signal, ContainerError> {
    let of_image = image.stop_signal().as_deref().filter(|name| !name.is_empty());
    match (args.stop_signal, of_image) {
        (Some(signal), _) => Ok(signal),
        (None, Some(name)) => name.parse().map_err(ContainerError::StopSignal),
        (None, None) => Ok(Signal::TERM),
    }
}

/// The image's check, changed as the user says; a check of the user's own is Docker's otherwise.
fn health(args: &HealthArgs, image: Option<&HealthCheck>) -> Result<Option<HealthCheck>, ContainerError> {
    let times =
        [args.health_interval, args.health_timeout, args.health_start_period, args.health_start_interval];
    let changed = args.health_retries.is_some() || times.iter().any(Option::is_some);
    let mut check = match (&args.health_cmd, image) {
        _ if args.no_healthcheck => return Ok(None),
        (Some(line), _) => HealthCheck {
            test: vec!["CMD-SHELL".to_owned(), line.clone()],
            ..image.cloned().unwrap_or_default()
        },
        (None, Some(image)) => image.clone(),
        (None, None) if changed => return Err(ContainerError::HealthWithoutCommand),
        (None, None) => return Ok(None),
    };
    let [interval, timeout, start_period, start_interval] = times;
    for (wanted, known) in [
        (interval, &mut check.interval),
        (timeout, &mut check.timeout),
        (start_period, &mut check.start_period),
        (start_interval, &mut check.start_interval),
    ] {
        *known = wanted.unwrap_or(*known);
    }
    check.retries = args.health_retries.unwrap_or(check.retries);
    Ok(check.command().is_some().then_some(check))
}

/// The image's, then the files', then the flags'; of several of one name the last counts.
fn labels(args: &ContainerArgs, image: &Config) -> Result<BTreeMap<String, String>, ContainerError> {
    let mut labels: BTreeMap<String, String> = image.labels().iter().flatten().map(own).collect();
    for file in &args.label_file {
        labels.extend(label::read_file(file)?.into_iter().map(|Label { name, value }| (name, value)));
    }
    labels.extend(args.label.iter().cloned().map(|Label { name, value }| (name, value)));
    Ok(labels)
}

fn own((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

impl Command {
    /// A further process like the one described by these, changed as the user says.
    pub(crate) fn further(
        like: &Command,
        process: &ProcessArgs,
        args: &[String],
        terminal: bool,
    ) -> Result<Self, ContainerError> {
        let wanted = variables(&process.env, &process.env_file)?;
        let mut environment = like.environment.clone();
        if terminal && !like.terminal {
            set(&mut environment, "TERM=xterm");
        }
        apply(&mut environment, &wanted);
        Command {
            args: args.to_vec(),
            environment,
            directory: process.workdir.as_ref().map_or_else(|| like.directory.clone(), PathBuf::from),
            user: process.user.clone().unwrap_or_else(|| like.user.clone()),
            terminal,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, ContainerError> {
        if self.args.first().is_none_or(String::is_empty) {
            return Err(ContainerError::NoCommand);
        }
        if !self.directory.is_absolute() {
            return Err(ContainerError::RelativeDirectory(self.directory.display().to_string()));
        }
        let has_nul = |strings: &[String]| strings.iter().any(|string| string.contains('\0'));
        if has_nul(&self.args) {
            return Err(ContainerError::Nul("the command"));
        }
        if has_nul(&self.environment) {
            return Err(ContainerError::Nul("the environment"));
        }
        Ok(self)
    }
}

/// What files and flags say of variables; flags come last and so win.
fn variables(flags: &[Variable], files: &[PathBuf]) -> Result<Vec<Variable>, EnvFileError> {
    let mut variables = Vec::new();
    for file in files {
        // A file cannot take a variable away, a flag can.
        let read = environment::read_file(file)?;
        variables.extend(read.into_iter().filter(|variable| match variable {
            Variable::Set { .. } => true,
            Variable::Inherited { name } => std::env::var(name).is_ok(),
        }));
    }
    variables.extend_from_slice(flags);
    Ok(variables)
}

fn apply(environment: &mut Vec<String>, variables: &[Variable]) {
    for variable in variables {
        match variable {
            Variable::Set { name, value } => set(environment, &format!("{name}={value}")),
            Variable::Inherited { name } => match std::env::var(name) {
                Ok(value) => set(environment, &format!("{name}={value}")),
                Err(_) => environment.retain(|known| name_of(known) != name),
            },
        }
    }
}

/// Sets a variable in its old place, or a new one at the end.
fn set(environment: &mut Vec<String>, variable: &str) {
    match environment.iter_mut().find(|known| name_of(known) == name_of(variable)) {
        Some(known) => *known = variable.to_owned(),
        None => environment.push(variable.to_owned()),
    }
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

fn is_hostname(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !name.is_empty()
        && name.len() <= MAX_HOSTNAME
        && name.chars().all(allowed)
        && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command as Verb};

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn container(arguments: &[&str], image: &str) -> Result<Container, ContainerError> {
        let cli = Cli::try_parse_from(["bulkhead", "run"].iter().chain(arguments)).unwrap();
        let Verb::Run(args) = cli.command else { panic!("not run") };
        Container::new(&args.container, &serde_json::from_str(image).unwrap(), None, ID)
    }

    fn args(arguments: &[&str], image: &str) -> Vec<String> {
        container(arguments, image).unwrap().command.args
    }

    #[test]
    fn entrypoint_and_command_go_as_with_docker() {
        let image = r#"{"Entrypoint":["/entry","-e"],"Cmd":["default"]}"#;
        assert_eq!(args(&["i"], image), ["/entry", "-e", "default"]);
        assert_eq!(args(&["i", "own"], image), ["/entry", "-e", "own"]);
        assert_eq!(args(&["--entrypoint", "sh", "i"], image), ["sh"]);
        assert_eq!(args(&["--entrypoint", "sh", "i", "-c", "x"], image), ["sh", "-c", "x"]);
        assert_eq!(args(&["--entrypoint", "", "i", "own"], image), ["own"]);
    }

    #[test]
    fn no_command_at_all_is_an_error() {
        for (arguments, image) in [
            (&["i"][..], "{}"),
            (&["i"], r#"{"Cmd":null,"Entrypoint":[]}"#),
            (&["--entrypoint", "", "i"], r#"{"Cmd":["sh"]}"#),
            (&["i", ""], "{}"),
        ] {
            assert!(matches!(container(arguments, image), Err(ContainerError::NoCommand)), "{image}");
        }
    }

    #[test]
    fn the_environment_is_docker_s_then_the_image_s_then_the_user_s() {
        let image = r#"{"Cmd":["x"],"Env":["PATH=/image","A=image","B=image"]}"#;
        let environment = |arguments: &[&str]| container(arguments, image).unwrap().command.environment;
        let hostname = "HOSTNAME=0123456789ab";
        assert_eq!(environment(&["i"]), ["PATH=/image", hostname, "A=image", "B=image"]);
        assert_eq!(
            environment(&["-t", "-e", "A=user", "-e", "C=", "i"]),
            ["PATH=/image", hostname, "TERM=xterm", "A=user", "B=image", "C="]
        );
        // Not set where the tests run: taken away.
        assert_eq!(
            environment(&["-e", "A", "-e", "HOSTNAME=h", "i"]),
            ["PATH=/image", "HOSTNAME=h", "B=image"]
        );
    }

    #[test]
    fn flags_win_over_files_of_variables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "A=file\nB=file\nBULKHEAD_TEST_UNSET\n").unwrap();
        let path = file.path().to_str().unwrap();
        let container = container(&["-e", "A=flag", "--env-file", path, "i"], r#"{"Cmd":["x"]}"#).unwrap();
        assert_eq!(container.command.environment.get(2..).unwrap(), ["A=flag", "B=file"]);
    }

    #[test]
    fn directory_user_and_stop_signal_of_the_image_hold_until_overruled() {
        let image = r#"{"Cmd":["x"],"WorkingDir":"/srv","User":"web","StopSignal":"SIGQUIT"}"#;
        let of_image = container(&["i"], image).unwrap();
        assert_eq!(
            (of_image.command.directory.to_str(), of_image.command.user.as_str()),
            (Some("/srv"), "web")
        );
        assert_eq!(of_image.stop_signal.number(), 3);
        let own = container(&["-w", "/tmp", "-u", "5:6", "--stop-signal", "INT", "i"], image).unwrap();
        assert_eq!((own.command.directory.to_str(), own.command.user.as_str()), (Some("/tmp"), "5:6"));
        assert_eq!(own.stop_signal.number(), 2);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let image = r#"{"Cmd":["x"]}"#;
        assert!(matches!(container(&["-w", "tmp", "i"], image), Err(ContainerError::RelativeDirectory(_))));
        assert!(matches!(container(&["-h", "a b", "i"], image), Err(ContainerError::BadHostname(_))));
        let nul = r#"{"Cmd":["x\u0000y"]}"#;
        assert!(matches!(container(&["i"], nul), Err(ContainerError::Nul(_))));
        let signal = r#"{"Cmd":["x"],"StopSignal":"SIGNONE"}"#;
        assert!(matches!(container(&["i"], signal), Err(ContainerError::StopSignal(_))));
    }
}
