//! A process's streams: one vsock stream each, opened by the host under an id of its choosing.

use std::future::Future;
use std::io;

use agent_api::{agent, ports, stream_header};
use protobuf::MessageField;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::container::{CreateError, Stdio, Streams};
use crate::guest::{Dialer, GuestError};

/// What to tell the agent about the streams, and the work of opening them, to be done meanwhile.
pub(crate) fn open<'a>(
    dialer: &'a dyn Dialer,
    stdio: &Stdio,
) -> Result<(agent::Stdio, impl Future<Output = Result<Streams, CreateError>> + use<'a>), CreateError> {
    let wanted = [stdio.stdin, stdio.stdout, stdio.stderr && stdio.terminal.is_none()];
    let [mut stdin, mut stdout, mut stderr] = [0; 3];
    for (id, wanted) in [&mut stdin, &mut stdout, &mut stderr].into_iter().zip(wanted) {
        if wanted {
            *id = new_id()?;
        }
    }
    let described = agent::Stdio {
        stdin,
        stdout,
        stderr,
        terminal: stdio
            .terminal
            .map(agent::TerminalSize::from)
            .map_or_else(MessageField::none, MessageField::some),
        ..Default::default()
    };
    let opening = async move {
        let (stdin, stdout, stderr) = tokio::try_join!(
            open_wanted(dialer, "stdin", stdin),
            open_wanted(dialer, "stdout", stdout),
            open_wanted(dialer, "stderr", stderr),
        )?;
        Ok(Streams { stdin, stdout, stderr })
    };
    Ok((described, opening))
}

/// Opens stream `id`; none when it is 0.
async fn open_wanted(
    dialer: &dyn Dialer,
    stream: &'static str,
    id: u64,
) -> Result<Option<UnixStream>, CreateError> {
    if id == 0 {
        return Ok(None);
    }
    open_one(dialer, id).await?.map(Some).map_err(|source| CreateError::Stream { stream, source })
}

/// Opens stream `id`; the inner error is of the stream itself.
pub(crate) async fn open_one(dialer: &dyn Dialer, id: u64) -> Result<io::Result<UnixStream>, GuestError> {
    let mut opened = dialer.dial(ports::STREAM_PORT).await?;
    let named = opened.write_all(&stream_header::encode(id)).await;
    Ok(named.map(|()| opened))
}

/// Several processes of the host may open streams in one guest; chance keeps their ids apart.
pub(crate) fn new_id() -> Result<u64, GuestError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| GuestError::Entropy(error.into()))?;
    Ok(u64::from_le_bytes(bytes).max(1))
}
