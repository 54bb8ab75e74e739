//! `bulkhead create`.

use clap::Args;

use super::container::ContainerArgs;

/// Make a container without starting it, and print its id
#[derive(Debug, Args)]
#[command(
    override_usage = "bulkhead create [OPTIONS] IMAGE[:TAG] [COMMAND [ARG]...]",
    disable_help_flag = true,
    after_help = "\
The options are those of `bulkhead run`, and end at IMAGE.

Examples:
  bulkhead create --name web httpd.tar && bulkhead start web
  bulkhead create -it busybox sh"
)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub container: ContainerArgs,
}
