//! The commands that want nothing but a container.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,
}
