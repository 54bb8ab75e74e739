//! `bulkhead run`.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::{Cpus, Memory, SecurityOpt, Signal, Tmpfs, Ulimit, Variable};
use crate::spec::capabilities::CapabilityName;

/// Run a command in a new container, in a virtual machine of its own
#[derive(Debug, Args)]
#[command(
    override_usage = "bulkhead run [OPTIONS] IMAGE[:TAG] [COMMAND [ARG]...]",
    disable_help_flag = true,
    after_help = "\
IMAGE is an OCI image layout (a directory) or an archive made by `docker save`, `podman save` or
`skopeo copy`. Options end at IMAGE: what follows is the command's.

Signals that Bulkhead gets go on to the command; SIGTERM as the image's stop signal, if it has one.

Examples:
  bulkhead run busybox.tar echo hello
  bulkhead run -it --read-only --tmpfs /tmp debian.tar:latest bash
  bulkhead run -m 256m --cpus 0.5 -u nobody --cap-drop ALL debian.tar python3 -c 'print(2**100)'
  tar c src | bulkhead run -i -w /build --entrypoint '' builder.tar sh -c 'tar x && make'"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub stdio: StdioArgs,

    #[command(flatten)]
    pub process: ProcessArgs,

    /// Run this program instead of the image's entrypoint; empty: none
    #[arg(long, value_name = "PROGRAM", help_heading = "Process")]
    pub entrypoint: Option<String>,

    /// The signal that asks the command to end, sent to it when Bulkhead gets SIGTERM
    #[arg(long, value_name = "SIGNAL", help_heading = "Process")]
    pub stop_signal: Option<Signal>,

    /// Host name inside [default: the first 12 digits of the id]
    #[arg(short = 'h', long, value_name = "NAME", help_heading = "Sandbox")]
    pub hostname: Option<String>,

    /// What exec, ps and kill call the sandbox [default: the first 12 digits of its id]
    #[arg(long, help_heading = "Sandbox")]
    pub name: Option<String>,

    /// Make the root file system read-only
    #[arg(long, help_heading = "Files")]
    pub read_only: bool,

    /// Mount a directory in memory, such as /tmp or /run:size=64m,exec
    #[arg(long, value_name = "PATH[:OPTIONS]", help_heading = "Files")]
    pub tmpfs: Vec<Tmpfs>,

    /// Memory the container may use, in b, k, m or g [default: what its machine has, 512 MiB]
    #[arg(short, long, value_name = "BYTES", help_heading = "Limits")]
    pub memory: Option<Memory>,

    /// Processors the container may use, such as 2 or 0.5 [default: 1]
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    pub cpus: Option<Cpus>,

    /// Limit a resource of each process, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "Limits")]
    pub ulimit: Vec<Ulimit>,

    /// Give a capability, such as NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Privileges")]
    pub cap_add: Vec<CapabilityName>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Privileges")]
    pub cap_drop: Vec<CapabilityName>,

    /// seccomp=unconfined, seccomp=PROFILE.json (Docker's format or the OCI's), or no-new-privileges
    #[arg(long, value_name = "OPTION", help_heading = "Privileges")]
    pub security_opt: Vec<SecurityOpt>,

    /// Show on stderr when each step of the start was done; json: as one line, for programs
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "table"
    )]
    pub timing: Option<TimingFormat>,

    /// Accepted for Docker's sake: nothing of a sandbox ever stays
    #[arg(long)]
    rm: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    // One list, as that is what makes options end at the image.
    #[arg(value_names = ["IMAGE", "COMMAND"], required = true, num_args = 1.., trailing_var_arg = true, hide = true)]
    image_and_command: Vec<String>,
}

/// How the user's streams are wired.
#[derive(Debug, Args)]
pub(crate) struct StdioArgs {
    /// Pass standard input on
    #[arg(short, long, help_heading = "Streams")]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(short, long, help_heading = "Streams")]
    pub tty: bool,
}

/// What a process may be told.
#[derive(Debug, Args)]
pub(crate) struct ProcessArgs {
    /// Set an environment variable; without a value, pass Bulkhead's own on
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    pub env: Vec<Variable>,

    /// Read environment variables from a file, one a line
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub env_file: Vec<PathBuf>,

    /// Working directory
    #[arg(short, long, value_name = "PATH", help_heading = "Process")]
    pub workdir: Option<String>,

    /// User, and group, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]", help_heading = "Process")]
    pub user: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimingFormat {
    Table,
    Json,
}

impl RunArgs {
    pub(crate) fn image(&self) -> &str {
        self.image_and_command.first().map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, SeccompChoice};

    fn run(arguments: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from(["bulkhead", "run"].iter().chain(arguments)).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        *args
    }

    #[test]
    fn options_end_at_the_image() {
        let args = run(&["-it", "--name", "a", "image.tar", "sh", "-i", "--name", "b", "--", "-x"]);
        assert!(args.stdio.interactive && args.stdio.tty);
        assert_eq!((args.name.as_deref(), args.image()), (Some("a"), "image.tar"));
        assert_eq!(args.command(), ["sh", "-i", "--name", "b", "--", "-x"]);
        assert_eq!(run(&["image.tar", "--version"]).command(), ["--version"]);
        assert!(run(&["image.tar"]).command().is_empty());
    }

    #[test]
    fn docker_s_spellings_are_understood() {
        let args = run(&[
            "--rm",
            "-m256m",
            "--cpus=1.5",
            "-eA=1",
            "-e",
            "B",
            "-h",
            "box",
            "-w",
            "/tmp",
            "-u",
            "1000:5",
            "--entrypoint",
            "",
            "--cap-add=net_admin",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "seccomp=unconfined",
            "--ulimit",
            "core=0",
            "--stop-signal",
            "SIGQUIT",
            "--tmpfs",
            "/run",
            "i",
        ]);
        assert_eq!(args.memory, Some(Memory(256 << 20)));
        assert_eq!((args.process.env.len(), args.process.workdir.as_deref()), (2, Some("/tmp")));
        assert_eq!((args.hostname.as_deref(), args.entrypoint.as_deref()), (Some("box"), Some("")));
        assert_eq!(args.cap_drop, [CapabilityName::All]);
        assert_eq!(args.security_opt, [SecurityOpt::Seccomp(SeccompChoice::Unconfined)]);
        assert_eq!(args.stop_signal.map(Signal::number), Some(3));
        assert_eq!(args.timing, None);
    }

    #[test]
    fn timing_takes_its_format_after_an_equals_sign_only() {
        let args = run(&["--timing", "json", "sh"]);
        assert_eq!((args.timing, args.image()), (Some(TimingFormat::Table), "json"));
        assert_eq!(run(&["--timing=json", "i"]).timing, Some(TimingFormat::Json));
    }

    #[test]
    fn an_unknown_option_before_the_image_is_an_error() {
        assert!(Cli::try_parse_from(["bulkhead", "run", "--privileged", "i"]).is_err());
        assert!(Cli::try_parse_from(["bulkhead", "run"]).is_err());
    }
}
