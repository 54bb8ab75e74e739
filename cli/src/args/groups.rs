//! The first page of help: the commands by what they are about, which clap has no words for.

use std::fmt::Write;

use clap::Command;

/// Every command that is shown is in one of them.
const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Run",
        &["run", "create", "start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm", "rename"],
    ),
    ("Copy what runs", &["fork", "snapshot"]),
    (
        "Look and reach into containers",
        &[
            "ps", "logs", "exec", "attach", "top", "stats", "inspect", "port", "events", "cp", "diff",
            "commit", "export",
        ],
    ),
    (
        "Images",
        &["pull", "push", "images", "rmi", "tag", "history", "load", "save", "import", "login", "logout"],
    ),
    ("Disk and machine", &["df", "prune", "template", "doctor", "completion"]),
    ("By their longer names", &["container", "image", "system"]),
];

/// The program's command with its help in groups.
pub(crate) fn grouped(command: Command) -> Command {
    let mut listed = String::new();
    for (heading, names) in GROUPS {
        // Writing to a String does not fail.
        let _ = writeln!(listed, "{heading}:");
        for found in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = found.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(listed, "  {:<10}  {about}", found.get_name());
        }
        listed.push('\n');
    }
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{listed}Options:\n{{options}}{{after-help}}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn each_command_is_in_one_group() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let groups = GROUPS.iter().filter(|(_, names)| names.contains(&command.get_name()));
            assert_eq!(groups.count(), 1, "{}", command.get_name());
        }
        let help = grouped(Cli::command()).render_help().to_string();
        assert!(help.contains("Images:\n  pull ") && help.contains("Examples:"), "{help}");
    }
}
