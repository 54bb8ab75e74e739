//! `bulkhead template`.

use clap::{Args, Subcommand};

use super::{Cpus, Memory};
use crate::listing::Format;

/// Manage templates: booted machines that containers start from
#[derive(Debug, Args)]
#[command(after_help = "\
A template is made by itself when the first container of its kind of machine starts; those after it go
on from there instead of booting. It lives in memory and holds nothing of any container.

Examples:
  bulkhead template build
  bulkhead template build --cpus 2 -m 1g
  bulkhead template ls
  bulkhead template rm --all")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    pub verb: TemplateVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateVerb {
    Build(TemplateBuildArgs),
    #[command(alias = "list")]
    Ls(TemplateLsArgs),
    Inspect(TemplateInspectArgs),
    #[command(alias = "remove")]
    Rm(TemplateRmArgs),
}

/// Make the template for containers with these limits, and print its key
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead template build
  bulkhead template build --cpus 2 -m 1g")]
pub(crate) struct TemplateBuildArgs {
    /// Number of processors, as of `bulkhead run`
    #[arg(long, value_name = "N")]
    pub cpus: Option<Cpus>,

    /// Memory limit, as of `bulkhead run`
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<Memory>,
}

/// List the templates there are
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead template ls
  bulkhead template ls --format json")]
pub(crate) struct TemplateLsArgs {
    /// table, json, or a Go template for each row
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,

    /// Print keys only
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
}

/// Print all that is known of templates, as JSON
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead template inspect $(bulkhead template ls -q)")]
pub(crate) struct TemplateInspectArgs {
    /// A key, or the beginning of one
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<String>,
}

/// Remove templates; containers that started from them go on
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead template rm 3f2a
  bulkhead template rm --all")]
pub(crate) struct TemplateRmArgs {
    /// Remove all there are
    #[arg(short, long)]
    pub all: bool,

    /// A key, or the beginning of one
    #[arg(value_name = "KEY", required_unless_present = "all", conflicts_with = "all")]
    pub keys: Vec<String>,
}
