//! `bulkhead doctor`.

use clap::{Args, ValueEnum};

/// Say whether this machine can run microVMs, and what to do if not
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 0 when sandboxes can run here, else with 1.

Examples:
  bulkhead doctor
  bulkhead doctor --quiet && bulkhead run busybox.tar true")]
pub(crate) struct DoctorArgs {
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = DoctorFormat::Table)]
    pub format: DoctorFormat,

    /// Print nothing: the exit code tells
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people
    Table,
    /// For programs: one JSON array
    Json,
}
