//! `bulkhead exec`.

use clap::Args;

use super::process::{ProcessArgs, StdioArgs};

/// Run a further command in a running container
#[derive(Debug, Args)]
#[command(
    override_usage = "bulkhead exec [OPTIONS] CONTAINER COMMAND [ARG]...",
    after_help = "\
CONTAINER is a name, an id, or the beginning of one, as `bulkhead ps` shows them. The command gets
the container's environment, working directory and user unless told otherwise.

Examples:
  bulkhead exec web ps aux
  bulkhead exec -it -u root -w /etc web sh"
)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub stdio: StdioArgs,

    #[command(flatten)]
    pub process: ProcessArgs,

    // One list, as that is what makes options end at the container.
    #[arg(value_names = ["CONTAINER", "COMMAND"], required = true, num_args = 2.., trailing_var_arg = true, hide = true)]
    container_and_command: Vec<String>,
}

impl ExecArgs {
    pub(crate) fn container(&self) -> &str {
        self.container_and_command.first().map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn command(&self) -> &[String] {
        self.container_and_command.get(1..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Cli, Command};

    #[test]
    fn options_end_at_the_container() {
        let cli = Cli::try_parse_from(["bulkhead", "exec", "-it", "web", "ls", "-t"]).unwrap();
        let Command::Exec(args) = cli.command else { panic!("not exec") };
        assert_eq!((args.container(), args.command()), ("web", &["ls".to_owned(), "-t".to_owned()][..]));
    }

    #[test]
    fn a_command_is_needed() {
        assert!(Cli::try_parse_from(["bulkhead", "exec", "web"]).is_err());
    }
}
