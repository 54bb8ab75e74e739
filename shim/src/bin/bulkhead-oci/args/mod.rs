//! What can be said on the command line: runc's words, one file for each command.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::log::Format;

mod create;
mod delete;
mod events;
mod exec;
mod id;
mod kill;
mod list;
mod ps;
mod run;
mod spec;
mod update;

pub(crate) use create::{CreateArgs, StartingArgs};
pub(crate) use delete::DeleteArgs;
pub(crate) use events::EventsArgs;
pub(crate) use exec::ExecArgs;
pub(crate) use id::IdArgs;
pub(crate) use kill::KillArgs;
pub(crate) use list::{ListArgs, TableOrJson};
pub(crate) use ps::PsArgs;
pub(crate) use run::RunArgs;
pub(crate) use spec::SpecArgs;
pub(crate) use update::UpdateArgs;

/// Of the OCI runtime specification whose configurations are understood.
pub(crate) const SPEC_VERSION: &str = "1.2.0";

/// In runc's form: the program's name comes before it.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// Run OCI bundles, each in a virtual machine, by runc's command line
#[derive(Debug, Parser)]
#[command(
    name = "bulkhead-oci",
    version = VERSION,
    disable_version_flag = true,
    after_help = "\
A bundle is a directory with a configuration, config.json, and a root file system.

Examples:
  podman --runtime bulkhead-oci run --rm alpine uname -a
  buildah build --runtime bulkhead-oci .
  bulkhead-oci run --bundle /srv/web web"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct GlobalArgs {
    /// Where the states of containers are kept; best in memory [default: /run/bulkhead-oci]
    #[arg(long, value_name = "DIRECTORY")]
    pub root: Option<PathBuf>,

    /// Write what goes wrong to a file too
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    #[arg(long, value_enum, default_value_t, value_name = "FORMAT", help = "The form of the log's lines")]
    pub log_format: Format,

    /// Taken, and of no effect: there is nothing more to say
    #[arg(long)]
    pub debug: bool,

    /// Taken, and of no effect: a path of systemd's form is told by its form
    #[arg(long)]
    pub systemd_cgroup: bool,

    /// Taken, and of no effect
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rootless: Option<String>,

    /// Taken, and of no effect: there are no checkpoints
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub criu: Option<PathBuf>,

    /// Print the version
    #[arg(short, long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    /// Start the process of a container that was created
    #[command(after_help = "Examples:\n  bulkhead-oci start web")]
    Start(IdArgs),
    /// Print the state of a container in JSON
    #[command(after_help = "Examples:\n  bulkhead-oci state web")]
    State(IdArgs),
    Kill(KillArgs),
    Delete(DeleteArgs),
    Exec(ExecArgs),
    Ps(PsArgs),
    List(ListArgs),
    /// Stop all processes of a container where they are
    #[command(after_help = "Examples:\n  bulkhead-oci pause web")]
    Pause(IdArgs),
    /// Let the processes of a paused container go on
    #[command(after_help = "Examples:\n  bulkhead-oci resume web")]
    Resume(IdArgs),
    Update(UpdateArgs),
    Events(EventsArgs),
    /// Print what this runtime can do, in JSON (OCI runtime-spec, features.md)
    Features,
    Spec(SpecArgs),
    Run(RunArgs),
    /// Not supported
    #[command(disable_help_flag = true, hide = true)]
    Checkpoint(Unsupported),
    /// Not supported
    #[command(disable_help_flag = true, hide = true)]
    Restore(Unsupported),
}

/// Whatever is said, it is refused.
#[derive(Debug, Args)]
pub(crate) struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _anything: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_conmon_and_containerd_say_is_understood() {
        let line = "bulkhead-oci --root /run/x --log /b/log --log-format json --systemd-cgroup create --bundle /b \
                    --no-pivot --no-new-keyring --pid-file /b/pid --console-socket /b/c --preserve-fds 0 abc";
        let Cli { global, command: Command::Create(args) } = parse(line) else { panic!() };
        assert_eq!((global.log_format, global.root), (Format::Json, Some("/run/x".into())));
        assert_eq!(args.id, "abc");
        assert_eq!(args.starting.bundle, PathBuf::from("/b"));
        let line =
            "bulkhead-oci --log-format=json --log=/l exec --pid-file /p --process /f --detach --tty abc";
        let Command::Exec(exec) = parse(line).command else { panic!() };
        assert!(exec.detach && exec.process == Some("/f".into()) && exec.command.is_empty());
        parse("bulkhead-oci kill --all abc 9");
        parse("bulkhead-oci kill abc SIGTERM");
        parse("bulkhead-oci delete --force abc");
        parse("bulkhead-oci --rootless=true state abc");
        parse("bulkhead-oci ps --format json abc");
        parse("bulkhead-oci events --stats abc");
    }

    #[test]
    fn a_commands_own_options_are_not_ours() {
        let Command::Exec(exec) = parse("bulkhead-oci exec -e A=1 --env B=2 -u 1:2 abc ls -l --all").command
        else {
            panic!()
        };
        assert_eq!((exec.id.as_str(), exec.env.len()), ("abc", 2));
        assert_eq!(exec.command, ["ls", "-l", "--all"]);
    }

    #[test]
    fn unlimited_is_written_as_minus_one() {
        let line = "bulkhead-oci update --memory -1 --memory-swap=-1 --pids-limit -1 --cpu-quota -1 abc";
        let Command::Update(update) = parse(line).command else { panic!() };
        assert_eq!((update.memory.as_deref(), update.pids_limit), (Some("-1"), Some(-1)));
    }

    #[test]
    fn the_version_is_told_as_runc_does() {
        for flag in ["-v", "--version"] {
            let told = Cli::try_parse_from(["bulkhead-oci", flag]).unwrap_err().to_string();
            let lines: Vec<_> = told.lines().collect();
            assert_eq!(lines.first().unwrap(), &concat!("bulkhead-oci version ", env!("CARGO_PKG_VERSION")));
            assert_eq!(lines.get(1).unwrap(), &format!("spec: {SPEC_VERSION}"));
        }
    }
}
