//! The verbs that look into containers, take out of them and put into them.

use clap::Subcommand;

use super::{CommitArgs, CpArgs, DiffArgs, ExportArgs, PauseArgs, StatsArgs, TopArgs, UnpauseArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum InsideVerb {
    Commit(CommitArgs),
    Cp(CpArgs),
    Diff(DiffArgs),
    Export(ExportArgs),
    Pause(PauseArgs),
    Stats(StatsArgs),
    Top(TopArgs),
    Unpause(UnpauseArgs),
}
