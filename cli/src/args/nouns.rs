//! Docker's longer way to say the same: `bulkhead image ls`, `bulkhead container rm`, `bulkhead system df`.

use clap::{Args, Subcommand};

use super::*;

/// The verbs about containers, by their longer name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead container ls -a
  bulkhead container prune")]
pub(crate) struct ContainerNounArgs {
    #[command(subcommand)]
    verb: ContainerNoun,
}

/// The verbs about images, by their longer name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead image ls
  bulkhead image prune -a")]
pub(crate) struct ImageNounArgs {
    #[command(subcommand)]
    verb: ImageNoun,
}

/// The verbs about the disk, by their longer name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead system df
  bulkhead system prune")]
pub(crate) struct SystemNounArgs {
    #[command(subcommand)]
    verb: SystemNoun,
}

#[derive(Debug, Subcommand)]
enum ContainerNoun {
    Attach(AttachArgs),
    Commit(CommitArgs),
    Cp(CpArgs),
    Create(Box<CreateArgs>),
    Diff(DiffArgs),
    Exec(ExecArgs),
    Export(ExportArgs),
    Inspect(InspectArgs),
    Kill(KillArgs),
    Logs(LogsArgs),
    #[command(alias = "list", alias = "ps")]
    Ls(PsArgs),
    Pause(PauseArgs),
    Port(PortArgs),
    Prune(ContainerPruneArgs),
    Rename(RenameArgs),
    Restart(RestartArgs),
    #[command(alias = "remove")]
    Rm(RmArgs),
    Run(Box<RunArgs>),
    Start(StartArgs),
    Stats(StatsArgs),
    Stop(StopArgs),
    Top(TopArgs),
    Unpause(UnpauseArgs),
    Wait(WaitArgs),
}

#[derive(Debug, Subcommand)]
enum ImageNoun {
    History(HistoryArgs),
    Import(ImportArgs),
    Inspect(InspectArgs),
    Load(LoadArgs),
    #[command(alias = "list")]
    Ls(ImagesArgs),
    Prune(ImagePruneArgs),
    Pull(PullArgs),
    Push(PushArgs),
    #[command(alias = "remove")]
    Rm(RmiArgs),
    Save(SaveArgs),
    Tag(TagArgs),
}

#[derive(Debug, Subcommand)]
enum SystemNoun {
    Df(DfArgs),
    Events(EventsArgs),
    Prune(PruneArgs),
}

impl ContainerNounArgs {
    pub(super) fn short(self) -> Command {
        let inside = Command::Inside;
        match self.verb {
            ContainerNoun::Attach(args) => Command::Attach(args),
            ContainerNoun::Commit(args) => inside(InsideVerb::Commit(args)),
            ContainerNoun::Cp(args) => inside(InsideVerb::Cp(args)),
            ContainerNoun::Create(args) => Command::Create(args),
            ContainerNoun::Diff(args) => inside(InsideVerb::Diff(args)),
            ContainerNoun::Exec(args) => Command::Exec(args),
            ContainerNoun::Export(args) => inside(InsideVerb::Export(args)),
            ContainerNoun::Inspect(args) => Command::Image(ImageVerb::Inspect(args.only(Kind::Container))),
            ContainerNoun::Kill(args) => Command::Kill(args),
            ContainerNoun::Logs(args) => Command::Logs(args),
            ContainerNoun::Ls(args) => Command::Ps(args),
            ContainerNoun::Pause(args) => inside(InsideVerb::Pause(args)),
            ContainerNoun::Port(args) => Command::Port(args),
            ContainerNoun::Prune(args) => Command::Image(ImageVerb::ContainerPrune(args)),
            ContainerNoun::Rename(args) => Command::Rename(args),
            ContainerNoun::Restart(args) => Command::Restart(args),
            ContainerNoun::Rm(args) => Command::Rm(args),
            ContainerNoun::Run(args) => Command::Run(args),
            ContainerNoun::Start(args) => Command::Start(args),
            ContainerNoun::Stats(args) => inside(InsideVerb::Stats(args)),
            ContainerNoun::Stop(args) => Command::Stop(args),
            ContainerNoun::Top(args) => inside(InsideVerb::Top(args)),
            ContainerNoun::Unpause(args) => inside(InsideVerb::Unpause(args)),
            ContainerNoun::Wait(args) => Command::Wait(args),
        }
    }
}

impl ImageNounArgs {
    pub(super) fn short(self) -> Command {
        Command::Image(match self.verb {
            ImageNoun::History(args) => ImageVerb::History(args),
            ImageNoun::Import(args) => ImageVerb::Import(args),
            ImageNoun::Inspect(args) => ImageVerb::Inspect(args.only(Kind::Image)),
            ImageNoun::Load(args) => ImageVerb::Load(args),
            ImageNoun::Ls(args) => ImageVerb::Images(args),
            ImageNoun::Prune(args) => ImageVerb::ImagePrune(args),
            ImageNoun::Pull(args) => ImageVerb::Pull(args),
            ImageNoun::Push(args) => ImageVerb::Push(args),
            ImageNoun::Rm(args) => ImageVerb::Rmi(args),
            ImageNoun::Save(args) => ImageVerb::Save(args),
            ImageNoun::Tag(args) => ImageVerb::Tag(args),
        })
    }
}

impl SystemNounArgs {
    pub(super) fn short(self) -> Command {
        match self.verb {
            SystemNoun::Df(args) => Command::Image(ImageVerb::Df(args)),
            SystemNoun::Events(args) => Command::Events(args),
            SystemNoun::Prune(args) => Command::Image(ImageVerb::Prune(args)),
        }
    }
}
