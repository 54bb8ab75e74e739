//! Against pods that are no sandboxes.

mod fake;

use containerd_shim_protos::types::task::Status;
use oci_spec::runtime::Process as ProcessSpec;
use sandbox::Exit;
use ttrpc::Code;

use super::*;
use fake::{FIRST_MEMBERS_PID, Fake, PID, World};

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;

const MEMBER: &str = r#""io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"pod""#;

struct Shim {
    world: Arc<World>,
    tasks: Arc<Tasks>,
    bundles: tempfile::TempDir,
}

impl Shim {
    fn new() -> Self {
        let world = Arc::new(World::default());
        let launch = Box::new(Fake(world.clone()));
        let tasks = Arc::new(Tasks::new(
            "default".to_owned(),
            launch,
            Events::new("default".to_owned()),
            Listening::default(),
        ));
        Self { world, tasks, bundles: tempfile::tempdir().unwrap() }
    }

    async fn create(&self, id: &str, annotations: &str) -> Result<u32, Failure> {
        self.create_with(id, annotations, "").await
    }

    async fn create_with(&self, id: &str, annotations: &str, linux: &str) -> Result<u32, Failure> {
        let bundle = self.bundles.path().join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        let config = format!(
            r#"{{"ociVersion":"1.2.0","process":{{"user":{{"uid":0,"gid":0}},"args":["sh"],"cwd":"/"}},
            "root":{{"path":"rootfs"}},"linux":{{{linux}}},"annotations":{{{annotations}}}}}"#
        );
        std::fs::write(bundle.join("config.json"), config).unwrap();
        self.create_in(id, bundle).await
    }

    async fn create_in(&self, id: &str, bundle: PathBuf) -> Result<u32, Failure> {
        let creation = Creation { id: id.to_owned(), bundle, rootfs: Vec::new(), stdio: Stdio::default() };
        self.tasks.create(creation).await
    }

    async fn sandbox(&self, id: &str) -> Result<u32, Failure> {
        self.create(
            id,
            r#""io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-id":"pod""#,
        )
        .await
    }

    async fn member(&self, id: &str) -> Result<u32, Failure> {
        self.create(id, MEMBER).await
    }

    /// A member that joins the PID namespace of a process.
    async fn member_beside(&self, id: &str, pid: u32) -> Option<SharedPids> {
        let namespaces = format!(r#""namespaces":[{{"type":"pid","path":"/proc/{pid}/ns/pid"}}]"#);
        self.create_with(id, MEMBER, &namespaces).await.unwrap();
        self.world.shared_pids.lock().unwrap().get(id).cloned().unwrap()
    }

    /// Created and started.
    async fn run(&self, id: &str) -> Arc<Task> {
        self.create(id, "").await.unwrap();
        let task = self.tasks.get(id).unwrap();
        assert_eq!(task.start().await, Ok(PID));
        task
    }

    fn status(&self, id: &str) -> Status {
        let task = self.tasks.get(id).unwrap();
        task.status(&task.own)
    }

    fn topics(&self) -> Vec<String> {
        let topics = self.tasks.events.topics();
        topics.iter().map(|topic| topic.trim_start_matches("/tasks/").to_owned()).collect()
    }
}

fn refused<T>(answer: Result<T, Failure>) -> (Code, String) {
    let failure = answer.err().unwrap();
    (failure.code, failure.message)
}

fn spec() -> ProcessSpec {
    ProcessSpec::default()
}

#[tokio::test]
async fn a_container_lives_from_creation_to_deletion() {
    let shim = Shim::new();
    assert_eq!(shim.create("c", "").await, Ok(PID));
    assert_eq!(shim.status("c"), Status::CREATED);
    let task = shim.tasks.get("c").unwrap();
    assert_eq!(task.start().await, Ok(PID));
    assert_eq!(shim.status("c"), Status::RUNNING);
    // Several wait, one before the end and one after it.
    let waiting = tokio::spawn({
        let task = task.clone();
        async move { task.own.stopped().await }
    });
    shim.world.process("c").exits(3);
    let exited = waiting.await.unwrap();
    assert_eq!((exited.code, task.own.stopped().await), (3, exited));
    assert_eq!(shim.status("c"), Status::STOPPED);
    let (_, deleted) = shim.tasks.delete("c").await.unwrap();
    assert_eq!(deleted, exited);
    assert_eq!(shim.topics(), ["create", "start", "exit", "delete"]);
    let exit = shim.tasks.events.exits().remove(0);
    assert_eq!(
        (exit.container_id.as_str(), exit.id.as_str(), exit.pid, exit.exit_status),
        ("c", "c", PID, 3)
    );
    assert_eq!(shim.world.counts(), (1, 1));
    assert_eq!(refused(shim.tasks.get("c")), (Code::NOT_FOUND, "container not created".to_owned()));
}

#[tokio::test]
async fn what_a_state_does_not_allow_is_refused_in_words_clients_know() {
    let shim = Shim::new();
    assert_eq!(refused(shim.tasks.get("c").map(drop)).0, Code::NOT_FOUND);
    let task = shim.run("c").await;
    let precondition = |words: &str| (Code::FAILED_PRECONDITION, words.to_owned());
    assert_eq!(refused(task.start().await), precondition("cannot start a running process"));
    assert_eq!(refused(task.delete().await), precondition("cannot delete a running process"));
    assert_eq!(refused(task.resume().await), precondition("cannot resume a running process"));
    assert_eq!(
        refused(task.process("e").map(drop)),
        (Code::NOT_FOUND, "process does not exist e".to_owned())
    );
    task.pause().await.unwrap();
    assert_eq!(shim.status("c"), Status::PAUSED);
    assert_eq!(refused(task.pause().await), precondition("cannot pause a paused container"));
    assert_eq!(refused(task.delete().await), precondition("cannot delete a paused process"));
    assert_eq!(
        refused(task.exec("e", spec(), Stdio::default())),
        precondition("cannot exec in a paused state")
    );
    task.resume().await.unwrap();
    shim.world.process("c").exits(0);
    task.own.stopped().await;
    assert_eq!(
        refused(task.kill("", SIGKILL, true).await),
        (Code::NOT_FOUND, "process already finished".to_owned())
    );
    assert_eq!(refused(task.start().await), precondition("cannot start a stopped process"));
    assert_eq!(refused(task.pause().await), precondition("cannot pause a stopped container"));
    assert_eq!(
        refused(task.exec("e", spec(), Stdio::default())),
        precondition("cannot exec in a stopped state")
    );
    assert_eq!(refused(task.stats().await).0, Code::NOT_FOUND);
    assert_eq!(shim.topics(), ["create", "start", "paused", "resumed", "exit"]);
}

#[tokio::test]
async fn an_id_is_taken_once() {
    let shim = Shim::new();
    shim.create("c", "").await.unwrap();
    assert_eq!(refused(shim.create("c", "").await).0, Code::ALREADY_EXISTS);
    let task = shim.tasks.get("c").unwrap();
    task.exec("e", spec(), Stdio::default()).unwrap();
    assert_eq!(refused(task.exec("e", spec(), Stdio::default())), (Code::ALREADY_EXISTS, "id e".to_owned()));
}

#[tokio::test]
async fn stats_and_signals_work_before_the_start() {
    let shim = Shim::new();
    shim.create("c", "").await.unwrap();
    let task = shim.tasks.get("c").unwrap();
    task.stats().await.unwrap();
    task.kill("", SIGKILL, false).await.unwrap();
    assert_eq!(*shim.world.process("c").signals.lock().unwrap(), [(SIGKILL, false)]);
    shim.world.process("c").exits(137);
    assert_eq!(task.own.stopped().await.code, 137);
    shim.tasks.delete("c").await.unwrap();
    assert_eq!(shim.topics(), ["create", "exit", "delete"]);
}

#[tokio::test]
async fn one_that_never_started_ends_with_its_deletion() {
    let shim = Shim::new();
    shim.create("c", "").await.unwrap();
    *shim.world.refuses_start.lock().unwrap() = Some(Failure::invalid("no such program"));
    assert_eq!(refused(shim.tasks.get("c").unwrap().start().await).1, "no such program");
    let (_, exited) = shim.tasks.delete("c").await.unwrap();
    assert_eq!(exited.code, 137);
    assert_eq!(shim.topics(), ["create", "exit", "delete"]);
    assert_eq!(shim.world.counts(), (1, 1));
    assert!(shim.tasks.is_idle());
}

#[tokio::test]
async fn a_creation_that_fails_leaves_nothing() {
    let shim = Shim::new();
    assert_eq!(
        refused(shim.create("refused", "").await),
        (Code::INVALID_ARGUMENT, "no such thing".to_owned())
    );
    assert_eq!(shim.world.counts(), (1, 1));
    let nowhere = shim.bundles.path().join("nowhere");
    let (code, words) = refused(shim.create_in("c", nowhere).await);
    assert!(code == Code::NOT_FOUND && words.contains("config.json not found"), "{words}");
    assert!(shim.tasks.is_idle() && shim.topics().is_empty());
}

#[tokio::test]
async fn what_is_executed_has_events_and_an_end_of_its_own() {
    let shim = Shim::new();
    let task = shim.run("c").await;
    task.exec("e", spec(), Stdio::default()).unwrap();
    let process = task.process("e").unwrap();
    assert_eq!(task.status(&process), Status::CREATED);
    assert_eq!(refused(task.kill("e", SIGTERM, false).await).0, Code::FAILED_PRECONDITION);
    assert_eq!(task.start_exec("e").await, Ok(PID));
    assert_eq!(task.running_exec_ids(), ["e"]);
    assert_eq!(refused(task.start_exec("e").await).1, "cannot start a running process");
    assert_eq!(refused(task.delete_exec("e")).1, "cannot delete a running process");
    shim.world.process("c/e.0").exits(5);
    assert_eq!(process.stopped().await.code, 5);
    assert_eq!(refused(task.kill("e", SIGTERM, false).await).0, Code::NOT_FOUND);
    assert_eq!(task.delete_exec("e").unwrap().code, 5);
    assert_eq!(refused(task.process("e").map(drop)).0, Code::NOT_FOUND);
    assert_eq!(shim.topics(), ["create", "start", "exec-added", "exec-started", "exit"]);
    let exit = shim.tasks.events.exits().remove(0);
    assert_eq!((exit.container_id.as_str(), exit.id.as_str(), exit.exit_status), ("c", "e", 5));
}

#[tokio::test]
async fn the_id_of_one_that_was_executed_and_deleted_can_be_taken_again() {
    let shim = Shim::new();
    let task = shim.run("c").await;
    for code in [1, 2] {
        task.exec("e", spec(), Stdio::default()).unwrap();
        task.start_exec("e").await.unwrap();
        // The guest is never asked for one that it knows.
        shim.world.process(&format!("c/e.{}", code - 1)).exits(code);
        assert_eq!(task.process("e").unwrap().stopped().await.code, u32::from(code));
        task.delete_exec("e").unwrap();
    }
}

#[tokio::test]
async fn an_exec_that_cannot_start_lets_those_go_who_wait() {
    let shim = Shim::new();
    let task = shim.run("c").await;
    task.exec("e", spec(), Stdio::default()).unwrap();
    *shim.world.refuses_start.lock().unwrap() = Some(Failure::invalid("no such program"));
    assert_eq!(refused(task.start_exec("e").await).1, "no such program");
    assert_eq!(task.process("e").unwrap().stopped().await.code, 255);
    task.delete_exec("e").unwrap();
    assert_eq!(shim.topics(), ["create", "start", "exec-added"]);
}

#[tokio::test]
async fn a_containers_end_is_told_after_those_of_all_that_was_executed_in_it() {
    let shim = Shim::new();
    let task = shim.run("c").await;
    for id in ["a", "b"] {
        task.exec(id, spec(), Stdio::default()).unwrap();
        task.start_exec(id).await.unwrap();
    }
    shim.world.process("c").exits(0);
    // It makes sure that they end, also where they share the pod's processes.
    while shim.world.process("c").signals.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*shim.world.process("c").signals.lock().unwrap(), [(SIGKILL, true)]);
    task.exec("late", spec(), Stdio::default()).unwrap();
    assert_eq!(refused(task.start_exec("late").await).1, "container c init process is not running");
    for id in ["c/a.0", "c/b.1"] {
        shim.world.process(id).exits(137);
    }
    task.own.stopped().await;
    let ends: Vec<_> = shim.tasks.events.exits().into_iter().map(|exit| exit.id).collect();
    assert_eq!(ends.last().map(String::as_str), Some("c"));
    assert_eq!(ends.len(), 3);
}

#[tokio::test]
async fn a_containers_end_is_told_and_its_vm_stopped_after_its_disks_are_given_back() {
    let shim = Shim::new();
    shim.world.holds_disks.send_replace(true);
    let task = shim.run("c").await;
    shim.world.process("c").exits(0);
    while shim.world.holds_disks.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((shim.topics(), shim.world.counts()), (vec!["create".to_owned(), "start".to_owned()], (1, 0)));
    shim.world.holds_disks.send_replace(false);
    task.own.stopped().await;
    assert_eq!((shim.topics().last().unwrap().as_str(), shim.world.counts()), ("exit", (1, 1)));
}

#[tokio::test]
async fn out_of_memory_is_told_before_the_exit() {
    let shim = Shim::new();
    let task = shim.run("c").await;
    shim.world.process("c").exit.send_replace(Some(Exit { code: 137, out_of_memory: true }));
    task.own.stopped().await;
    assert_eq!(shim.topics(), ["create", "start", "oom", "exit"]);
}

#[tokio::test]
async fn containers_join_and_leave_a_pod() {
    let shim = Shim::new();
    assert_eq!(
        refused(shim.member("a").await),
        (Code::FAILED_PRECONDITION, "sandbox pod is not running".to_owned())
    );
    shim.sandbox("pod").await.unwrap();
    let keeper = shim.tasks.get("pod").unwrap();
    keeper.start().await.unwrap();
    for (id, pid) in [("a", FIRST_MEMBERS_PID), ("b", FIRST_MEMBERS_PID + 1)] {
        assert_eq!(shim.member(id).await, Ok(pid));
        shim.tasks.get(id).unwrap().start().await.unwrap();
    }
    assert_eq!(shim.world.counts(), (1, 0));
    for id in ["a", "b"] {
        shim.world.process(id).exits(0);
        shim.tasks.get(id).unwrap().own.stopped().await;
        shim.tasks.delete(id).await.unwrap();
    }
    // The pod is kept for those that come.
    assert_eq!(shim.world.counts(), (1, 0));
    shim.member("c").await.unwrap();
    shim.tasks.delete("c").await.unwrap();
    keeper.kill("", SIGTERM, false).await.unwrap();
    assert_eq!(keeper.own.stopped().await.code, 0);
    shim.tasks.delete("pod").await.unwrap();
    assert_eq!(shim.world.counts(), (1, 1));
    assert_eq!(*shim.world.removed.lock().unwrap(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_pods_keeper_ends_as_the_process_would_whose_place_it_has() {
    for (signal, code) in [(SIGKILL, 137), (SIGTERM, 0), (2, 0)] {
        let shim = Shim::new();
        shim.sandbox("pod").await.unwrap();
        let keeper = shim.tasks.get("pod").unwrap();
        keeper.start().await.unwrap();
        keeper.kill("", 1, false).await.unwrap();
        assert_eq!(shim.status("pod"), Status::RUNNING);
        keeper.kill("", signal, true).await.unwrap();
        assert_eq!(keeper.own.stopped().await.code, code);
        assert_eq!(shim.tasks.events.exits().len(), 1);
    }
}

#[tokio::test]
async fn one_whose_end_is_not_told_yet_takes_a_signal() {
    let shim = Shim::new();
    let task = shim.run("c").await;
    shim.world.holds_disks.send_replace(true);
    shim.world.vm_gone.send_replace(true);
    task.kill("", SIGKILL, true).await.unwrap();
    shim.world.holds_disks.send_replace(false);
    assert_eq!(task.own.stopped().await.code, 137);
    assert_eq!(refused(task.kill("", SIGKILL, true).await).0, Code::NOT_FOUND);
}

#[tokio::test]
async fn when_the_vm_dies_each_task_has_exited_once() {
    let shim = Shim::new();
    shim.sandbox("pod").await.unwrap();
    shim.tasks.get("pod").unwrap().start().await.unwrap();
    shim.member("a").await.unwrap();
    let task = shim.tasks.get("a").unwrap();
    task.start().await.unwrap();
    task.exec("e", spec(), Stdio::default()).unwrap();
    task.start_exec("e").await.unwrap();
    shim.world.vm_gone.send_replace(true);
    for id in ["pod", "a"] {
        assert_eq!(shim.tasks.get(id).unwrap().own.stopped().await.code, 137);
        shim.tasks.delete(id).await.unwrap();
    }
    let mut ends: Vec<_> =
        shim.tasks.events.exits().into_iter().map(|exit| (exit.id, exit.exit_status)).collect();
    ends.sort();
    assert_eq!(ends, [("a", 137), ("e", 137), ("pod", 137)].map(|(id, code)| (id.to_owned(), code)));
    assert_eq!(shim.world.counts(), (1, 1));
}

#[tokio::test]
async fn a_shim_is_shut_down_when_no_task_is_left() {
    let shim = Shim::new();
    shim.create("c", "").await.unwrap();
    shim.tasks.shut_down();
    assert!(!*shim.tasks.shut_down.borrow());
    shim.tasks.delete("c").await.unwrap();
    shim.tasks.shut_down();
    shim.tasks.done().await;
}

#[tokio::test]
async fn a_sandbox_is_kept_without_a_task_by_the_sandbox_api() {
    let shim = Shim::new();
    let bundle = Bundle { path: shim.bundles.path().to_owned(), spec: oci_spec::runtime::Spec::default() };
    shim.tasks.keep("pod", &bundle).await.unwrap();
    let sandbox = shim.tasks.sandbox("pod").unwrap();
    assert_eq!((sandbox.pid, shim.tasks.is_idle()), (PID, false));
    shim.member("a").await.unwrap();
    let task = shim.tasks.get("a").unwrap();
    task.start().await.unwrap();
    shim.tasks.stop_sandbox("pod").await.unwrap();
    assert_eq!(task.own.stopped().await.code, 137);
    shim.tasks.delete("a").await.unwrap();
    assert!(shim.tasks.is_idle());
    assert_eq!(refused(shim.tasks.sandbox("other").map(drop)).0, Code::NOT_FOUND);
}

#[tokio::test]
async fn hooks_run_at_their_moments_and_know_the_container() {
    let shim = Shim::new();
    let said = shim.bundles.path().join("said");
    let hook = |moment: &str| {
        let script = format!("echo {moment} >> {0}; cat >> {0}; echo >> {0}", said.display());
        format!(r#""{moment}":[{{"path":"/bin/sh","args":["sh","-c","{script}"]}}]"#)
    };
    let hooks = ["prestart", "createRuntime", "poststart", "poststop"].map(hook).join(",");
    shim.create("c", &format!(r#""a":"b"}},"hooks":{{{hooks}"#)).await.unwrap();
    shim.tasks.get("c").unwrap().start().await.unwrap();
    shim.world.process("c").exits(0);
    shim.tasks.get("c").unwrap().own.stopped().await;
    shim.tasks.delete("c").await.unwrap();
    let said = std::fs::read_to_string(said).unwrap();
    let lines: Vec<_> = said.lines().collect();
    let moments: Vec<_> = lines.iter().step_by(2).copied().collect();
    assert_eq!(moments, ["prestart", "createRuntime", "poststart", "poststop"]);
    let states: Vec<serde_json::Value> =
        lines.iter().skip(1).step_by(2).map(|state| serde_json::from_str(state).unwrap()).collect();
    let first = states.first().unwrap();
    assert_eq!((first["id"].as_str(), first["status"].as_str()), (Some("c"), Some("creating")));
    assert_eq!(
        (first["pid"].as_u64(), first["annotations"]["a"].as_str()),
        (Some(u64::from(PID)), Some("b"))
    );
    assert_eq!(states.last().unwrap()["status"], "stopped");
}

#[tokio::test]
async fn a_hook_that_fails_is_the_end_of_a_creation() {
    let shim = Shim::new();
    let hooks = r#"},"hooks":{"createRuntime":[{"path":"/bin/false"}]"#;
    let (code, words) = refused(shim.create("c", hooks).await);
    assert!(code == Code::INTERNAL && words.contains("hook #0"), "{words}");
    assert_eq!(shim.world.counts(), (1, 1));
    assert!(shim.tasks.is_idle());
}

#[tokio::test]
async fn the_processes_a_container_joins_are_those_of_whom_the_client_was_told() {
    let shim = Shim::new();
    shim.sandbox("pod").await.unwrap();
    let (first, second) = (shim.member("first").await.unwrap(), shim.member("second").await.unwrap());
    assert_eq!((first, second), (FIRST_MEMBERS_PID, FIRST_MEMBERS_PID + 1));
    assert_eq!(shim.member_beside("third", PID).await, Some(SharedPids::Sandbox));
    assert_eq!(shim.member_beside("fourth", second).await, Some(SharedPids::Container("second".to_owned())));
    assert_eq!(shim.member_beside("fifth", 1).await, None);
}
