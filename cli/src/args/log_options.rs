//! What is kept of a container's output.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use containers::log::LogOptions;

use super::bytes::Bytes;

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Whether the output is kept for `logs`: local, or none; json-file means local
    #[arg(long, value_enum, value_name = "DRIVER", help_heading = "Log")]
    pub log_driver: Option<LogDriver>,

    /// max-size=BYTES of one file [default: 50m], max-file=COUNT of files [default: 2]
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Log")]
    pub log_opt: Vec<LogOpt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogDriver {
    Local,
    JsonFile,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogOpt {
    MaxSize(u64),
    MaxFiles(u32),
    /// Docker's, of no meaning here.
    Other,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write max-size=BYTES or max-file=COUNT, such as max-size=10m")]
pub(crate) struct LogOptError;

impl FromStr for LogOpt {
    type Err = LogOptError;

    fn from_str(text: &str) -> Result<Self, LogOptError> {
        match text.split_once('=').ok_or(LogOptError)? {
            ("max-size", size) => match size.parse() {
                Ok(Bytes(bytes @ 1..)) => Ok(Self::MaxSize(bytes)),
                _ => Err(LogOptError),
            },
            ("max-file", files) => match files.parse() {
                Ok(files @ 1..=1000) => Ok(Self::MaxFiles(files)),
                _ => Err(LogOptError),
            },
            ("compress" | "mode" | "max-buffer-size" | "labels" | "env" | "tag", _) => Ok(Self::Other),
            _ => Err(LogOptError),
        }
    }
}

impl LogArgs {
    pub(crate) fn options(&self) -> LogOptions {
        let mut options =
            LogOptions { kept: self.log_driver != Some(LogDriver::None), ..LogOptions::default() };
        for opt in &self.log_opt {
            match opt {
                LogOpt::MaxSize(bytes) => options.max_size = *bytes,
                LogOpt::MaxFiles(files) => options.max_files = *files,
                LogOpt::Other => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers() {
        assert_eq!("max-size=10m".parse(), Ok(LogOpt::MaxSize(10 << 20)));
        assert_eq!("max-file=3".parse(), Ok(LogOpt::MaxFiles(3)));
        for text in ["", "max-size", "max-size=0", "max-file=0", "max-file=x", "size=1"] {
            assert_eq!(text.parse::<LogOpt>(), Err(LogOptError), "{text}");
        }
    }
}
