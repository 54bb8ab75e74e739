//! The command line: what can be said, in Docker's words.

use clap::{Parser, Subcommand};

mod completion;
mod cpus;
mod doctor;
pub(crate) mod environment;
mod exec;
mod kill;
mod memory;
mod ps;
mod run;
mod security_opt;
mod signal;
mod tmpfs;
mod ulimit;

pub(crate) use completion::CompletionArgs;
pub(crate) use cpus::{Cpus, PERIOD_US};
pub(crate) use doctor::DoctorArgs;
pub(crate) use environment::Variable;
pub(crate) use exec::ExecArgs;
pub(crate) use kill::KillArgs;
pub(crate) use memory::Memory;
pub(crate) use ps::{Format, PsArgs};
pub(crate) use run::{ProcessArgs, RunArgs, StdioArgs, TimingFormat};
pub(crate) use security_opt::{SeccompChoice, SecurityOpt};
pub(crate) use signal::{Signal, SignalError};
pub(crate) use tmpfs::Tmpfs;
pub(crate) use ulimit::Ulimit;

/// Run containers, each in a virtual machine of its own
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  bulkhead run busybox.tar echo hello
  bulkhead run -it --memory 256m ./debian-layout:latest bash
  bulkhead doctor

Exit codes of run and exec: the command's own; 125 when Bulkhead failed, 126 when the command
cannot be executed, 127 when it was not found, 128 + n when signal n ended it.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<RunArgs>),
    Exec(ExecArgs),
    Ps(PsArgs),
    Kill(KillArgs),
    Doctor(DoctorArgs),
    Completion(CompletionArgs),
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_shows_examples() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  bulkhead "), "{}", command.get_name());
        }
    }
}
