//! Flags of Docker's that wait for what they are about: refused, and not for being mistyped.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct NotYetArgs {
    #[arg(short, long, hide = true)]
    publish: Vec<String>,

    #[arg(short = 'P', long, hide = true)]
    publish_all: bool,

    /// none: loopback alone, which is what every container has so far
    #[arg(long, alias = "net", value_name = "NETWORK", help_heading = "Network")]
    network: Vec<String>,

    #[arg(short, long, hide = true)]
    volume: Vec<String>,

    #[arg(long, hide = true)]
    mount: Vec<String>,

    #[arg(long, hide = true)]
    volumes_from: Vec<String>,

    #[arg(long, hide = true)]
    device: Vec<String>,

    #[arg(long, hide = true)]
    gpus: Option<String>,

    #[arg(long, hide = true)]
    privileged: bool,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not yet: {flag} comes with {with}")]
pub(crate) struct NotYet {
    flag: &'static str,
    with: &'static str,
}

impl NotYetArgs {
    pub(crate) fn check(&self) -> Result<(), NotYet> {
        const NETWORKING: &str = "networking";
        const VOLUMES: &str = "volumes";
        const DEVICES: &str = "devices passed through";
        let network = self.network.iter().any(|network| network != "none");
        [
            (!self.publish.is_empty(), "--publish", NETWORKING),
            (self.publish_all, "--publish-all", NETWORKING),
            (network, "--network other than none", NETWORKING),
            (!self.volume.is_empty(), "--volume", VOLUMES),
            (!self.mount.is_empty(), "--mount", VOLUMES),
            (!self.volumes_from.is_empty(), "--volumes-from", VOLUMES),
            (!self.device.is_empty(), "--device", DEVICES),
            (self.gpus.is_some(), "--gpus", DEVICES),
            (self.privileged, "--privileged", DEVICES),
        ]
        .into_iter()
        .find(|(wanted, ..)| *wanted)
        .map_or(Ok(()), |(_, flag, with)| Err(NotYet { flag, with }))
    }
}
