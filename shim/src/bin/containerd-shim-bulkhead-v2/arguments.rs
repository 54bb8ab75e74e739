//! The command line, which containerd writes as Go's flag package reads it: one dash or two, a value behind a blank or
//! an equals sign, and the action behind all flags.

use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) namespace: String,
    /// Of the container, or of the pod it is in.
    pub(crate) id: String,
    /// containerd's own socket.
    pub(crate) address: String,
    /// Publishes events for shims that cannot: containerd itself.
    pub(crate) publish_binary: PathBuf,
    /// Where to listen, instead of where containerd expects it.
    pub(crate) socket: PathBuf,
    /// The bundle, if it is not the working directory.
    pub(crate) bundle: PathBuf,
    pub(crate) debug: bool,
    pub(crate) version: bool,
    pub(crate) info: bool,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Delete,
    #[default]
    Serve,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArgumentError {
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    #[error("invalid boolean value {value:?} for -{flag}")]
    NoBoolean { flag: String, value: String },
    #[error("argument {0:?} is not UTF-8")]
    NotUtf8(OsString),
    #[error("unknown action {0:?}")]
    Action(String),
    #[error("shim namespace cannot be empty")]
    NoNamespace,
    #[error("shim id cannot be empty")]
    NoId,
    #[error("{0:?} cannot be part of a path")]
    NoName(String),
}

impl Arguments {
    /// Of what follows the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self, ArgumentError> {
        let mut parsed = Self::default();
        let mut words = words.into_iter().map(|word| word.into_string().map_err(ArgumentError::NotUtf8));
        while let Some(word) = words.next().transpose()? {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                parsed.action = Action::parse(word)?;
                break;
            };
            let (flag, value) = match flag.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (flag, None),
            };
            parsed.set(flag, value, &mut words)?;
        }
        parsed.check()?;
        Ok(parsed)
    }

    fn set(
        &mut self,
        flag: &str,
        value: Option<String>,
        words: &mut impl Iterator<Item = Result<String, ArgumentError>>,
    ) -> Result<(), ArgumentError> {
        match flag {
            "debug" => self.debug = boolean(flag, value)?,
            "v" | "version" => self.version = boolean(flag, value)?,
            "info" => self.info = boolean(flag, value)?,
            "namespace" | "id" | "address" | "publish-binary" | "socket" | "bundle" => {
                let value = match value {
                    Some(value) => value,
                    None => words.next().ok_or_else(|| ArgumentError::NoValue(flag.to_owned()))??,
                };
                match flag {
                    "namespace" => self.namespace = value,
                    "id" => self.id = value,
                    "address" => self.address = value,
                    "publish-binary" => self.publish_binary = value.into(),
                    "socket" => self.socket = value.into(),
                    _ => self.bundle = value.into(),
                }
            }
            _ => return Err(ArgumentError::Unknown(flag.to_owned())),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ArgumentError> {
        if self.version || self.info {
            return Ok(());
        }
        if self.namespace.is_empty() {
            return Err(ArgumentError::NoNamespace);
        }
        if self.id.is_empty() {
            return Err(ArgumentError::NoId);
        }
        // containerd lets no such name through; others may.
        let unnamable = |name: &str| name.contains('/') || name == "." || name == "..";
        match [&self.namespace, &self.id].into_iter().find(|name| unnamable(name)) {
            Some(name) => Err(ArgumentError::NoName(name.clone())),
            None => Ok(()),
        }
    }
}

impl Action {
    fn parse(word: String) -> Result<Self, ArgumentError> {
        match word.as_str() {
            "start" => Ok(Self::Start),
            "delete" => Ok(Self::Delete),
            _ => Err(ArgumentError::Action(word)),
        }
    }
}

/// As Go's strconv.ParseBool has it.
fn boolean(flag: &str, value: Option<String>) -> Result<bool, ArgumentError> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(ArgumentError::NoBoolean { flag: flag.to_owned(), value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, ArgumentError> {
        Arguments::parse(line.split_ascii_whitespace().map(OsString::from))
    }

    #[test]
    fn containerds_own_lines_are_understood() {
        let started = "-namespace default -address /run/containerd/containerd.sock -publish-binary \
                       /usr/bin/containerd -id c1 -debug start";
        let expected = Arguments {
            namespace: "default".to_owned(),
            id: "c1".to_owned(),
            address: "/run/containerd/containerd.sock".to_owned(),
            publish_binary: "/usr/bin/containerd".into(),
            debug: true,
            action: Action::Start,
            ..Arguments::default()
        };
        assert_eq!(parse(started).unwrap(), expected);
        let deleted = parse("-namespace k8s.io -id c1 -bundle /b delete --more").unwrap();
        assert_eq!((deleted.action, deleted.bundle), (Action::Delete, PathBuf::from("/b")));
        assert!(parse("-info").unwrap().info);
        assert!(parse("-v").unwrap().version && parse("--version").unwrap().version);
    }

    #[test]
    fn flags_are_written_in_each_of_gos_ways() {
        let parsed = parse("--namespace=n -id=c --debug=false").unwrap();
        assert_eq!((parsed.namespace.as_str(), parsed.id.as_str()), ("n", "c"));
        assert_eq!((parsed.debug, parsed.action), (false, Action::Serve));
    }

    #[test]
    fn what_is_no_line_of_containerds_is_refused() {
        assert_eq!(parse("-id c start"), Err(ArgumentError::NoNamespace));
        assert_eq!(parse("-namespace n"), Err(ArgumentError::NoId));
        assert_eq!(parse("-namespace n -id"), Err(ArgumentError::NoValue("id".to_owned())));
        assert_eq!(parse("-namespace n -id c stop"), Err(ArgumentError::Action("stop".to_owned())));
        assert_eq!(parse("-colour"), Err(ArgumentError::Unknown("colour".to_owned())));
        assert_eq!(parse("-namespace n -id ../c start"), Err(ArgumentError::NoName("../c".to_owned())));
        assert!(matches!(parse("-debug=perhaps"), Err(ArgumentError::NoBoolean { .. })));
    }
}
