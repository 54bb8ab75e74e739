//! A bundle's hooks, run at their moments: for clients that have a network set up by them, as Docker had.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Hooks as Programs;
use serde::Serialize;
use shim::{Bundle, HookError, Moment, check_hooks, run_hooks};

use crate::failure::Failure;
use crate::log;

/// Those before the container's process may start, in their order.
const ON_CREATION: [Moment; 3] = [Moment::Prestart, Moment::CreateRuntime, Moment::CreateContainer];

#[derive(Clone)]
pub(crate) struct Hooks(Arc<OfContainer>);

struct OfContainer {
    programs: Programs,
    version: String,
    id: String,
    pid: u32,
    bundle: PathBuf,
    annotations: HashMap<String, String>,
}

/// What a hook reads (OCI runtime-spec, runtime.md, "State").
#[derive(Serialize)]
struct State<'a> {
    #[serde(rename = "ociVersion")]
    version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

impl Hooks {
    /// Refuses what cannot be run when its moment comes. `None` where there is nothing to run.
    pub(crate) fn of(bundle: &Bundle, id: &str, pid: u32) -> Result<Option<Self>, Failure> {
        let Some(programs) = bundle.spec.hooks().clone() else { return Ok(None) };
        check_hooks(&programs).map_err(|error| Failure::invalid(error.to_string()))?;
        Ok(Some(Self(Arc::new(OfContainer {
            programs,
            version: bundle.spec.version().clone(),
            id: id.to_owned(),
            pid,
            bundle: bundle.path.clone(),
            annotations: bundle.spec.annotations().clone().unwrap_or_default(),
        }))))
    }

    /// The first that fails is the end of the creation.
    pub(crate) async fn on_creation(&self) -> Result<(), Failure> {
        for moment in ON_CREATION {
            self.run(moment, "creating", Some(self.0.pid)).await?;
        }
        Ok(())
    }

    /// One that fails changes nothing: the container runs.
    pub(crate) async fn after_start(&self) {
        if let Err(failure) = self.run(Moment::Poststart, "running", Some(self.0.pid)).await {
            log::error(format_args!("{failure}"));
        }
    }

    /// One that fails changes nothing: the container is gone.
    pub(crate) async fn after_end(&self) {
        if let Err(failure) = self.run(Moment::Poststop, "stopped", None).await {
            log::error(format_args!("{failure}"));
        }
    }

    async fn run(&self, moment: Moment, status: &str, pid: Option<u32>) -> Result<(), Failure> {
        let OfContainer { version, id, bundle, annotations, .. } = self.0.as_ref();
        let state = State { version, id, status, pid, bundle, annotations };
        let state = serde_json::to_vec(&state).map_err(|error| Failure::internal(error.to_string()))?;
        let container = self.0.clone();
        // They take as long as they like, and calls are to be answered meanwhile.
        let run = tokio::task::spawn_blocking(move || run_hooks(&container.programs, moment, &state));
        let ran: Result<(), HookError> = run.await.map_err(|error| Failure::internal(error.to_string()))?;
        ran.map_err(|error| Failure::internal(error.to_string()))
    }
}
