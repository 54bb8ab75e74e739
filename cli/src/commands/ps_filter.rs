//! `ps --filter`: which containers are listed.

use containers::{Container, Containers, ContainersError};

use crate::args::Filter;
use crate::labels::LabelFilter;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PsFilterError {
    #[error(
        "there is no filter {0:?}: ancestor, before, exited, health, id, label, name, since and status are"
    )]
    Unknown(String),
    #[error("an exit code is a number from 0 to 255, not {0:?}")]
    ExitCode(String),
    #[error("{0:?} is no state: created, running, paused, restarting, removing, exited and dead are")]
    State(String),
    #[error(transparent)]
    Containers(#[from] ContainersError),
}

const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// All of one field are alternatives; labels must all be there.
#[derive(Debug, Default)]
pub(super) struct PsFilter {
    ancestors: Vec<String>,
    exited: Vec<u8>,
    health: Vec<String>,
    ids: Vec<String>,
    labels: Vec<LabelFilter>,
    names: Vec<String>,
    states: Vec<String>,
    before: Option<Container>,
    since: Option<Container>,
}

impl PsFilter {
    pub(super) fn new(containers: &Containers, filters: &[Filter]) -> Result<Self, PsFilterError> {
        let mut chosen = Self::default();
        for Filter { key, value } in filters {
            match key.as_str() {
                "ancestor" => chosen.ancestors.push(value.clone()),
                "before" => chosen.before = Some(containers.find(value)?),
                "exited" => {
                    let code = value.parse().map_err(|_| PsFilterError::ExitCode(value.clone()))?;
                    chosen.exited.push(code);
                }
                "health" => chosen.health.push(value.clone()),
                "id" => chosen.ids.push(value.clone()),
                "label" => chosen.labels.push(LabelFilter::has(value)),
                "name" => chosen.names.push(value.trim_start_matches('/').to_owned()),
                "since" => chosen.since = Some(containers.find(value)?),
                "status" if STATES.contains(&value.as_str()) => chosen.states.push(value.clone()),
                "status" => return Err(PsFilterError::State(value.clone())),
                _ => return Err(PsFilterError::Unknown(key.clone())),
            }
        }
        Ok(chosen)
    }

    /// Whether it says itself which states are wanted, so that those that do not run are, too.
    pub(super) fn is_about_state(&self) -> bool {
        !self.states.is_empty() || !self.exited.is_empty()
    }

    pub(super) fn holds(&self, container: &Container) -> bool {
        let (config, status) = (container.config(), container.status());
        let any = |wanted: &[String], holds: &dyn Fn(&str) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| holds(wanted))
        };
        let health = status.health.as_ref().map_or("none", |health| health.state.name());
        any(&self.ancestors, &|image| is_ancestor(container, image))
            && any(&self.health, &|state| state == health)
            && any(&self.ids, &|id| config.id.starts_with(id))
            && any(&self.names, &|part| config.name.contains(part))
            && any(&self.states, &|state| state == status.state.name())
            && (self.exited.is_empty()
                || (!status.state.is_running() && self.exited.contains(&status.exit_code)))
            && self.labels.iter().all(|label| label.holds(&config.labels))
            && self.before.as_ref().is_none_or(|bound| config.created < bound.config().created)
            && self.since.as_ref().is_none_or(|bound| config.created > bound.config().created)
    }
}

/// Whether the container was made from this image: by its name as it was given, or by its id.
fn is_ancestor(container: &Container, image: &str) -> bool {
    let made_from = &container.config().image;
    let id = made_from.id.trim_start_matches("sha256:");
    let named = made_from.name == image || made_from.name.strip_suffix(":latest") == Some(image);
    named || made_from.id == image || (image.len() >= 4 && id.starts_with(image))
}
