//! `--pull` of run and create.

use clap::ValueEnum;

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// Each time: what was pulled before may have been replaced there
    Always,
    /// When it is not here
    #[default]
    Missing,
    Never,
}
