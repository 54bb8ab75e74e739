//! Shows what happens to containers, as it happens.

use std::io::{self, Write};

use containers::events::{Event, EventLog};
use containers::watch::Watch;
use containers::{Containers, Timestamp};
use serde_json::{Value, json};

use crate::args::{EventsArgs, Filter, Moment};
use crate::labels::LabelFilter;
use crate::template::{Template, TemplateError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum EventsError {
    #[error("there is no filter {0:?}: container, event, image, label and type are")]
    UnknownFilter(String),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("cannot read the events")]
    Read(#[source] io::Error),
    #[error("cannot print an event")]
    Print(#[source] io::Error),
}

/// How an event is shown.
enum Shown {
    Line,
    Json,
    Template(Template),
}

pub(crate) async fn events(containers: &Containers, args: &EventsArgs) -> Result<(), EventsError> {
    check(&args.filter)?;
    let shown = match args.format.as_deref() {
        None => Shown::Line,
        Some("json" | "{{json .}}") => Shown::Json,
        Some(template) => Shown::Template(Template::parse(template)?),
    };
    let log = containers.events();
    let begun = args.since.map_or_else(Timestamp::now, |Moment(since)| since);
    let mut watch = Watch::new(log.directory(), EventLog::FILE).map_err(EventsError::Read)?;
    let mut reader = log.reader();
    loop {
        while let Some(event) = reader.next_event().map_err(EventsError::Read)? {
            if args.until.is_some_and(|Moment(until)| event.time >= until) {
                return Ok(());
            }
            if event.time >= begun && takes(&args.filter, &event) {
                let text = shown.render(&event)?;
                let mut out = io::stdout().lock();
                writeln!(out, "{text}").and_then(|()| out.flush()).map_err(EventsError::Print)?;
            }
        }
        tokio::select! {
            changed = watch.changed() => changed.map_err(EventsError::Read)?,
            () = past(args.until) => return Ok(()),
        }
    }
}

/// Waits until no more can come from before a moment.
async fn past(until: Option<Moment>) {
    let Some(Moment(until)) = until else { return std::future::pending().await };
    let left = until.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

fn check(filters: &[Filter]) -> Result<(), EventsError> {
    let known = ["container", "event", "image", "label", "type"];
    match filters.iter().find(|filter| !known.contains(&filter.key.as_str())) {
        Some(filter) => Err(EventsError::UnknownFilter(filter.key.clone())),
        None => Ok(()),
    }
}

/// Several of one key: any of them holds; of several keys: each.
fn takes(filters: &[Filter], event: &Event) -> bool {
    let holds = |filter: &Filter| match filter.key.as_str() {
        "container" => {
            event.id.starts_with(&filter.value) || event.attributes.get("name") == Some(&filter.value)
        }
        // `health_status: healthy` is a `health_status`.
        "event" => event.action.split(':').next() == Some(filter.value.as_str()),
        "image" => event.attributes.get("image") == Some(&filter.value),
        "label" => LabelFilter::has(&filter.value).holds(&event.attributes),
        _ => event.kind == filter.value,
    };
    filters.iter().all(|filter| filters.iter().filter(|other| other.key == filter.key).any(holds))
}

impl Shown {
    fn render(&self, event: &Event) -> Result<String, TemplateError> {
        match self {
            Self::Line => Ok(line(event)),
            Self::Json => Ok(value(event).to_string()),
            Self::Template(template) => template.render(&value(event)),
        }
    }
}

/// As Docker prints it: `2026-11-24T15:04:05.000000000Z container die ID (image=…, name=…)`.
fn line(event: &Event) -> String {
    let Event { time, kind, action, id, attributes } = event;
    let attributes: Vec<_> = attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{time:.9} {kind} {action} {id} ({})", attributes.join(", "))
}

/// With Docker's fields.
fn value(event: &Event) -> Value {
    json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.as_second(),
        "timeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
        "status": event.action,
        "id": event.id,
        "from": event.attributes.get("image"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str) -> Event {
        let attributes = [("image", "busybox"), ("name", "web"), ("team", "a")];
        Event {
            time: Timestamp::UNIX_EPOCH,
            kind: "container".to_owned(),
            action: action.to_owned(),
            id: "0123".to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn filters_of_one_key_are_alternatives() {
        let takes = |filters: &[&str]| {
            let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
            takes(&filters, &event("health_status: healthy"))
        };
        assert!(takes(&[]) && takes(&["container=web"]) && takes(&["container=01"]));
        assert!(takes(&["event=die", "event=health_status", "label=team=a"]));
        assert!(!takes(&["event=die"]) && !takes(&["container=web", "image=other"]));
    }

    #[test]
    fn a_line_is_dockers() {
        let expected = "1970-01-01T00:00:00.000000000Z container die 0123 (image=busybox, name=web, team=a)";
        assert_eq!(line(&event("die")), expected);
    }
}
