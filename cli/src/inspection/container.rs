//! A container, as Docker's `container inspect` has it. What Bulkhead does not have is left out or empty.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use containers::{Config, Container, HealthCheck, HealthStatus, RestartPolicy, State, Status, StopTimeout};
use oci_spec::runtime::{Mount, Process};
use serde::Serialize;
use serde_json::{Value, json};

use super::image::GraphDriver;

/// Docker's word for no time at all.
const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerInspection {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: InspectedState,
    image: String,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: HostConfig,
    graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    mounts: Vec<InspectedMount>,
    config: InspectedConfig,
    network_settings: NetworkSettings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    /// Of the process that keeps it: its own pid is the guest's affair.
    pid: u32,
    exit_code: u8,
    error: String,
    started_at: String,
    finished_at: String,
    /// Null without a health check, so that templates can ask for it.
    health: Option<Health>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: &'static str,
    failing_streak: u32,
    log: Vec<HealthLog>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HealthLog {
    start: String,
    end: String,
    exit_code: i32,
    output: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    auto_remove: bool,
    network_mode: &'static str,
    restart_policy: Restart,
    memory: u64,
    nano_cpus: u64,
    cpu_shares: u64,
    pids_limit: Option<i64>,
    blkio_weight: u64,
    readonly_rootfs: bool,
    privileged: bool,
    init: bool,
    runtime: &'static str,
    storage_opt: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Restart {
    name: &'static str,
    maximum_retry_count: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedMount {
    #[serde(rename = "Type")]
    kind: String,
    source: String,
    destination: String,
    mode: String,
    #[serde(rename = "RW")]
    writable: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    hostname: String,
    user: String,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Vec<String>,
    image: String,
    working_dir: String,
    labels: BTreeMap<String, String>,
    stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(rename = "IPAddress")]
    ip_address: &'static str,
    ports: BTreeMap<String, Value>,
    networks: BTreeMap<String, Value>,
}

impl ContainerInspection {
    /// `with_size` looks at how much it has written.
    pub(crate) fn new(container: &Container, with_size: bool) -> Self {
        let config = container.config();
        let (path, args) = match config.command().split_first() {
            Some((path, args)) => (path.clone(), args.to_vec()),
            None => Default::default(),
        };
        let written = container.disk().metadata().map_or(0, |disk| disk.blocks() * 512);
        Self {
            id: config.id.clone(),
            created: config.created.to_string(),
            path,
            args,
            state: InspectedState::new(container.status()),
            image: config.image.id.clone(),
            log_path: container.directory().join("log").display().to_string(),
            name: format!("/{}", config.name),
            restart_count: container.status().restarts,
            driver: "erofs",
            platform: "linux",
            exec_ids: None,
            host_config: HostConfig::new(config),
            graph_driver: GraphDriver {
                data: Some(json!({"WritableDisk": container.disk().display().to_string()})),
                name: "erofs",
            },
            size_rw: with_size.then_some(written),
            mounts: config.spec.mounts().iter().flatten().filter_map(InspectedMount::new).collect(),
            config: InspectedConfig::new(config),
            network_settings: NetworkSettings {
                ip_address: "",
                ports: BTreeMap::new(),
                networks: BTreeMap::new(),
            },
        }
    }
}

impl InspectedState {
    fn new(status: &Status) -> Self {
        let time =
            |time: Option<jiff::Timestamp>| time.map_or_else(|| NEVER.to_owned(), |time| time.to_string());
        Self {
            status: status.state.name(),
            running: status.state.is_running(),
            paused: status.state == State::Paused,
            restarting: status.state == State::Restarting,
            oom_killed: status.out_of_memory,
            dead: status.state == State::Dead,
            pid: status.supervisor.filter(|_| status.state.is_running()).map_or(0, |process| process.pid),
            exit_code: status.exit_code,
            error: status.error.clone(),
            started_at: time(status.started),
            finished_at: time(status.finished),
            health: status.health.as_ref().map(Health::new),
        }
    }
}

impl Health {
    fn new(health: &HealthStatus) -> Self {
        Self {
            status: health.state.name(),
            failing_streak: health.failing_streak,
            log: health
                .probes
                .iter()
                .map(|probe| HealthLog {
                    start: probe.started.to_string(),
                    end: probe.ended.to_string(),
                    exit_code: probe.exit_code,
                    output: probe.output.clone(),
                })
                .collect(),
        }
    }
}

impl HostConfig {
    fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let (name, maximum_retry_count) = match config.restart {
            RestartPolicy::No => ("no", 0),
            RestartPolicy::OnFailure { most } => ("on-failure", most.unwrap_or(0)),
            RestartPolicy::Always => ("always", 0),
            RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        };
        Self {
            auto_remove: config.auto_remove,
            network_mode: "none",
            restart_policy: Restart { name, maximum_retry_count },
            memory: config.memory.unwrap_or(0),
            // A quota is in microseconds of 100 ms.
            nano_cpus: limits.cpu_quota_us.map_or(0, |quota| quota.saturating_mul(10_000)),
            cpu_shares: limits.cpu_shares.unwrap_or(0),
            pids_limit: pids_limit(config),
            blkio_weight: limits.blkio_weight.unwrap_or(0),
            readonly_rootfs: config.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            privileged: false,
            init: config.init,
            runtime: "bulkhead",
            storage_opt: BTreeMap::from([("size", config.storage.to_string())]),
        }
    }
}

impl InspectedMount {
    /// Those a user asked for: what every container has (/proc, /dev …) is not told.
    fn new(mount: &Mount) -> Option<Self> {
        let destination = mount.destination().display().to_string();
        let kind = mount.typ().clone()?;
        let own = kind == "bind" || (kind == "tmpfs" && !destination.starts_with("/dev"));
        let options = mount.options().clone().unwrap_or_default();
        own.then(|| Self {
            kind,
            source: mount.source().as_ref().map(|source| source.display().to_string()).unwrap_or_default(),
            destination,
            mode: options.join(","),
            writable: !options.iter().any(|option| option == "ro"),
        })
    }
}

impl InspectedConfig {
    fn new(config: &Config) -> Self {
        let process = config.spec.process().as_ref();
        let working_dir = process.map(|process| process.cwd().display().to_string()).unwrap_or_default();
        Self {
            hostname: config.hostname.clone(),
            user: config.user.clone(),
            tty: config.terminal(),
            open_stdin: config.stdin.open,
            stdin_once: config.stdin.once,
            env: process.and_then(|process: &Process| process.env().clone()).unwrap_or_default(),
            cmd: config.command().to_vec(),
            image: config.image.name.clone(),
            working_dir,
            labels: config.labels.clone(),
            stop_signal: config.stop_signal.to_string(),
            stop_timeout: match config.stop_timeout {
                StopTimeout::After(seconds) => Some(seconds.into()),
                StopTimeout::Never => Some(-1),
            },
            healthcheck: config.health.as_ref().map(healthcheck),
        }
    }
}

fn pids_limit(config: &Config) -> Option<i64> {
    let resources = config.spec.linux().as_ref()?.resources().as_ref()?;
    resources.pids().as_ref().map(|pids| pids.limit())
}

/// Durations in nanoseconds, as image configurations have them.
fn healthcheck(check: &HealthCheck) -> Value {
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "Test": check.test, "Interval": ns(check.interval), "Timeout": ns(check.timeout),
        "StartPeriod": ns(check.start_period), "StartInterval": ns(check.start_interval), "Retries": check.retries,
    })
}
