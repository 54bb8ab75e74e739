//! Holds docs/docker.md against the command line: what it calls the same or different is there, what it calls not
//! there is not, and no flag goes untold.

use std::collections::BTreeSet;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

const PAGE: &str = include_str!("../../../docs/docker.md");

/// A heading and the rows below it.
struct Verb<'a> {
    heading: &'a str,
    /// Flags in one row, and what is said of them.
    rows: Vec<(Vec<&'a str>, &'a str)>,
}

fn verbs() -> Vec<Verb<'static>> {
    let mut verbs: Vec<Verb<'_>> = Vec::new();
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            verbs.push(Verb { heading, rows: Vec::new() });
        } else if let (Some(row), Some(verb)) = (line.strip_prefix("| `"), verbs.last_mut()) {
            let (flags, rest) = row.split_once("` |").unwrap();
            let said = rest.split('|').next().unwrap().trim();
            verb.rows.push((flags.split("`, `").collect(), said));
        }
    }
    verbs
}

/// The command behind the heading's `bulkhead …`.
fn command(heading: &str) -> Option<Command> {
    let path = heading.split_once("`bulkhead ")?.1.trim_end_matches('`');
    let mut command = Cli::command();
    for word in path.split(' ') {
        command = command.find_subcommand(word).unwrap_or_else(|| panic!("there is no {path}")).clone();
    }
    Some(command)
}

fn names(argument: &Arg) -> Vec<String> {
    let long = argument.get_long_and_visible_aliases().unwrap_or_default().into_iter();
    let short = argument.get_short_and_visible_aliases().unwrap_or_default().into_iter();
    long.map(|long| format!("--{long}")).chain(short.map(|short| format!("-{short}"))).collect()
}

/// What help shows: flags that are refused until what they are about comes are hidden.
fn flags(command: &Command) -> BTreeSet<String> {
    command.get_arguments().filter(|argument| !argument.is_hide_set()).flat_map(names).collect()
}

#[test]
fn each_verb_and_flag_of_the_page_is_what_it_says() {
    let verbs = verbs();
    assert!(verbs.len() > 40, "only {} verbs were found", verbs.len());
    for Verb { heading, rows } in verbs {
        let Some(command) = command(heading) else {
            assert!(heading.ends_with(": not there"), "{heading}");
            let name = heading.split('`').nth(1).unwrap().rsplit(' ').next().unwrap();
            assert!(Cli::command().find_subcommand(name).is_none(), "{heading}, but there is one");
            assert!(rows.iter().all(|(_, said)| *said == "not there"), "{heading}");
            continue;
        };
        let there = flags(&command);
        for (flags, said) in rows {
            for flag in flags {
                let expected = match said {
                    "same" | "different" | "only here" => true,
                    "not there" => false,
                    said => panic!("{heading}: {flag} is said to be {said:?}"),
                };
                // A letter may mean something else where its long flag is not there.
                if expected || flag.starts_with("--") {
                    assert_eq!(there.contains(flag), expected, "{heading}: {flag} is said to be {said}");
                }
            }
        }
    }
}

#[test]
fn no_flag_goes_untold() {
    for Verb { heading, rows } in verbs() {
        let Some(command) = command(heading) else { continue };
        let told: BTreeSet<&str> = rows.iter().flat_map(|(flags, _)| flags.iter().copied()).collect();
        for flag in flags(&command).iter().filter(|flag| flag.starts_with("--") && *flag != "--help") {
            assert!(told.contains(flag.as_str()), "{heading}: {flag} is not in docs/docker.md");
        }
    }
}

#[test]
fn what_differs_says_how_and_what_is_missing_says_why() {
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let explained = !cells.get(3).copied().unwrap_or_default().is_empty();
        let in_a_missing_verb = PAGE.split("### ").any(|section| {
            section.lines().next().is_some_and(|head| head.ends_with("not there")) && section.contains(line)
        });
        if matches!(cells.get(2), Some(&"different" | &"not there" | &"only here")) {
            assert!(explained || in_a_missing_verb, "{line}");
        }
    }
}
