//! `bulkhead cp`.

use clap::Args;

/// Copy files between a container and this machine
#[derive(Debug, Args)]
#[command(
    override_usage = "bulkhead cp [OPTIONS] CONTAINER:PATH DESTINATION|-\n       \
                      bulkhead cp [OPTIONS] SOURCE|- CONTAINER:PATH",
    after_help = "\
A path in the container is resolved inside the container. `-` is a tar archive on standard input or
output. As with Docker, a DESTINATION that is a directory gets the source put into it, a SOURCE that
ends in `/.` is copied as what is in it. The container may be stopped.

Examples:
  bulkhead cp web:/etc/nginx/nginx.conf .
  bulkhead cp site/. web:/srv/www
  bulkhead cp web:/var/log - | tar t"
)]
pub(crate) struct CpArgs {
    /// Keep users and groups by number, as far as this user may
    #[arg(short, long)]
    pub archive: bool,

    /// Copy what a symbolic link at SOURCE leads to
    #[arg(short = 'L', long)]
    pub follow_link: bool,

    /// Print nothing about how far it is
    #[arg(short, long)]
    pub quiet: bool,

    #[arg(value_name = "SOURCE")]
    pub source: String,

    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}
