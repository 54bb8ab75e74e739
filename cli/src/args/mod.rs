//! The command line: what can be said, in Docker's words.

use clap::{Parser, Subcommand};

mod bytes;
mod commit;
mod completion;
mod container;
mod cp;
mod cpus;
mod create;
mod detach_keys;
mod device;
mod df;
mod diff;
#[cfg(test)]
mod docker_table;
mod doctor;
pub(crate) mod environment;
mod events;
mod exec;
mod export;
mod filter;
mod fork;
mod groups;
mod health;
mod history;
mod host_entry;
mod image_verb;
mod images;
mod import;
mod inside_verb;
mod inspect;
mod kill;
pub(crate) mod label;
mod limits;
mod load;
mod log_options;
mod login;
mod logout;
mod logs;
mod machine_template;
mod memory;
mod moment;
mod not_yet;
mod nouns;
mod pause;
mod port;
mod process;
mod prune;
mod ps;
mod pull;
mod pull_policy;
mod push;
mod rename;
mod rm;
mod rmi;
mod run;
mod save;
mod security_opt;
mod signal;
mod snapshot;
mod span;
mod start;
mod stats;
mod stop;
mod tag;
mod tmpfs;
mod top;
mod ulimit;
mod unpause;
mod wait;

pub(crate) use bytes::Bytes;
pub(crate) use commit::CommitArgs;
pub(crate) use completion::CompletionArgs;
pub(crate) use container::{ContainerArgs, StreamName};
pub(crate) use cp::CpArgs;
pub(crate) use cpus::{Cpus, PERIOD_US};
pub(crate) use create::CreateArgs;
pub(crate) use detach_keys::DetachKeys;
pub(crate) use device::{DeviceBytes, DeviceRate};
pub(crate) use df::DfArgs;
pub(crate) use diff::DiffArgs;
pub(crate) use doctor::{DoctorArgs, DoctorFormat};
pub(crate) use environment::Variable;
pub(crate) use events::EventsArgs;
pub(crate) use exec::ExecArgs;
pub(crate) use export::ExportArgs;
pub(crate) use filter::Filter;
pub(crate) use fork::ForkArgs;
pub(crate) use groups::grouped;
pub(crate) use health::HealthArgs;
pub(crate) use history::HistoryArgs;
pub(crate) use host_entry::HostEntry;
pub(crate) use image_verb::ImageVerb;
pub(crate) use images::ImagesArgs;
pub(crate) use import::ImportArgs;
pub(crate) use inside_verb::InsideVerb;
pub(crate) use inspect::{InspectArgs, Kind};
pub(crate) use kill::KillArgs;
pub(crate) use label::Label;
pub(crate) use load::LoadArgs;
pub(crate) use login::LoginArgs;
pub(crate) use logout::LogoutArgs;
pub(crate) use logs::{LogsArgs, Tail};
pub(crate) use machine_template::{
    TemplateArgs, TemplateBuildArgs, TemplateLsArgs, TemplateRmArgs, TemplateVerb,
};
pub(crate) use memory::Memory;
pub(crate) use moment::{Moment, MomentError};
pub(crate) use not_yet::NotYet;
pub(crate) use nouns::{ContainerNounArgs, ImageNounArgs, SystemNounArgs};
pub(crate) use pause::PauseArgs;
pub(crate) use port::PortArgs;
pub(crate) use process::{ProcessArgs, StdioArgs};
pub(crate) use prune::{ContainerPruneArgs, ImagePruneArgs, PruneArgs, PruneChoice};
pub(crate) use ps::PsArgs;
pub(crate) use pull::PullArgs;
pub(crate) use pull_policy::Pull;
pub(crate) use push::PushArgs;
pub(crate) use rename::RenameArgs;
pub(crate) use rm::RmArgs;
pub(crate) use rmi::RmiArgs;
pub(crate) use run::{ForegroundArgs, RunArgs, TimingFormat};
pub(crate) use save::SaveArgs;
pub(crate) use security_opt::{SeccompChoice, SecurityOpt};
pub(crate) use signal::{Signal, SignalError};
pub(crate) use snapshot::{SnapshotArgs, SnapshotCreateArgs, SnapshotLsArgs, SnapshotVerb};
pub(crate) use start::{AttachArgs, StartArgs};
pub(crate) use stats::StatsArgs;
pub(crate) use stop::{RestartArgs, StopArgs, StopHow};
pub(crate) use tag::TagArgs;
pub(crate) use tmpfs::Tmpfs;
pub(crate) use top::TopArgs;
pub(crate) use ulimit::Ulimit;
pub(crate) use unpause::UnpauseArgs;
pub(crate) use wait::WaitArgs;

/// Run containers, each in a virtual machine of its own
#[derive(Debug, Parser)]
#[command(name = "bulkhead", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  bulkhead run busybox echo hello
  bulkhead run -d --name web nginx && bulkhead logs -f web
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
    Create(Box<CreateArgs>),
    Start(StartArgs),
    Attach(AttachArgs),
    Exec(ExecArgs),
    Ps(PsArgs),
    Logs(LogsArgs),
    Wait(WaitArgs),
    Stop(StopArgs),
    Restart(RestartArgs),
    Kill(KillArgs),
    Rename(RenameArgs),
    Port(PortArgs),
    Rm(RmArgs),
    Events(EventsArgs),
    #[command(flatten)]
    Inside(InsideVerb),
    #[command(flatten)]
    Image(ImageVerb),
    #[command(name = "container")]
    ContainerNoun(ContainerNounArgs),
    #[command(name = "image")]
    ImageNoun(ImageNounArgs),
    #[command(name = "system")]
    SystemNoun(SystemNounArgs),
    Fork(ForkArgs),
    Snapshot(SnapshotArgs),
    Template(TemplateArgs),
    Doctor(DoctorArgs),
    Completion(CompletionArgs),
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

impl Command {
    /// The same by its shorter name.
    pub(crate) fn short(self) -> Self {
        match self {
            Self::ContainerNoun(noun) => noun.short(),
            Self::ImageNoun(noun) => noun.short(),
            Self::SystemNoun(noun) => noun.short(),
            short => short,
        }
    }
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
