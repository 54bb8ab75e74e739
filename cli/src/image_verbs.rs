//! Does the verbs about images, registries and the disk. They run nothing and take over no signal: each can be
//! interrupted at any moment, and leaves whole layers or none.

use std::error::Error;
use std::io::{self, Write};

use containers::{Containers, ContainersError, exit_code};
use images::Store;
use images::store::StoreError;
use sandbox::{RecordError, StateDir};

use crate::args::ImageVerb;
use crate::commands;
use crate::data_dir::{DataDir, DataDirError};
use crate::report;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    #[error(transparent)]
    Data(#[from] DataDirError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] RecordError),
    #[error(transparent)]
    Containers(#[from] ContainersError),
}

/// The exit code.
pub(crate) fn run(verb: &ImageVerb) -> u8 {
    let mut out = Stdout { closed: false };
    let code = match dispatch(verb, &mut out) {
        Ok(code) => code,
        Err(error) => failed(&error),
    };
    // `bulkhead images | head`: who closes our output has read enough.
    if out.closed { 0 } else { code }
}

fn dispatch(verb: &ImageVerb, out: &mut dyn Write) -> Result<u8, SetUpError> {
    let data = DataDir::open()?;
    let store = Store::open(data.images())?;
    let containers =
        || -> Result<_, SetUpError> { Ok(Containers::open(data.containers(), StateDir::open()?)?) };
    Ok(match verb {
        ImageVerb::ContainerPrune(args) => done(commands::prune::container_prune(&containers()?, args, out)),
        ImageVerb::Df(args) => done(commands::df::df(&store, &containers()?, args, out)),
        ImageVerb::History(args) => done(commands::history::history(&store, args, out)),
        ImageVerb::ImagePrune(args) => {
            done(commands::prune::image_prune(&store, &containers()?, &data.snapshots(), args, out))
        }
        ImageVerb::Images(args) => done(commands::images::images(&store, args, out)),
        ImageVerb::Import(args) => done(commands::import::import(&store, args, out)),
        ImageVerb::Inspect(args) => each(commands::inspect::inspect(&store, &containers()?, args, out)),
        ImageVerb::Load(args) => done(commands::load::load(&store, &data.scratch(), args, out)),
        ImageVerb::Login(args) => done(commands::login::login(args, out)),
        ImageVerb::Logout(args) => done(commands::logout::logout(args, out)),
        ImageVerb::Prune(args) => {
            done(commands::prune::prune(&store, &containers()?, &data.snapshots(), args, out))
        }
        ImageVerb::Pull(args) => done(commands::pull::pull(&store, args, out)),
        ImageVerb::Push(args) => done(commands::push::push(&store, args, out)),
        ImageVerb::Rmi(args) => {
            each(commands::rmi::rmi(&store, &containers()?, &data.snapshots(), args, out))
        }
        ImageVerb::Save(args) => done(commands::save::save(&store, args)),
        ImageVerb::Tag(args) => done(commands::tag::tag(&store, args)),
    })
}

fn done<E: Error>(result: Result<(), E>) -> u8 {
    result.map_or_else(|error| failed(&error), |()| 0)
}

/// Of a verb that does what it can and tells what it could not.
fn each<E: Error>(result: Result<Vec<E>, E>) -> u8 {
    let errors = result.unwrap_or_else(|error| vec![error]);
    errors.iter().for_each(|error| report::error(error));
    if errors.is_empty() { 0 } else { exit_code::FAILED }
}

fn failed(error: &dyn Error) -> u8 {
    report::error(error);
    exit_code::FAILED
}

/// Standard output, which its reader may close.
struct Stdout {
    closed: bool,
}

impl Stdout {
    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.closed |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = io::stdout().flush();
        self.noted(flushed)
    }
}
