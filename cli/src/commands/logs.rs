//! Shows what a container has written.

use std::io::{self, BufWriter, Write};

use containers::log::{Chunk, Lines, Piece, Reader, Stream};
use containers::watch::Watch;
use containers::{Container, Containers, ContainersError, Supervisor, SupervisorError, Timestamp};

use crate::args::{LogsArgs, Moment, Tail};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogsError {
    #[error(transparent)]
    Containers(#[from] ContainersError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error("nothing is kept of what container {0} writes: its log driver is none")]
    NotKept(String),
    #[error("cannot read the log of container {name}")]
    Read { name: String, source: io::Error },
    #[error("cannot print the log")]
    Print(#[source] io::Error),
}

pub(crate) async fn logs(containers: &Containers, args: &LogsArgs) -> Result<(), LogsError> {
    let container = containers.find(&args.container)?;
    if !container.config().log.kept {
        return Err(LogsError::NotKept(container.name().to_owned()));
    }
    let read = |source| LogsError::Read { name: container.name().to_owned(), source };
    let mut watch = Watch::new(container.directory(), "log").map_err(read)?;
    let mut supervisor = if args.follow { connect(&container)? } else { None };
    let mut reader = Reader::in_directory(container.directory());
    let mut printer = Printer::new(args, skipped(&container, args).map_err(read)?);
    loop {
        while let Some(chunk) = reader.next_chunk().map_err(read)? {
            if !printer.print(&chunk).map_err(LogsError::Print)? {
                return Ok(());
            }
        }
        printer.flush().map_err(LogsError::Print)?;
        // What it wrote last is read after it is known to be done.
        let Some(running) = &supervisor else { return Ok(()) };
        tokio::select! {
            changed = watch.changed() => changed.map_err(read)?,
            () = running.done_with() => supervisor = None,
            () = past(args.until) => return Ok(()),
        }
    }
}

/// `None` for a container that does not run.
fn connect(container: &Container) -> Result<Option<Supervisor>, LogsError> {
    match Supervisor::connect(container) {
        Ok(supervisor) => Ok(Some(supervisor)),
        Err(SupervisorError::NotRunning(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until no more can come from before a moment.
async fn past(until: Option<Moment>) {
    let Some(Moment(until)) = until else { return std::future::pending().await };
    let left = until.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

/// How many lines come before those that `--tail` wants.
fn skipped(container: &Container, args: &LogsArgs) -> io::Result<u64> {
    let Tail::Lines(wanted) = args.tail else { return Ok(0) };
    let mut reader = Reader::in_directory(container.directory());
    let (mut lines, mut count) = (Lines::default(), 0u64);
    while let Some(chunk) = reader.next_chunk()? {
        if is_wanted(&chunk, args) {
            count += lines.cut(&chunk).filter(|piece| piece.begins_line).count() as u64;
        }
    }
    Ok(count.saturating_sub(wanted))
}

fn is_wanted(chunk: &Chunk, args: &LogsArgs) -> bool {
    let from = args.since.is_none_or(|Moment(since)| chunk.time >= since);
    from && args.until.is_none_or(|Moment(until)| chunk.time < until)
}

struct Printer<'a> {
    args: &'a LogsArgs,
    lines: Lines,
    skip: u64,
    /// Whether the line at hand, of each stream, is one of those skipped.
    skipping: [bool; 2],
    out: BufWriter<io::Stdout>,
    err: BufWriter<io::Stderr>,
}

impl<'a> Printer<'a> {
    fn new(args: &'a LogsArgs, skip: u64) -> Self {
        Self {
            args,
            lines: Lines::default(),
            skip,
            skipping: [false; 2],
            out: BufWriter::with_capacity(64 * 1024, io::stdout()),
            err: BufWriter::new(io::stderr()),
        }
    }

    /// `false` when nothing after it is wanted any more.
    fn print(&mut self, chunk: &Chunk) -> io::Result<bool> {
        if self.args.until.is_some_and(|Moment(until)| chunk.time >= until) {
            self.flush()?;
            return Ok(false);
        }
        if !is_wanted(chunk, self.args) {
            return Ok(true);
        }
        let Self { args, lines, skip, skipping: [skip_out, skip_err], out, err } = self;
        let (out, other, skipping): (&mut dyn Write, &mut dyn Write, _) = match chunk.stream {
            Stream::Stdout => (out, err, skip_out),
            Stream::Stderr => (err, out, skip_err),
        };
        // The two may end in the same place, and are to come out in the order they were written.
        other.flush()?;
        for Piece { time, bytes, begins_line, .. } in lines.cut(chunk) {
            if begins_line {
                *skipping = *skip > 0;
                *skip -= u64::from(*skipping);
                if args.timestamps && !*skipping {
                    write!(out, "{time:.9} ")?;
                }
            }
            if !*skipping {
                out.write_all(bytes)?;
            }
        }
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}
