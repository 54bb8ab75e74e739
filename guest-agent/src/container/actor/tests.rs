//! A container that is taken over, without what only root can make: its first process is a child of the test.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command as Program};

use agent_api::agent::{File, Stdio, TakeOverRequest};
use agent_api::stream_header;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::launch::Launcher;
use super::super::rootfs::Rootfs;
use super::super::stdio::{AgentEnds, Attached};
use super::super::{Containers, lock};
use super::*;
use crate::events::{self, EventQueue};
use crate::reaper::Reaper;
use crate::streams::Streams;

struct Guest {
    containers: Containers,
    events: EventQueue,
    exit: Option<oneshot::Sender<ExitCode>>,
    child: Child,
}

/// A container "mother" whose bundle is `dir` and whose stdout goes from `output` to `host`.
fn run(dir: &Path, host: HostEnds, output: OwnedFd) -> Guest {
    let (events, queue) = events::queue();
    let containers = Containers::new(Environment {
        containers_dir: dir.to_owned(),
        launcher: Launcher::new("/".into(), dir.to_owned(), Reaper::default()),
        streams: Streams::default(),
        events,
    });
    let bundle = Bundle {
        made_as: "mother".to_owned(),
        dir: dir.to_owned(),
        rootfs: Rootfs::pretended(dir),
        state_dir: dir.to_owned(),
        seccomp: None,
    };
    let created = Created { bundle, cgroup: Cgroup::pretended(dir), first: None };
    let (mailbox, commands) = mpsc::channel(8);
    lock(&containers.mailboxes).insert("mother".to_owned(), mailbox.clone());
    let mut actor = Actor::new(
        containers.environment.clone(),
        "mother".to_owned(),
        created,
        mailbox,
        containers.mailboxes.clone(),
    );
    let child = Program::new("sleep").arg("60").spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let (exit, exited) = oneshot::channel();
    let (carriage, switches) =
        Carriage::start(host, Attached::Pipes(AgentEnds::stdout_alone(output))).unwrap();
    let process = LaunchedProcess { pid, pidfd, exit: exited };
    actor.take_charge(INIT.to_owned(), process, carriage, switches);
    tokio::spawn(actor.run(commands));
    Guest { containers, events: queue, exit: Some(exit), child }
}

impl Guest {
    /// Takes the container over with a stream for its stdout.
    async fn take_over(
        &self,
        id: &str,
        new_id: &str,
        files: Vec<File>,
    ) -> (Result<u32, CallError>, UnixStream) {
        let (mut host, guest) = UnixStream::pair().unwrap();
        host.write_all(&stream_header::encode(7)).unwrap();
        self.containers.environment.streams.admit(guest.into());
        let request = TakeOverRequest {
            container_id: id.to_owned(),
            new_container_id: new_id.to_owned(),
            stdio: Some(Stdio { stdout: 7, ..Default::default() }).into(),
            files,
            ..Default::default()
        };
        (self.containers.take_over(request).await, host)
    }

    fn end(&mut self, code: u32) {
        self.exit.take().unwrap().send(ExitCode(code)).unwrap();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn a_container_goes_on_under_its_new_id_with_its_new_streams() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("files")).unwrap();
    fs::write(dir.path().join("files/0"), "127.0.1.1 mother").unwrap();
    let (mother, stream) = UnixStream::pair().unwrap();
    let (output, process) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut guest = run(dir.path(), HostEnds::stdout_alone(stream.into()), output);
    drop(mother);

    let hosts = File { content: b"127.0.1.1 clone".to_vec(), ..Default::default() };
    let (taken, host) = guest.take_over("mother", "clone", vec![hosts]).await;
    assert_eq!(taken.unwrap(), guest.child.id());
    assert_eq!(fs::read_to_string(dir.path().join("files/0")).unwrap(), "127.0.1.1 clone");
    let gone = guest.containers.wait("mother", String::new()).await;
    assert!(matches!(gone, Err(CallError::NotFound(_))));

    rustix::io::write(&process, b"hello").unwrap();
    guest.end(3);
    let exit = guest.containers.wait("clone", String::new()).await.unwrap();
    assert_eq!((exit.container_id.as_str(), exit.code), ("clone", 3));
    assert_eq!(guest.events.next().await.exit().container_id, "clone");
    assert_eq!(read(host), "hello");
}

#[tokio::test]
async fn an_exit_is_told_again_to_who_takes_the_container_over() {
    let dir = tempfile::tempdir().unwrap();
    let (_mother, stream) = UnixStream::pair().unwrap();
    let (output, _process) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut guest = run(dir.path(), HostEnds::stdout_alone(stream.into()), output);
    guest.end(4);
    assert_eq!(guest.events.next().await.exit().container_id, "mother");

    for id in ["mother", "clone"] {
        let (taken, host) = guest.take_over(id, "clone", Vec::new()).await;
        taken.unwrap();
        let event = guest.events.next().await;
        assert_eq!((event.exit().container_id.as_str(), event.exit().code), ("clone", 4));
        assert_eq!(read(host), "", "nothing is left to say");
    }
    let exit = guest.containers.wait("clone", String::new()).await.unwrap();
    assert_eq!(exit.container_id, "clone");
}

#[tokio::test]
async fn a_container_is_not_taken_over_under_a_name_it_cannot_have() {
    let dir = tempfile::tempdir().unwrap();
    let (_mother, stream) = UnixStream::pair().unwrap();
    let (output, _process) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let guest = run(dir.path(), HostEnds::stdout_alone(stream.into()), output);
    lock(&guest.containers.mailboxes).insert("other".to_owned(), mpsc::channel(1).0);
    let asked = async |id, new_id| {
        let request = TakeOverRequest {
            container_id: String::from(id),
            new_container_id: String::from(new_id),
            ..Default::default()
        };
        guest.containers.take_over(request).await
    };
    assert!(matches!(asked("mother", "../x").await, Err(CallError::BadId(_))));
    assert!(matches!(asked("mother", "other").await, Err(CallError::Exists(_))));
    assert!(matches!(asked("nobody", "clone").await, Err(CallError::NotFound(_))));
    assert!(lock(&guest.containers.mailboxes).contains_key("mother"));
}

#[tokio::test]
async fn a_stream_that_is_not_brought_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (mother, stream) = UnixStream::pair().unwrap();
    let (output, process) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let guest = run(dir.path(), HostEnds::stdout_alone(stream.into()), output);
    let request = TakeOverRequest {
        container_id: "mother".to_owned(),
        new_container_id: "mother".to_owned(),
        ..Default::default()
    };
    guest.containers.take_over(request).await.unwrap();
    rustix::io::write(&process, b"unheard").unwrap();
    assert_eq!(tokio::task::spawn_blocking(|| read(mother)).await.unwrap(), "");
    let closed = async {
        while rustix::io::write(&process, b"?").is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), closed).await.unwrap();
}

#[tokio::test]
async fn whoever_is_left_of_a_container_ends_with_its_first_process() {
    let dir = tempfile::tempdir().unwrap();
    let (_mother, stream) = UnixStream::pair().unwrap();
    let (output, _process) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut guest = run(dir.path(), HostEnds::stdout_alone(stream.into()), output);
    let killed = dir.path().join("cgroup.kill");
    assert!(!killed.exists());
    guest.end(0);
    guest.containers.wait("mother", String::new()).await.unwrap();
    assert_eq!(fs::read_to_string(killed).unwrap(), "1");
}
