//! `bulkhead-agent`: PID 1 of the guest; its helper, when it runs itself again; PID 1 of a container that asks for
//! an init, or of a PID namespace that containers share.

use std::process::ExitCode;

use bulkhead_agent::container::launch::Launcher;
use bulkhead_agent::container::{Containers, Environment};
use bulkhead_agent::reaper::Reaper;
use bulkhead_agent::streams::Streams;
use bulkhead_agent::{boot, error_chain, events, helper, init, log, pause, power, service, transport};

fn main() -> ExitCode {
    if init::is_asked_for() {
        return init::main();
    }
    if pause::is_asked_for() {
        return pause::main();
    }
    match std::env::args().nth(1).as_deref() {
        Some(helper::ARGUMENT) => return helper::main(),
        Some(pause::MAKER) => return pause::make(),
        _ => {}
    }
    if std::process::id() != 1 {
        eprintln!("bulkhead-agent is PID 1 of a Bulkhead guest and runs nowhere else");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run() {
        log::fatal(error_chain::describe(error.as_ref()));
    }
    // PID 1 must not return: the kernel would panic.
    power::now();
    ExitCode::FAILURE
}

/// Serves for as long as the guest lives.
fn run() -> Result<(), Box<dyn std::error::Error>> {
    boot::prepare()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let streams = Streams::default();
    let (events, event_queue) = events::queue();
    let launcher = Launcher::new("/proc/self/exe".into(), "/run/bulkhead/state".into(), Reaper::start()?);
    launcher.run_ahead()?;
    let containers = Containers::new(Environment {
        containers_dir: "/run/bulkhead/containers".into(),
        launcher,
        streams: streams.clone(),
        events,
    });
    transport::accept_streams(streams)?;
    transport::accept_loopback()?;
    let _server = service::serve(transport::rpc_listener()?, containers).await?;
    events::deliver(event_queue).await;
    Ok(())
}
