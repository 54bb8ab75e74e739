//! Containers and their supervisors, over the sandbox's fake VMM and agent: no KVM, no root.

// The whole program is tests; clippy takes only the test functions themselves for such.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../sandbox/tests/lifecycle/fake/mod.rs"]
#[allow(dead_code, reason = "the sandbox's own tests use more of it")]
mod fake;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use containers::log::Reader;
use containers::{
    Config, Container, Containers, ContainersError, Ended, Failure, Host, ImageOf, OpenStdin, RestartPolicy,
    Started, State, StopTimeout, Supervisor, SupervisorError, Timestamp, Wiring, id, supervise,
};
use oci_spec::runtime::{ProcessBuilder, SpecBuilder};
use sandbox::{Streams, Timeline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PIPES: Wiring = Wiring { stdin: true, stdout: true, stderr: false, terminal: None };

fn containers(host: &fake::Host) -> Containers {
    Containers::open(host.root.join("containers"), host.state()).unwrap()
}

fn config(name: &str, program: &str) -> Config {
    let process = ProcessBuilder::default().args([program.to_owned()]).cwd("/").build().unwrap();
    Config {
        id: id::random().unwrap(),
        name: name.to_owned(),
        created: Timestamp::now(),
        image: ImageOf { name: "image".to_owned(), id: "id".to_owned() },
        spec: SpecBuilder::default().process(process).build().unwrap(),
        user: String::new(),
        hostname: "host".to_owned(),
        files: Vec::new(),
        vcpus: 1,
        memory: None,
        limits: Default::default(),
        storage: 128 << 20,
        stop_signal: 15,
        stop_timeout: StopTimeout::default(),
        restart: RestartPolicy::No,
        auto_remove: false,
        keeps_disk: true,
        labels: Default::default(),
        stdin: OpenStdin { open: true, once: true },
        init: false,
        health: None,
        log: Default::default(),
    }
}

/// This program as the supervisor of a container of that host.
fn program(host: &fake::Host) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "supervisor", "--ignored", "--nocapture"]).env("FAKE_HOST", &host.root);
    program
}

/// Not a test: a supervisor, for the tests to start.
#[tokio::test]
#[ignore = "run by the other tests"]
async fn supervisor() {
    let fakes = fake::Host::at(Path::new(&std::env::var_os("FAKE_HOST").unwrap()));
    let host = Host {
        containers: &containers(&fakes),
        installation: &fakes.installation(fake::WELL),
        scratch: fakes.root.join("scratch"),
        open_image: &|_| Ok(vec![File::open("/dev/null")?, File::open("/dev/null")?]),
        timeline: &Timeline::default(),
    };
    supervise(&host).await.unwrap();
}

/// Not a test: the program behind `bulkhead-vmm`, see [`fake::Host::new`].
#[test]
#[ignore = "run by the other tests"]
fn fake_vmm() {
    fake::serve();
}

async fn start(host: &fake::Host, config: Config, wiring: Wiring) -> (Started, Streams) {
    let claimed = containers(host).create(config).unwrap();
    claimed.start(program(host), Some(wiring), true).await.unwrap()
}

fn find(host: &fake::Host, name: &str) -> Container {
    containers(host).find(name).unwrap()
}

async fn read(stream: &mut Option<tokio::net::UnixStream>) -> Vec<u8> {
    let mut all = Vec::new();
    stream.as_mut().unwrap().read_to_end(&mut all).await.unwrap();
    all
}

fn logged(container: &Container) -> Vec<u8> {
    let mut reader = Reader::in_directory(container.directory());
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        all.extend(chunk.bytes);
    }
    all
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[tokio::test]
async fn a_run_is_whole_from_its_first_byte_to_its_exit_code() {
    let host = fake::Host::new();
    let (started, mut streams) = start(&host, config("whole", fake::CAT), PIPES).await;
    let input = vec![b'x'; 1 << 20];
    let mut stdin = streams.stdin.take().unwrap();
    let write = async {
        stdin.write_all(&input).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let (running, (), output) = tokio::join!(started.running(), write, read(&mut streams.stdout));
    running.unwrap();
    assert!(output == input);
    let ended = started.attachment().ended().await.unwrap();
    assert_eq!((ended.code, ended.error.as_str()), (42, ""));
    assert!(ended.stamps.iter().any(|stamp| stamp.step == "command started") && ended.kvm_exits["io"] == 3);
    started.gone().unwrap();

    let container = find(&host, "whole");
    let status = container.status();
    assert_eq!((status.state, status.exit_code, status.supervisor), (State::Exited, 42, None));
    assert!(status.started.unwrap() <= status.finished.unwrap());
    assert!(logged(&container) == input && container.disk().exists());
    assert!(host.state().records().unwrap().is_empty());
}

#[tokio::test]
async fn a_start_right_after_the_end_waits_for_what_is_left() {
    let host = fake::Host::new();
    let (mut started, mut streams) = start(&host, config("soon", fake::CAT), PIPES).await;
    for _ in 0..10 {
        started.running().await.unwrap();
        drop(streams.stdin);
        assert_eq!(started.attachment().ended().await.unwrap().code, 42);
        let claimed = containers(&host).claim(&find(&host, "soon")).unwrap();
        (started, streams) = claimed.start(program(&host), Some(PIPES), false).await.unwrap();
    }
    started.attachment().abort().await.unwrap();
    started.gone().unwrap();
    assert!(host.state().records().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_to_be_removed_is_gone_when_its_end_is_told() {
    let host = fake::Host::new();
    let config = Config { auto_remove: true, keeps_disk: false, ..config("brief", fake::CAT) };
    let (started, streams) = start(&host, config, PIPES).await;
    started.running().await.unwrap();
    drop(streams.stdin);
    assert_eq!(started.attachment().ended().await.unwrap().code, 42);
    assert!(is_empty(&host.root.join("containers")) && is_empty(&host.root.join("scratch")));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told_with_its_code_and_the_container_stays() {
    let host = fake::Host::new();
    let (started, _streams) = start(&host, config("missing", fake::MISSING), PIPES).await;
    match started.running().await {
        Err(SupervisorError::Failed(Failure { message, code: 127 })) => {
            assert!(message.contains("no such program"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let container = find(&host, "missing");
    assert_eq!((container.status().state, container.status().exit_code), (State::Created, 127));
    containers(&host).remove(containers(&host).claim(&container).unwrap()).unwrap();
    assert!(is_empty(&host.root.join("containers")));
}

#[tokio::test]
async fn others_attach_signal_wait_and_stop() {
    let host = fake::Host::new();
    let (started, streams) = start(&host, config("shared", fake::CAT), PIPES).await;
    started.running().await.unwrap();
    let container = find(&host, "shared");
    assert_eq!(container.status().state, State::Running);
    assert!(matches!(containers(&host).claim(&container), Err(ContainersError::Running(_))));

    let watching = Wiring { stdin: false, ..PIPES };
    let (attachment, mut other) = Supervisor::connect(&container).unwrap().attach(watching).await.unwrap();
    streams.stdin.as_ref().unwrap().try_write(b"hello").unwrap();
    let mut seen = [0; 5];
    for stream in [&mut other.stdout, &mut { streams.stdout }] {
        stream.as_mut().unwrap().read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"hello");
    }
    let waiting = Supervisor::connect(&container).unwrap();
    let stopping = Supervisor::connect(&container).unwrap();
    let (waited, stopped, attached) =
        tokio::join!(waiting.wait(), stopping.stop(None, None), attachment.ended());
    for ended in [waited, stopped, attached] {
        assert_eq!(ended.unwrap().code, 128 + 15);
    }
    assert_eq!(find(&host, "shared").status().state, State::Exited);
    assert!(matches!(Supervisor::connect(&container), Err(SupervisorError::NotRunning(_))));
    drop(streams.stdin);
}

#[tokio::test]
async fn who_started_it_may_leave() {
    let host = fake::Host::new();
    let (started, streams) = start(&host, config("left", fake::CAT), PIPES).await;
    started.running().await.unwrap();
    drop((started, streams));
    // Its input has ended with who had it, and so has the command.
    let container = find(&host, "left");
    match Supervisor::connect(&container) {
        Ok(supervisor) => assert_eq!(supervisor.wait().await.unwrap().code, 42),
        Err(error) => assert!(matches!(error, SupervisorError::NotRunning(_)), "{error}"),
    }
    assert_eq!(find(&host, "left").status().exit_code, 42);
}

#[tokio::test]
async fn the_restart_policy_is_followed_until_the_container_is_stopped() {
    let host = fake::Host::new();
    let config = Config { restart: RestartPolicy::Always, ..config("again", fake::CAT) };
    let (started, streams) = start(&host, config, PIPES).await;
    started.running().await.unwrap();
    drop(streams.stdin);
    let Ended { code, .. } = started.attachment().ended().await.unwrap();
    assert_eq!(code, 42);
    let container = find(&host, "again");
    let supervisor = Supervisor::connect(&container).unwrap();
    // Whether it waits for the next run or is in it.
    supervisor.stop(None, Some(StopTimeout::After(0))).await.unwrap();
    let container = find(&host, "again");
    assert_eq!((container.status().state, container.status().restarts), (State::Exited, 1));
}

#[tokio::test]
async fn a_supervisor_that_is_killed_is_found_out_by_the_next_command() {
    for auto_remove in [false, true] {
        let host = fake::Host::new();
        let config = Config { auto_remove, ..config("orphan", fake::CAT) };
        let (started, _streams) = start(&host, config, PIPES).await;
        started.running().await.unwrap();
        let supervisor = find(&host, "orphan").status().supervisor.unwrap();
        let killed = Command::new("kill").args(["-9", &supervisor.pid.to_string()]).status().unwrap();
        assert!(killed.success());
        assert!(matches!(started.attachment().ended().await, Err(SupervisorError::Gone(_))));
        started.gone().unwrap();

        let left = containers(&host).list().unwrap();
        assert!(host.state().records().unwrap().is_empty());
        match left.as_slice() {
            [] => assert!(auto_remove && is_empty(&host.root.join("containers"))),
            [container] => {
                assert!(!auto_remove);
                assert_eq!((container.status().state, container.status().exit_code), (State::Exited, 137));
                assert!(container.status().error.contains("killed"));
            }
            more => panic!("{more:?}"),
        }
    }
}

#[test]
fn of_two_that_want_a_name_one_gets_it() {
    let host = fake::Host::new();
    let directory = host.root.join("containers");
    let made: Vec<bool> = std::thread::scope(|scope| {
        let racing: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| containers(&host).create(config("raced", fake::CAT)).is_ok()))
            .collect();
        racing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "a refused one left something");
}

#[test]
fn containers_are_found_by_name_id_and_the_beginning_of_one() {
    let host = fake::Host::new();
    let containers = containers(&host);
    let ids = ["aa11".repeat(16), "aa22".repeat(16)];
    for (id, name) in ids.iter().zip(["one", "two"]) {
        containers.create(Config { id: id.clone(), ..config(name, fake::CAT) }).unwrap().release().unwrap();
    }
    assert_eq!(containers.find("one").unwrap().id(), ids[0]);
    assert_eq!(containers.find("aa2").unwrap().name(), "two");
    assert!(matches!(containers.find("aa"), Err(ContainersError::Ambiguous(_))));
    assert!(matches!(containers.find("bb"), Err(ContainersError::NotFound(_))));
    assert!(matches!(containers.find(""), Err(ContainersError::NotFound(_))));
    let one = containers.find("one").unwrap();
    assert!(matches!(containers.rename(&one, "two"), Err(ContainersError::NameTaken { .. })));
    assert!(matches!(containers.rename(&one, "../x"), Err(ContainersError::BadName(_))));
    containers.rename(&one, "three").unwrap();
    assert_eq!(containers.find("three").unwrap().id(), ids[0]);
}

#[test]
fn a_renamed_container_has_its_new_name_and_frees_the_old_one() {
    let host = fake::Host::new();
    let containers = containers(&host);
    let one = containers.create(config("one", fake::CAT)).unwrap().release().unwrap();
    containers.rename(&one, "other").unwrap();
    assert_eq!(find(&host, "other").name(), "other");
    assert!(containers.find("one").is_err());
    assert!(containers.create(config("other", fake::CAT)).is_err());
    containers.create(config("one", fake::CAT)).unwrap().release().unwrap();
    assert_ne!(find(&host, "one").id(), one.id());
    // A crash of the machine may take a name that was just given.
    let last = containers.create(config("last", fake::CAT)).unwrap().release().unwrap();
    fs::write(last.directory().join("name.json"), "").unwrap();
    assert_eq!(find(&host, "last").id(), last.id());
}

#[test]
fn what_a_crash_left_half_made_or_half_removed_is_cleaned_up() {
    let host = fake::Host::new();
    let containers = containers(&host);
    let directory = host.root.join("containers");
    fs::create_dir(directory.join("half-made")).unwrap();
    fs::write(directory.join("half-made/status.json"), "{}").unwrap();
    // Made by a process that is gone.
    let made = containers.create(config("lost", fake::CAT)).unwrap();
    let status = made.container().directory().join("status.json");
    drop(made);
    fs::write(status, "nonsense").unwrap();
    let left = containers.list().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].status().state, State::Exited, "what it was is not known, but it is kept");
    assert!(!directory.join("half-made").exists());
}
