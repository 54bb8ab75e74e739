//! `bulkhead import`.

use clap::Args;

use images::Platform;

/// Make an image of a root file system in a tar archive
#[derive(Debug, Args)]
#[command(after_help = "\
The archive may be compressed with gzip or zstd. It becomes the image's one layer.

Examples:
  bulkhead import rootfs.tar.gz mine:1
  tar c -C rootfs . | bulkhead import -c 'CMD [\"sh\"]' - mine")]
pub(crate) struct ImportArgs {
    /// Set the configuration, as a Dockerfile's CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or
    /// WORKDIR does
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,

    /// What was done
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,

    /// What the programs in it are made for, such as linux/amd64
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<Platform>,

    /// `-`: standard input
    #[arg(value_name = "FILE|-")]
    pub file: String,

    /// The new image's name [default: none, only its id]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}
