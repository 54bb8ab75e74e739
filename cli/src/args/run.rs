//! `bulkhead run`.

use clap::{ArgAction, Args, ValueEnum};

use super::container::ContainerArgs;
use super::detach_keys::DetachKeys;

/// Run a command in a new container, in a virtual machine of its own
#[derive(Debug, Args)]
#[command(
    override_usage = "bulkhead run [OPTIONS] IMAGE[:TAG] [COMMAND [ARG]...]\n       bulkhead run [-d] [--rm] [--name NAME] --from SNAPSHOT",
    disable_help_flag = true,
    after_help = "\
IMAGE is a name in a registry, an OCI image layout (a directory) or an archive made by `docker save`,
`podman save` or `skopeo copy`. Options end at IMAGE: what follows is the command's.

Signals that Bulkhead gets go on to the command; SIGTERM as the container's stop signal. When
Bulkhead itself is killed, the container goes on: `attach` is the way back.

Examples:
  bulkhead run --rm busybox echo hello
  bulkhead run -it --read-only --tmpfs /tmp debian:latest bash
  bulkhead run -d --name web --restart on-failure:5 httpd.tar
  tar c src | bulkhead run -i --rm -w /build --entrypoint '' builder.tar sh -c 'tar x && make'"
)]
pub(crate) struct RunArgs {
    /// Leave the container running in the background, and print its id
    #[arg(short, long, conflicts_with = "attach", help_heading = "Streams")]
    pub detach: bool,

    #[command(flatten)]
    pub foreground: ForegroundArgs,

    #[command(flatten)]
    pub container: ContainerArgs,

    /// Show on stderr when each step of the start was done; json: as one line, for programs
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "table"
    )]
    pub timing: Option<TimingFormat>,
}

/// How a command in the foreground is held.
#[derive(Debug, Args)]
pub(crate) struct ForegroundArgs {
    /// Pass signals on to the command
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set,
        help_heading = "Streams"
    )]
    pub sig_proxy: bool,

    /// The keys that leave a container with a terminal to itself
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q", help_heading = "Streams")]
    pub detach_keys: DetachKeys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimingFormat {
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, Memory, SeccompChoice, SecurityOpt, Signal};
    use crate::spec::capabilities::CapabilityName;

    fn run(arguments: &[&str]) -> RunArgs {
        let cli = Cli::try_parse_from(["bulkhead", "run"].iter().chain(arguments)).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        *args
    }

    #[test]
    fn options_end_at_the_image() {
        let args = run(&["-it", "--name", "a", "image.tar", "sh", "-i", "--name", "b", "--", "-x"]);
        assert!(args.container.stdio.interactive && args.container.stdio.tty);
        assert_eq!((args.container.name.as_deref(), args.container.image()), (Some("a"), "image.tar"));
        assert_eq!(args.container.command(), ["sh", "-i", "--name", "b", "--", "-x"]);
        assert_eq!(run(&["image.tar", "--version"]).container.command(), ["--version"]);
        assert!(run(&["image.tar"]).container.command().is_empty());
    }

    #[test]
    fn docker_s_spellings_are_understood() {
        let args = run(&[
            "--rm",
            "-m256m",
            "--cpus=1.5",
            "-eA=1",
            "-e",
            "B",
            "-h",
            "box",
            "-w",
            "/tmp",
            "-u",
            "1000:5",
            "--entrypoint",
            "",
            "--cap-add=net_admin",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "seccomp=unconfined",
            "--ulimit",
            "core=0",
            "--stop-signal",
            "SIGQUIT",
            "--tmpfs",
            "/run",
            "i",
        ]);
        assert_eq!(args.container.limits.memory, Some(Memory(256 << 20)));
        assert_eq!(
            (args.container.process.env.len(), args.container.process.workdir.as_deref()),
            (2, Some("/tmp"))
        );
        assert_eq!(
            (args.container.hostname.as_deref(), args.container.entrypoint.as_deref()),
            (Some("box"), Some(""))
        );
        assert_eq!(args.container.cap_drop, [CapabilityName::All]);
        assert_eq!(args.container.security_opt, [SecurityOpt::Seccomp(SeccompChoice::Unconfined)]);
        assert_eq!(args.container.stop_signal.map(Signal::number), Some(3));
        assert_eq!(args.timing, None);
    }

    #[test]
    fn timing_takes_its_format_after_an_equals_sign_only() {
        let args = run(&["--timing", "json", "sh"]);
        assert_eq!((args.timing, args.container.image()), (Some(TimingFormat::Table), "json"));
        assert_eq!(run(&["--timing=json", "i"]).timing, Some(TimingFormat::Json));
    }

    #[test]
    fn an_unknown_option_before_the_image_is_an_error() {
        assert!(Cli::try_parse_from(["bulkhead", "run", "--no-such-option", "i"]).is_err());
        assert!(Cli::try_parse_from(["bulkhead", "run"]).is_err());
    }

    #[test]
    fn the_foreground_is_docker_s() {
        let args = run(&["i"]);
        assert!(args.foreground.sig_proxy && !args.detach);
        assert_eq!(args.foreground.detach_keys.0, [0x10, 0x11]);
        assert!(!run(&["--sig-proxy=false", "i"]).foreground.sig_proxy);
        assert!(Cli::try_parse_from(["bulkhead", "run", "-d", "-a", "stdout", "i"]).is_err());
        assert!(run(&["--network", "none", "i"]).container.not_yet.check().is_ok());
        for refused in [["-p", "80:80"], ["-v", "/a:/b"], ["--network", "host"], ["--device", "/dev/x"]] {
            assert!(run(&[refused[0], refused[1], "i"]).container.not_yet.check().is_err(), "{refused:?}");
        }
    }
}
