//! A process's stdin, stdout and stderr: pipes or a terminal on its side, streams of the host on the other.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use agent_api::agent::{Stdio, TerminalSize};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::in_root::dev_null;
use super::terminal::Console;
use crate::descriptor::Descriptor;
use crate::helper::protocol::{self, Size};
use crate::line::{Line, Switch};
use crate::pump::{self, Source};
use crate::streams::{ClaimError, Streams};

/// The host's ends; what the host left out is absent.
#[derive(Default)]
pub(super) struct HostEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// The process's side, before the process is made.
pub enum ProcessSide {
    Pipes { process: [OwnedFd; 3], agent: AgentEnds },
    Terminal { console: Console, size: Option<Size> },
}

/// The agent's ends of the pipes; none where /dev/null is.
pub struct AgentEnds {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// What the agent holds once the process is made.
pub enum Attached {
    Pipes(AgentEnds),
    Terminal(OwnedFd),
}

impl HostEnds {
    #[cfg(test)]
    pub(super) fn stdout_alone(stream: OwnedFd) -> Self {
        Self { stdout: Some(stream), ..Self::default() }
    }
}

impl AgentEnds {
    #[cfg(test)]
    pub(super) fn stdout_alone(output: OwnedFd) -> Self {
        Self { stdin: None, stdout: Some(output), stderr: None }
    }
}

/// Takes the streams the host opened for a process, or waits until it does.
pub(super) async fn claim(streams: &Streams, stdio: &Stdio) -> Result<HostEnds, ClaimError> {
    let claim = async |id| if id == 0 { Ok(None) } else { streams.claim(id).await.map(Some) };
    let stderr = if stdio.terminal.is_some() { 0 } else { stdio.stderr };
    let (stdin, stdout, stderr) = tokio::try_join!(claim(stdio.stdin), claim(stdio.stdout), claim(stderr))?;
    Ok(HostEnds { stdin, stdout, stderr })
}

impl ProcessSide {
    /// Pipes, or in `dir` the socket a terminal will come from.
    pub fn make(stdio: &Stdio, dir: &Path) -> io::Result<Self> {
        if let Some(size) = stdio.terminal.as_ref() {
            return Ok(Self::Terminal { console: Console::bind(dir)?, size: window_size(size) });
        }
        let (process_stdin, stdin) = if stdio.stdin == 0 { (dev_null()?, None) } else { input_pipe()? };
        let (process_stdout, stdout) = if stdio.stdout == 0 { (dev_null()?, None) } else { output_pipe()? };
        let (process_stderr, stderr) = if stdio.stderr == 0 { (dev_null()?, None) } else { output_pipe()? };
        let process = [process_stdin, process_stdout, process_stderr];
        Ok(Self::Pipes { process, agent: AgentEnds { stdin, stdout, stderr } })
    }

    /// What the helper is told.
    pub fn request(&self) -> protocol::Stdio {
        match self {
            Self::Pipes { .. } => protocol::Stdio::Descriptors,
            Self::Terminal { console, size } => {
                protocol::Stdio::Terminal { console_socket: console.path().to_owned(), size: *size }
            }
        }
    }
}

fn input_pipe() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((reader, Some(writer)))
}

fn output_pipe() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((writer, Some(reader)))
}

/// The tasks that carry a process's stdio.
pub(super) struct Carriage {
    exited: watch::Sender<bool>,
    input: Option<AbortHandle>,
    outputs: Vec<JoinHandle<()>>,
    terminal: Option<Terminal>,
}

/// What gives the streams of a process their successors, in a guest that was copied. Without it, a process whose streams
/// the copying took away has lost them for good.
#[derive(Default)]
pub(super) struct Switches {
    stdin: Option<Switch>,
    stdout: Option<Switch>,
    stderr: Option<Switch>,
}

/// A process's terminal, as far as it outlives the carrying.
#[derive(Clone)]
pub(super) struct Terminal {
    master: Arc<Descriptor>,
}

impl Carriage {
    /// Begins to carry.
    pub(super) fn start(host: HostEnds, attached: Attached) -> io::Result<(Self, Switches)> {
        let (exited, _) = watch::channel(false);
        let mut carriage = Self { exited, input: None, outputs: Vec::new(), terminal: None };
        let mut switches = Switches::default();
        match attached {
            Attached::Pipes(agent) => {
                if let (Some(stream), Some(stdin)) = (host.stdin, agent.stdin) {
                    switches.stdin = Some(carriage.carry_input(stream, Arc::new(Descriptor::new(stdin)?))?);
                }
                for (stream, output, switch) in [
                    (host.stdout, agent.stdout, &mut switches.stdout),
                    (host.stderr, agent.stderr, &mut switches.stderr),
                ] {
                    if let (Some(stream), Some(output)) = (stream, output) {
                        let output = Arc::new(Descriptor::new(output)?);
                        *switch = carriage.carry_output(Source::Pipe, output, Some(stream))?;
                    }
                }
            }
            Attached::Terminal(master) => {
                let master = Arc::new(Descriptor::new(master)?);
                if let Some(stream) = host.stdin {
                    switches.stdin = Some(carriage.carry_input(stream, master.clone())?);
                }
                // Even without a stream: a terminal nobody reads would stop its process once full.
                switches.stdout = carriage.carry_output(Source::Terminal, master.clone(), host.stdout)?;
                carriage.terminal = Some(Terminal { master });
            }
        }
        Ok((carriage, switches))
    }

    /// The terminal, if the process has one.
    pub(super) fn terminal(&self) -> Option<Terminal> {
        self.terminal.clone()
    }

    /// Carries what the process, which has ended, left behind; returns when the host has it all. In a
    /// guest that was copied, that is when its new host has.
    pub(super) async fn finish(self) {
        if let Some(input) = &self.input {
            input.abort();
        }
        // No receiver: no output to carry.
        let _ = self.exited.send(true);
        for output in self.outputs {
            // A task ends by itself or with the runtime.
            let _ = output.await;
        }
    }

    fn carry_input(&mut self, stream: OwnedFd, stdin: Arc<Descriptor>) -> io::Result<Switch> {
        let (line, switch) = Line::new(stream)?;
        let carrying = tokio::spawn(async move {
            // Ends when the process closes its stdin, too: neither side need be told.
            let _ = pump::input(line, &stdin).await;
        });
        self.input = Some(carrying.abort_handle());
        Ok(switch)
    }

    fn carry_output(
        &mut self,
        source: Source,
        output: Arc<Descriptor>,
        stream: Option<OwnedFd>,
    ) -> io::Result<Option<Switch>> {
        let (line, switch) = stream.map(Line::new).transpose()?.unzip();
        let exited = self.exited.subscribe();
        self.outputs.push(tokio::spawn(async move {
            // A host that stops listening closes the pipe under the process, as a reader of its own would.
            let _ = pump::output(source, &output, line, exited).await;
        }));
        Ok(switch)
    }
}

impl Switches {
    /// Gives each stream its successor, or none where the host brought none. What the process never had a stream for it
    /// still has none for.
    pub(super) fn give(&self, host: HostEnds) -> io::Result<()> {
        let given = [(&self.stdin, host.stdin), (&self.stdout, host.stdout), (&self.stderr, host.stderr)];
        for (switch, stream) in given {
            if let Some(switch) = switch {
                switch.give(stream)?;
            }
        }
        Ok(())
    }
}

impl Terminal {
    pub(super) fn resize(&self, size: &TerminalSize) -> io::Result<()> {
        let Some(size) = window_size(size) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&*self.master, size)?)
    }
}

/// A size the kernel's struct winsize holds.
fn window_size(size: &TerminalSize) -> Option<Size> {
    Some(Size { rows: size.rows.try_into().ok()?, columns: size.columns.try_into().ok()? })
}
