//! Sandboxes from launch to clean-up, against a fake VMM and agent: no KVM, no root.

// The whole program is tests; clippy takes only the test functions themselves for such.
#![allow(clippy::unwrap_used, clippy::panic)]

mod devices;
mod fake;
mod file_server;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio as ProcessStdio};

use fake::Host;
use oci_spec::runtime::{ProcessBuilder, Spec, SpecBuilder};
use sandbox::{
    AttachError, Attached, Cause, ContainerConfig, CreateError, EndReason, ExecConfig, Exit, GuestError,
    LaunchError, LaunchPhase, Process, Reason, RecordError, ResizeError, Sandbox, State, Stdio, Streams,
    Timeline,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PIPES: Stdio = Stdio { stdin: true, stdout: true, stderr: true, terminal: None };
const OUTPUT_ONLY: Stdio = Stdio { stdin: false, stdout: true, stderr: false, terminal: None };

async fn launch(host: &Host, name: &str, behaviour: &str) -> Result<Sandbox, LaunchError> {
    let timeline = Timeline::default();
    Sandbox::launch(&host.installation(behaviour), &host.state(), host.config(name), &timeline).await
}

fn spec(program: &str) -> Spec {
    let process = ProcessBuilder::default().args([program.to_owned()]).cwd("/").build().unwrap();
    SpecBuilder::default().process(process).build().unwrap()
}

async fn create(sandbox: &Sandbox, program: &str, stdio: Stdio) -> Result<(Process, Streams), CreateError> {
    let config = ContainerConfig {
        id: "c".to_owned(),
        spec: spec(program),
        seccomp: None,
        rootfs: sandbox.rootfs().clone(),
        stdio,
        user: String::new(),
        files: Vec::new(),
        init: false,
        shared_pids: None,
    };
    sandbox.guest().create_container(config).await
}

async fn cat(streams: Streams, input: &[u8]) -> Vec<u8> {
    let (mut stdin, mut stdout) = (streams.stdin.unwrap(), streams.stdout.unwrap());
    let write = async {
        stdin.write_all(input).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let mut output = Vec::new();
    let (_, read) = tokio::join!(write, stdout.read_to_end(&mut output));
    read.unwrap();
    output
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[tokio::test]
async fn a_process_has_its_own_streams_and_its_exit_code_and_nothing_stays() {
    let host = Host::new();
    let sandbox = launch(&host, "one", fake::WELL).await.unwrap();

    let (process, streams) = create(&sandbox, fake::CAT, PIPES).await.unwrap();
    process.start().await.unwrap();
    let input = vec![b'x'; 1 << 20];
    assert!(cat(streams, &input).await == input);
    assert_eq!(process.wait().await.unwrap(), Exit { code: 42, out_of_memory: false });

    let ended = sandbox.stop().await;
    assert_eq!(ended.reason, Reason::Told(EndReason::Stopped));
    assert_eq!(ended.exits["io"], 3);
    assert!(host.state().records().unwrap().is_empty());
    assert!(is_empty(&host.root.join("data")), "the scratch disk has a name");
}

#[tokio::test]
async fn a_start_leaves_a_stamp_at_every_step_the_vmms_own_among_them() {
    let host = Host::new();
    let timeline = Timeline::default();
    let config = host.config("timed");
    let sandbox =
        Sandbox::launch(&host.installation(fake::WELL), &host.state(), config, &timeline).await.unwrap();
    sandbox.stop().await;
    let steps: Vec<_> = timeline.stamps().into_iter().map(|stamp| stamp.step).collect();
    let expected = [
        "fake memory mapped",
        "record written",
        "descriptors opened",
        "VMM spawned",
        "VM running",
        "agent connected",
        "agent ready",
        "identity adopted",
        "VM stopped",
    ];
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn running_out_of_memory_shows_in_the_exit() {
    let host = Host::new();
    let sandbox = launch(&host, "eater", fake::WELL).await.unwrap();
    let (process, _streams) = create(&sandbox, fake::EATER, OUTPUT_ONLY).await.unwrap();
    let mut told = process.out_of_memory();
    process.start().await.unwrap();
    assert_eq!(process.wait().await.unwrap(), Exit { code: 137, out_of_memory: true });
    told.changed().await.unwrap();
    assert_eq!(*told.borrow_and_update(), 1);
    assert!(told.changed().await.is_err(), "it can run out once more");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_told_as_such() {
    let host = Host::new();
    let sandbox = launch(&host, "missing", fake::WELL).await.unwrap();
    let Err(error) = create(&sandbox, fake::MISSING, PIPES).await else { panic!("created") };
    assert_eq!(error.cause(), Cause::CAUSE_COMMAND_NOT_FOUND);
    assert_eq!(error.to_string(), "cannot create the container: no such program");
}

#[tokio::test]
async fn a_vms_memory_follows_a_limit_as_far_as_the_guest_does() {
    const MIB: u64 = 1 << 20;
    let host = Host::new();
    // With a limit of 256 MiB.
    let sandbox = launch(&host, "resized", fake::WELL).await.unwrap();
    for limit in [1, 256, 512, 512, 1536] {
        sandbox.resize(limit * MIB).await.unwrap();
    }
    let refused = sandbox.resize(2048 * MIB).await;
    assert!(matches!(refused, Err(ResizeError::NotTaken(_))), "{refused:?}");
    let refused = sandbox.resize(1 << 40).await;
    assert!(matches!(refused, Err(ResizeError::TooMuch { .. })), "{refused:?}");
    sandbox.resize(128 * MIB).await.unwrap();
    let ended = sandbox.stop().await;
    let asked = ended.diagnostics.lines().filter_map(|line| line.strip_prefix("fake guest of "));
    let asked: Vec<_> = asked.filter_map(|line| line.split(' ').next()?.parse::<u64>().ok()).collect();
    assert_eq!(asked, [260, 1300, 1820, 0].map(|mib| mib * MIB), "{}", ended.diagnostics);
}

#[tokio::test]
async fn vcpus_are_added_as_far_as_the_host_has_processors_and_none_goes() {
    let there = std::thread::available_parallelism().unwrap().get();
    let host = Host::new();
    // With one.
    let sandbox = launch(&host, "more", fake::WELL).await.unwrap();
    for wanted in [1, 2, 2, 1, u8::MAX, 3] {
        sandbox.add_processors(wanted).await.unwrap();
    }
    let ended = sandbox.stop().await;
    let asked = ended
        .diagnostics
        .lines()
        .filter_map(|line| line.strip_prefix("fake VMM of ")?.strip_suffix(" vCPUs"));
    let asked: Vec<usize> = asked.map(|count| count.parse().unwrap()).collect();
    let mut expected = vec![2, there.min(8)];
    expected.dedup();
    expected.retain(|count| *count > 1 && *count <= there);
    assert_eq!(asked, expected, "{}", ended.diagnostics);
}

#[tokio::test]
async fn a_guest_that_panics_at_boot_is_reported_with_phase_and_console() {
    let host = Host::new();
    let Err(error) = launch(&host, "panic", fake::PANIC_AT_BOOT).await else { panic!("launched") };
    let text = error.to_string();
    assert!(text.starts_with("the VM ended while booting the guest: the guest's kernel panicked"), "{text}");
    assert!(text.contains("Kernel panic - not syncing: fake"), "{text}");
    assert!(host.state().records().unwrap().is_empty());
}

#[tokio::test]
async fn a_guest_whose_connections_break_first_is_reported_by_its_end() {
    let host = Host::new();
    match launch(&host, "break", fake::BREAK_THEN_PANIC).await {
        Err(LaunchError::Ended { phase: LaunchPhase::Adopt, ended }) => {
            assert_eq!(ended.reason, Reason::Told(EndReason::Panic));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("launched"),
    }
}

#[tokio::test]
async fn a_vmm_that_dies_without_a_word_is_reported_with_its_signal_and_its_last_lines() {
    let host = Host::new();
    match launch(&host, "killed", fake::KILLED_AT_LAUNCH).await {
        Err(LaunchError::Ended { phase: LaunchPhase::Vm, ended }) => {
            assert_eq!(ended.reason, Reason::Killed { signal: 6 });
            assert!(ended.diagnostics.contains("fake VMM of 2 disks"), "{}", ended.diagnostics);
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("launched"),
    }
}

#[tokio::test]
async fn what_the_vmm_refuses_is_passed_on() {
    let host = Host::new();
    let Err(error) = launch(&host, "refused", fake::REFUSE_LAUNCH).await else { panic!("launched") };
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("the kernel is no ELF file"), "{source}");
}

#[tokio::test]
async fn the_end_of_the_vm_ends_the_wait_for_a_process() {
    let host = Host::new();
    let sandbox = launch(&host, "crasher", fake::WELL).await.unwrap();
    let (process, streams) = create(&sandbox, fake::CRASHER, PIPES).await.unwrap();
    process.start().await.unwrap();
    // With the end of its input it takes the VM along, but not the answer to the start.
    drop(streams);
    match process.wait().await {
        Err(GuestError::Ended(ended)) => assert_eq!(ended.reason, Reason::Killed { signal: 6 }),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn another_process_executes_and_signals_through_the_broker() {
    let host = Host::new();
    let mut sandbox = launch(&host, "shared", fake::WELL).await.unwrap();
    let (process, _streams) = create(&sandbox, fake::CAT, PIPES).await.unwrap();
    process.start().await.unwrap();
    let early = Attached::open(&host.state(), "shared").await;
    assert!(matches!(early, Err(AttachError::Starting(_))));
    sandbox.set_running().unwrap();
    assert_eq!(host.state().find("shared").unwrap().state, State::Running);

    let attached = Attached::open(&host.state(), "shared0").await.unwrap();
    let exec = ExecConfig {
        container_id: "c".to_owned(),
        exec_id: "e".to_owned(),
        process: spec(fake::CAT).process().clone().unwrap(),
        stdio: PIPES,
        user: String::new(),
    };
    let (executed, streams) = attached.guest().exec(exec).await.unwrap();
    assert_eq!(cat(streams, b"hello").await, b"hello");
    assert_eq!(executed.wait().await.unwrap().code, 42);

    attached.guest().existing("c", "").signal(15).await.unwrap();
    assert_eq!(process.wait().await.unwrap().code, 128 + 15);

    let waiting = attached.guest().existing("c", "never");
    let (waited, _) = tokio::join!(waiting.wait(), sandbox.stop());
    assert!(matches!(waited, Err(GuestError::Gone)), "{waited:?}");
}

#[tokio::test]
async fn a_name_is_one_living_sandboxs_only() {
    let host = Host::new();
    let sandbox = launch(&host, "name", fake::WELL).await.unwrap();
    let taken = launch(&host, "name", fake::WELL).await;
    assert!(matches!(taken, Err(LaunchError::Record(RecordError::NameTaken(_)))));
    assert!(matches!(
        launch(&host, "../name", fake::WELL).await,
        Err(LaunchError::Record(RecordError::BadName(_)))
    ));
    assert_eq!(host.state().records().unwrap().len(), 1, "a refused claim took the record away");
    drop(sandbox);
    launch(&host, "name", fake::WELL).await.unwrap();
}

#[test]
fn who_wants_the_name_of_a_sandbox_that_ends_waits_until_all_of_it_is_gone() {
    let host = Host::new();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let sandbox = here.block_on(launch(&host, "name", fake::WELL)).unwrap();
    let vmm = sandbox.record().vmm.unwrap();
    let (ended, remains) = here.block_on(sandbox.halt());
    assert_eq!(ended.reason, Reason::Told(EndReason::Stopped));
    assert!(matches!(host.state().find("name"), Err(RecordError::NotFound(_))));
    assert!(host.state().sweep().unwrap().is_empty(), "it was taken for abandoned");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            there.block_on(async {
                let next = launch(&host, "name", fake::WELL).await.unwrap();
                assert!(!Path::new(&format!("/proc/{}", vmm.pid)).exists());
                next.stop().await;
            });
        });
        here.block_on(remains.clear_away());
        next.join().unwrap();
    });
    assert!(host.state().records().unwrap().is_empty());
}

#[tokio::test]
async fn a_sandbox_that_still_starts_is_found_but_not_entered_and_not_swept() {
    let host = Host::new();
    let launching = launch(&host, "slow", fake::NOT_READY);
    tokio::pin!(launching);
    // Every await of the launch gives this side a turn until the record shows the VMM.
    let looking = async {
        while !host.state().records().unwrap().iter().any(|record| record.vmm.is_some()) {
            tokio::task::yield_now().await;
        }
        assert!(host.state().sweep().unwrap().is_empty());
        Attached::open(&host.state(), "slow").await
    };
    let attached = tokio::select! {
        attached = looking => attached,
        _ = &mut launching => panic!("launched"),
    };
    assert!(matches!(attached, Err(AttachError::Starting(_))));
}

#[test]
fn what_a_killed_supervisor_left_is_swept_its_vmm_included() {
    for behaviour in [fake::WELL, fake::NOT_READY, fake::LINGER] {
        let host = Host::new();
        let mut supervisor = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "supervisor", "--ignored", "--nocapture"])
            .env("FAKE_HOST", &host.root)
            .env("FAKE_BEHAVIOUR", behaviour)
            .stdout(ProcessStdio::null())
            .spawn()
            .unwrap();
        let state = host.state();
        let vmm = loop {
            if let Some(vmm) = state.records().unwrap().first().and_then(|record| record.vmm) {
                break vmm;
            }
            assert!(supervisor.try_wait().unwrap().is_none(), "the supervisor ended by itself");
            std::thread::yield_now();
        };
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();

        assert_eq!(state.sweep().unwrap(), ["orphan"]);
        assert!(!is_running(vmm.pid), "{behaviour}: the VMM still runs");
        assert!(state.records().unwrap().is_empty());
        assert!(state.sweep().unwrap().is_empty());
    }
}

/// Whether there is such a process that is no zombie.
fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

/// Not a test: the program behind `bulkhead-vmm`, see [`Host::new`].
#[test]
#[ignore = "run by the other tests"]
fn fake_vmm() {
    fake::serve();
}

/// Not a test: the program behind `bulkhead-file-server`, see [`file_server::install`].
#[test]
#[ignore = "run by the other tests"]
fn fake_file_server() {
    file_server::serve();
}

/// Not a test: a supervisor for another test to kill.
#[tokio::test]
#[ignore = "run by the other tests"]
async fn supervisor() {
    let host = Host::at(Path::new(&std::env::var_os("FAKE_HOST").unwrap()));
    let behaviour = std::env::var("FAKE_BEHAVIOUR").unwrap();
    let sandbox = launch(&host, "orphan", &behaviour).await.unwrap();
    sandbox.ended().await;
}
