//! What the agent and its helper say to each other, over a socket pair that keeps messages apart.
//!
//! One request with its descriptors, one answer, and then the agent closes its end: only then may the helper,
//! the new process's parent, go. Besides, the process itself writes to the report pipe what stops it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use libcontainer::oci_spec::runtime::LinuxCapabilities;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::descriptor::Descriptor;

/// Requests hold paths and sizes, answers an error message; specs travel as files.
const MAX_MESSAGE_LEN: usize = 16 * 1024;

/// Error messages are cut to this length, in bytes.
pub const MAX_ERROR_LEN: usize = 4 * 1024;

const MAX_DESCRIPTORS: usize = 5;

/// What to launch.
#[derive(Serialize, Deserialize)]
pub struct Request {
    pub container_id: String,
    /// Where libcontainer keeps the state of all containers.
    pub state_dir: PathBuf,
    pub kind: Kind,
    pub stdio: Stdio,
    /// Whether the process waits for [`Descriptors::gate`] before it executes its program.
    pub gated: bool,
    pub confinement: Confinement,
}

/// What the process gives up itself. libcontainer finds no capabilities in its spec, and keeps them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// A file that holds an agent-api SeccompFilter; absent: the process may ask the kernel for anything.
    pub seccomp: Option<PathBuf>,
    /// Those it keeps; absent: all.
    pub capabilities: Option<LinuxCapabilities>,
}

#[derive(Serialize, Deserialize)]
pub enum Kind {
    /// A container's first process, from the bundle in this directory.
    Init {
        bundle: PathBuf,
        /// Whether its program is run by [`crate::init`].
        below_init: bool,
    },
    /// A further process of a running container; the file holds an OCI runtime-spec process.
    Tenant { process: PathBuf },
}

#[derive(Serialize, Deserialize)]
pub enum Stdio {
    /// Three descriptors come with the request.
    Descriptors,
    /// The process gets a terminal, whose master is sent to this socket.
    Terminal { console_socket: PathBuf, size: Option<Size> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// The descriptors that come with a request.
pub struct Descriptors {
    /// Takes a [`Report`] if the program cannot be executed; closes without one once it is.
    pub report: OwnedFd,
    /// One byte lets the process execute its program; end-of-file ends it.
    pub gate: OwnedFd,
    /// stdin, stdout, stderr, with [`Stdio::Descriptors`].
    pub stdio: Option<[OwnedFd; 3]>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Launched { pid: i32 },
    Failed { message: String },
}

/// Why a program could not be executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub cause: ProgramCause,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramCause {
    NotFound,
    NotExecutable,
    Other,
}

/// The agent's end.
pub struct AgentEnd {
    socket: Descriptor,
}

/// The helper's end.
pub struct HelperEnd {
    socket: OwnedFd,
}

/// Both ends; the helper's becomes its stdin.
pub fn pair() -> io::Result<(AgentEnd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (agent, helper) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((AgentEnd { socket: Descriptor::new(agent)? }, helper))
}

impl AgentEnd {
    /// Sends the request. The socket is fresh and holds a message of this size, so this does not wait.
    pub fn send(&self, request: &Request, descriptors: &Descriptors) -> io::Result<()> {
        let bytes = serde_json::to_vec(request)?;
        if bytes.len() > MAX_MESSAGE_LEN {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "request to the helper is too long"));
        }
        let mut fds = vec![descriptors.report.as_fd(), descriptors.gate.as_fd()];
        if let Some(stdio) = &descriptors.stdio {
            fds.extend(stdio.iter().map(AsFd::as_fd));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The helper's answer.
    pub async fn answer(&self) -> io::Result<Answer> {
        let mut buffer = vec![0; MAX_MESSAGE_LEN];
        let received = self.socket.read(&mut buffer).await?;
        let message = buffer.get(..received).unwrap_or_default();
        if message.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the helper ended without an answer"));
        }
        Ok(serde_json::from_slice(message)?)
    }
}

impl HelperEnd {
    /// Takes the socket from stdin, leaving /dev/null there.
    pub fn on_stdin() -> io::Result<Self> {
        let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        Ok(Self { socket })
    }

    /// The request and its descriptors.
    pub fn request(&self) -> io::Result<(Request, Descriptors)> {
        let mut bytes = vec![0; MAX_MESSAGE_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        let request = serde_json::from_slice(bytes.get(..received).unwrap_or_default())?;
        Ok((request, Descriptors::from_received(fds)?))
    }

    /// Answers, and waits until the agent has taken note.
    pub fn answer(&self, answer: &Answer) -> io::Result<()> {
        rustix::io::write(&self.socket, &serde_json::to_vec(answer)?)?;
        rustix::io::read(&self.socket, &mut [0])?;
        Ok(())
    }
}

impl Descriptors {
    fn from_received(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing");
        let mut fds = fds.into_iter();
        let report = fds.next().ok_or_else(missing)?;
        let gate = fds.next().ok_or_else(missing)?;
        let rest: Vec<OwnedFd> = fds.collect();
        let stdio = if rest.is_empty() { None } else { Some(rest.try_into().map_err(|_| missing())?) };
        Ok(Self { report, gate, stdio })
    }
}

impl Report {
    /// Writes the report where the agent reads it; nothing more can be done should that fail.
    pub fn send(&self, pipe: BorrowedFd<'_>) {
        if let Ok(bytes) = serde_json::to_vec(self) {
            let _ = rustix::io::write(pipe, &bytes);
        }
    }

    /// The report in what was read up to end-of-file; `None` if the program was executed.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        Some(serde_json::from_slice(bytes).unwrap_or_else(|error| Self {
            cause: ProgramCause::Other,
            message: format!("the process left an unreadable report: {error}"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[tokio::test]
    async fn a_request_arrives_with_its_descriptors_and_is_answered() {
        let (agent, helper) = pair().unwrap();
        let helper = HelperEnd { socket: helper };
        let (gate, opener) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (reports, report) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let request = Request {
            container_id: "c".to_owned(),
            state_dir: "/state".into(),
            kind: Kind::Init { bundle: "/bundle".into(), below_init: false },
            stdio: Stdio::Terminal {
                console_socket: "/socket".into(),
                size: Some(Size { rows: 1, columns: 2 }),
            },
            gated: true,
            confinement: Confinement::default(),
        };
        agent.send(&request, &Descriptors { report, gate, stdio: None }).unwrap();
        std::fs::File::from(opener).write_all(b"1").unwrap();

        let serving = std::thread::spawn(move || {
            let (request, descriptors) = helper.request().unwrap();
            assert!(descriptors.stdio.is_none());
            std::fs::File::from(descriptors.gate).read_exact(&mut [0]).unwrap();
            Report { cause: ProgramCause::NotFound, message: request.container_id }
                .send(descriptors.report.as_fd());
            helper.answer(&Answer::Launched { pid: 42 }).unwrap();
        });
        assert!(matches!(agent.answer().await.unwrap(), Answer::Launched { pid: 42 }));
        drop(agent);
        serving.join().unwrap();
        let mut bytes = Vec::new();
        std::fs::File::from(reports).read_to_end(&mut bytes).unwrap();
        let expected = Report { cause: ProgramCause::NotFound, message: "c".to_owned() };
        assert_eq!(Report::parse(&bytes), Some(expected));
        assert_eq!(Report::parse(&[]), None);
    }
}
