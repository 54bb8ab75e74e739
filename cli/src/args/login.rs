//! `bulkhead login`.

use clap::Args;

/// Log in to a registry
#[derive(Debug, Args)]
#[command(after_help = "\
The password is kept where Docker keeps it: by the credential helper that ~/.docker/config.json names,
or in that file. Docker's and Podman's logins hold here as well.

Examples:
  bulkhead login
  bulkhead login -u ann ghcr.io
  pass show registry | bulkhead login -u ann --password-stdin localhost:5000")]
pub(crate) struct LoginArgs {
    /// The password; others can see it in the process list: --password-stdin is better
    #[arg(short, long, conflicts_with = "password_stdin", requires = "username")]
    pub password: Option<String>,

    /// Take the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,

    #[arg(short, long)]
    pub username: Option<String>,

    /// The registry's host, and port
    #[arg(value_name = "SERVER", default_value = "docker.io")]
    pub server: String,
}
