//! Runs a container's health check as often as it is to be.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use sandbox::{ExecConfig, Guest, Process, Stdio, Streams};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::error_chain::describe;
use crate::health::{HealthCheck, MAX_OUTPUT, Probe};
use crate::id;

const KILL: u32 = 9;

/// The exit code of a check that ran out of time or could not be run.
const NO_RESULT: i32 = -1;

/// How long a check that was killed may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// Goes on until nobody takes the probes.
pub(super) async fn probe(guest: Guest, config: Config, check: HealthCheck, probes: mpsc::Sender<Probe>) {
    let Some(command) = check.command() else { return };
    let begun = Instant::now();
    loop {
        let starting = begun.elapsed() < check.start_period;
        sleep(if starting { check.start_interval } else { check.interval }).await;
        let started = Timestamp::now();
        let (exit_code, output) = run(&guest, &config, &command, check.timeout).await;
        let probe = Probe { started, ended: Timestamp::now(), exit_code, output };
        if probes.send(probe).await.is_err() {
            return;
        }
    }
}

/// The exit code and the beginning of the output of one check.
async fn run(guest: &Guest, config: &Config, command: &[String], limit: Duration) -> (i32, String) {
    let mut process = config.spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(false));
    let Ok(exec_id) = id::random() else { return (NO_RESULT, String::new()) };
    let exec = ExecConfig {
        container_id: config.id.clone(),
        exec_id,
        process,
        stdio: Stdio { stdin: false, stdout: true, stderr: true, terminal: None },
        user: config.user.clone(),
    };
    match guest.exec(exec).await {
        Ok((process, streams)) => watch(&process, streams, limit).await,
        Err(error) => (NO_RESULT, describe(&error)),
    }
}

async fn watch(process: &Process, streams: Streams, limit: Duration) -> (i32, String) {
    let output = Mutex::new(Vec::new());
    let finished = async {
        let (exit, (), ()) =
            tokio::join!(process.wait(), read(streams.stdout, &output), read(streams.stderr, &output));
        exit.map_or(NO_RESULT, |exit| exit.code.into())
    };
    let code = timeout(limit, finished).await;
    let said = String::from_utf8_lossy(&output.into_inner().unwrap_or_default()).into_owned();
    match code {
        Ok(code) => (code, said),
        Err(_) => {
            let killed = async {
                let _ = process.signal(KILL).await;
                let _ = process.wait().await;
            };
            let _ = timeout(KILL_GRACE, killed).await;
            (NO_RESULT, format!("Health check exceeded timeout ({} s): {said}", limit.as_secs()))
        }
    }
}

/// An output to its end; what finds room in `kept` is kept.
async fn read(stream: Option<UnixStream>, kept: &Mutex<Vec<u8>>) {
    let Some(mut stream) = stream else { return };
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let Ok(mut kept) = kept.lock() else { return };
        let room = MAX_OUTPUT.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(piece.get(..room).unwrap_or_default());
    }
}
