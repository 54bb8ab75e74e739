//! Does the verbs that look into containers, take out of them and put into them.

use std::error::Error;
use std::io;

use containers::{Containers, Host, exit_code};
use images::Store;
use images::store::StoreError;
use sandbox::{Installation, InstallationError, Timeline};

use crate::args::InsideVerb;
use crate::commands;
use crate::data_dir::DataDir;
use crate::foreground;
use crate::image;
use crate::report;
use crate::signals::Signals;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Installation(#[from] InstallationError),
}

/// The exit code.
pub(crate) async fn run(
    verb: &InsideVerb,
    containers: &Containers,
    data: &DataDir,
    signals: &mut Signals,
    timeline: &Timeline,
) -> Result<u8, SetUpError> {
    let out = &mut io::stdout();
    match verb {
        InsideVerb::Pause(args) => {
            return Ok(each(commands::pause::pause(containers, &args.containers).await));
        }
        InsideVerb::Unpause(args) => {
            return Ok(each(commands::pause::unpause(containers, &args.containers).await));
        }
        InsideVerb::Stats(args) => {
            return Ok(done(commands::stats::stats(containers, args, signals, out).await));
        }
        InsideVerb::Top(args) => return Ok(done(commands::top::top(containers, args, out).await)),
        InsideVerb::Commit(_) | InsideVerb::Cp(_) | InsideVerb::Diff(_) | InsideVerb::Export(_) => {}
    }
    let store = Store::open(data.images())?;
    let installation = Installation::find()?;
    let host = Host {
        containers,
        installation: &installation,
        scratch: data.scratch(),
        open_image: &|config| Ok(image::open(&store, &store.find(&config.image.id)?)?),
        timeline,
    };
    let work = async {
        match verb {
            InsideVerb::Commit(args) => done(commands::commit::commit(&store, &host, args, out).await),
            InsideVerb::Cp(args) => done(commands::cp::cp(&host, args).await),
            InsideVerb::Diff(args) => done(commands::diff::diff(&host, args, out).await),
            InsideVerb::Export(args) => done(commands::export::export(&host, args).await),
            _ => 0,
        }
    };
    // A VM that was started for the work goes with it.
    tokio::select! {
        biased;
        signal = signals.terminating() => Ok(foreground::signalled(signal)),
        code = work => Ok(code),
    }
}

fn done<E: Error>(result: Result<(), E>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(error) => failed(&error),
    }
}

fn each<E: Error>(errors: Vec<E>) -> u8 {
    errors.iter().for_each(|error| report::error(error));
    if errors.is_empty() { 0 } else { exit_code::FAILED }
}

fn failed(error: &dyn Error) -> u8 {
    report::error(error);
    exit_code::FAILED
}
