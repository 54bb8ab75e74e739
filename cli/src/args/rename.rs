//! `bulkhead rename`.

use clap::Args;

/// Give a container another name
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead rename web web-old")]
pub(crate) struct RenameArgs {
    pub container: String,

    #[arg(value_name = "NAME")]
    pub name: String,
}
