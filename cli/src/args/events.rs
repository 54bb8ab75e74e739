//! `bulkhead events`.

use clap::Args;

use super::{Filter, Moment};

/// Show what happens to containers, as it happens
#[derive(Debug, Args)]
#[command(after_help = "\
Filters: container, event, image, label, type. With --until, it ends; otherwise it goes on.

Examples:
  bulkhead events
  bulkhead events --since 1h --until 0s --filter event=die
  bulkhead events --format '{{.Action}} {{.Actor.Attributes.name}}'")]
pub(crate) struct EventsArgs {
    /// Begin with what happened since a time, such as 2026-11-24T15:04:05Z or 10m
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,

    /// End with what happened before a time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,

    /// Only what is so, such as event=die
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,

    /// json, or a template for each
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
