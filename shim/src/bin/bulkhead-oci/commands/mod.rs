//! What each command does, one file for each.

use std::error::Error;
use std::io;

use crate::args::{Command, GlobalArgs};
use crate::log::Log;
use crate::state::{Root, StateError};

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

/// Whatever went wrong, to be told.
pub(crate) type Failure = Box<dyn Error>;

#[derive(Debug, thiserror::Error)]
enum UnsupportedError {
    #[error(
        "checkpoints of containers are not supported: a snapshot of the virtual machine is made by `bulkhead snapshot`"
    )]
    Checkpoint,
    #[error("checkpoints of containers are not supported, and so none can be restored")]
    Restore,
}

/// Gives the exit code.
pub(crate) fn run(command: &Command, global: &GlobalArgs, log: &Log) -> Result<u8, Failure> {
    let root = || -> Result<Root, StateError> { Root::find(global.root.as_deref()) };
    let mut out = io::stdout();
    match command {
        Command::Create(args) => create::create(&root()?, args, log)?,
        Command::Start(args) => start::start(&root()?, &args.id, log)?,
        Command::State(args) => state::state(&root()?, &args.id, &mut out)?,
        Command::Kill(args) => kill::kill(&root()?, args)?,
        Command::Delete(args) => delete::delete(&root()?, args, log)?,
        Command::Exec(args) => return Ok(exec::exec(&root()?, args, log)?),
        Command::Ps(args) => ps::ps(&root()?, args, &mut out)?,
        Command::List(args) => list::list(&root()?, args, &mut out)?,
        Command::Pause(args) => pause::pause(&root()?, &args.id)?,
        Command::Resume(args) => pause::resume(&root()?, &args.id)?,
        Command::Update(args) => update::update(&root()?, args)?,
        Command::Events(args) => events::events(&root()?, args, &mut out)?,
        Command::Features => features::features(&mut out)?,
        Command::Spec(args) => spec::spec(args)?,
        Command::Run(args) => return Ok(run::run(&root()?, args, log)?),
        Command::Checkpoint(_) => return Err(UnsupportedError::Checkpoint.into()),
        Command::Restore(_) => return Err(UnsupportedError::Restore.into()),
    }
    Ok(0)
}
