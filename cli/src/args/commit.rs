//! `bulkhead commit`.

use clap::{ArgAction, Args};

/// Make an image of a container's changes
#[derive(Debug, Args)]
#[command(after_help = "\
The new image has one layer more than the container's: what the container added, changed and deleted.
Its processes are paused while it is read, unless --pause=false says otherwise.

Examples:
  bulkhead commit web web:patched
  bulkhead commit -m 'with tools' -c 'CMD [\"bash\"]' -c 'ENV PATH=/opt/bin:/bin' web localhost:5000/web:2")]
pub(crate) struct CommitArgs {
    /// Who made it, such as 'Ann <ann@example.com>'
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub author: String,

    /// Change the configuration, as a Dockerfile's CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME
    /// or WORKDIR does
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,

    /// What was done
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,

    /// Pause the container meanwhile
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub pause: bool,

    #[arg(value_name = "CONTAINER")]
    pub container: String,

    /// The new image's name [default: none, only its id]
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}
