//! `bulkhead-oci events`.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::args::EventsArgs;
use crate::client::{Client, ClientError};
use crate::protocol::Ask;
use crate::runtime::wait_for;
use crate::state::{Root, StateError};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot print the events")]
    Print(#[from] io::Error),
}

/// One line, or one after the other until the container has ended.
pub(super) fn events(root: &Root, args: &EventsArgs, out: &mut impl Write) -> Result<(), Error> {
    let container = root.load(&args.id)?;
    wait_for(async {
        let client = Client::connect(root, &container.pod, &container.id)?;
        print(out, &args.id, client.ask_for(Ask::Stats).await?)?;
        if args.stats {
            return Ok(());
        }
        loop {
            tokio::time::sleep(args.interval).await;
            match client.ask_for(Ask::Stats).await {
                Ok(stats) => print(out, &args.id, stats)?,
                Err(ClientError::NotRunning | ClientError::Refused(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    })?
}

fn print(out: &mut impl Write, id: &str, stats: Value) -> io::Result<()> {
    writeln!(out, "{}", json!({ "type": "stats", "id": id, "data": stats }))?;
    out.flush()
}
