//! Whatever is killed at whichever step of a container's life: containerd tells the truth of it afterwards, the container
//! can be deleted, and nothing of it is left.

// What cannot be set up fails the test that needs it.
#![allow(clippy::expect_used)]

use std::fmt::Display;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bulkhead_e2e::engines::{Containerd, Daemon};
use bulkhead_e2e::machine::{Snapshot, left_since, snapshot};
use bulkhead_e2e::shell::{output, sh};

/// How long it may take until an end is known, and how long a deletion: four times containerd's own patience with a shim,
/// for the lab is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client may take whose container is killed under its hands.
const CLIENTS_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at what is awaited.
const PAUSE: Duration = Duration::from_millis(100);

/// Into how many parts what takes its time is divided, to kill between them.
const PARTS: u32 = 4;

const EVENTS: &str = "/tmp/engine-faults.events";
const CLIENT: &str = "/tmp/engine-faults.client";

/// The exit code of what SIGKILL ended.
const KILLED: i32 = 137;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many parts of a start's time after it began.
    Starting(u32),
    Created,
    Running,
    Executing,
    Paused,
    /// So many parts of a deletion's time after it began.
    Deleting(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Shim,
    Vmm,
    FileServer,
    Containerd,
}

/// The containerd of a test, and what became known of its containers.
struct Machine {
    containerd: Option<Daemon>,
    start_takes: Duration,
    deletion_takes: Duration,
    before: Snapshot,
    wrong: Vec<String>,
}

/// One container, one step, one victim.
struct Case<'a> {
    machine: &'a mut Machine,
    step: Step,
    victim: Victim,
    name: String,
    found: Vec<String>,
}

/// Asks for each step, which takes three times as long.
const ALL_STEPS: &str = "BULKHEAD_FAULTS_AT_ALL_STEPS";

impl Step {
    fn asked_for() -> Vec<Self> {
        if std::env::var_os(ALL_STEPS).is_none() {
            return vec![Self::Starting(2), Self::Running, Self::Deleting(0)];
        }
        let starting = (1..PARTS).map(Self::Starting);
        let deleting = (0..PARTS).step_by(2).map(Self::Deleting);
        starting
            .chain([Self::Created, Self::Running, Self::Executing, Self::Paused])
            .chain(deleting)
            .collect()
    }

    /// What containerd must say of the task after it crashed itself: nothing else has happened to it.
    fn status(self) -> Option<&'static str> {
        match self {
            Self::Created => Some("CREATED"),
            Self::Running | Self::Executing => Some("RUNNING"),
            Self::Paused => Some("PAUSED"),
            Self::Starting(_) | Self::Deleting(_) => None,
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Starting(part) => write!(f, "starting, {part}/{PARTS}"),
            Self::Deleting(part) => write!(f, "being deleted, {part}/{PARTS}"),
            Self::Executing => f.write_str("running, with an exec"),
            step => f.write_str(&format!("{step:?}").to_lowercase()),
        }
    }
}

impl Victim {
    fn kill(self, machine: &mut Machine) -> bool {
        match self {
            Self::Shim => sh("pkill -KILL -f '^[^ ]*containerd-shim-bulkhead-v2.* -id '").code == 0,
            Self::Vmm => sh("pkill -KILL -x bulkhead-vmm").code == 0,
            Self::FileServer => sh("pkill -KILL -x bulkhead-file-s").code == 0,
            Self::Containerd => {
                machine.containerd.take().expect("a containerd").kill();
                true
            }
        }
    }
}

impl Machine {
    fn new() -> Self {
        let containerd = Some(Containerd::Debians.start(""));
        // The first start makes the template, which stays.
        output(&format!("{RUN} first sleep 1000"));
        output("ctr task delete -f first; ctr container rm first");
        let started = Instant::now();
        output(&format!("{RUN} second sleep 1000"));
        let start_takes = started.elapsed();
        let started = Instant::now();
        sh("ctr task delete -f second");
        let deletion_takes = started.elapsed();
        output("ctr container rm second");
        let before = snapshot();
        Self { containerd, start_takes, deletion_takes, before, wrong: Vec::new() }
    }

    fn start_containerd_again(&mut self) {
        self.containerd = Some(Containerd::Debians.start_again());
        listen();
    }

    fn tell(&self) {
        print(&format!("a start took {:?}, a deletion {:?}", self.start_takes, self.deletion_takes));
    }
}

/// What every container is run with, detached.
const RUN: &str = "ctr run -d --runtime io.containerd.bulkhead.v2 localhost/busybox:latest";

/// Has the events written down from now on.
fn listen() {
    sh(&format!("setsid ctr events >> {EVENTS} 2>/dev/null < /dev/null &"));
    // One of them says that the listener is there.
    let heard = format!(
        "before=$(grep -c /namespaces/update {EVENTS}); n=0
        until (( $(grep -c /namespaces/update {EVENTS}) > before )); do
            ctr namespaces label default heard=$((++n)); sleep 0.1
        done"
    );
    output(&heard);
}

impl Case<'_> {
    fn run(mut self) {
        let killed = self.bring_about();
        if self.machine.containerd.is_none() {
            self.machine.start_containerd_again();
        }
        self.await_client();
        match (killed, self.victim) {
            (false, _) => self.found.push("nothing there to kill".to_owned()),
            (true, Victim::Containerd) => self.expect_untouched(),
            (true, Victim::Vmm) if matches!(self.step, Step::Starting(_)) => self.expect_end_or_new_start(),
            (true, _) => self.expect_end(),
        }
        self.delete();
        for left in left_since(&self.machine.before) {
            self.wrong(&format!("left: {left}"));
            self.machine.before = snapshot();
        }
        let line = format!("| {} | {:?} | {} |", self.step, self.victim, self.found.join("; "));
        print(&line);
    }

    /// Leads the container to its step and kills the victim there; whether it was there.
    fn bring_about(&mut self) -> bool {
        let name = self.name.clone();
        let run = format!("{RUN} {name} sleep 1000");
        match self.step {
            Step::Starting(part) => {
                client(&run);
                sleep(self.machine.start_takes * part / PARTS);
            }
            Step::Created => {
                // The client gives up between both because it cannot write the file.
                output(&format!(
                    "ctr container create --runtime io.containerd.bulkhead.v2 localhost/busybox:latest {name} sleep 1000"
                ));
                sh(&format!("ctr task start -d --pid-file /nowhere/pid {name}"));
                assert_eq!(self.status(), Some("CREATED".to_owned()));
            }
            Step::Running => drop(output(&run)),
            Step::Executing => {
                output(&run);
                client(&format!("ctr task exec --exec-id e {name} sh -c 'echo up; sleep 1000'"));
                output(&format!("until grep -q up {CLIENT}; do sleep 0.1; done"));
            }
            Step::Paused => drop(output(&format!("{run} && ctr task pause {name}"))),
            Step::Deleting(part) => {
                output(&run);
                client(&format!("ctr task delete -f {name}"));
                sleep(self.machine.deletion_takes * part / PARTS);
            }
        }
        self.victim.kill(self.machine)
    }

    /// A client whose connection broke, or whose container went, is not left waiting. One that executed something before
    /// containerd went is.
    fn await_client(&mut self) {
        match self.step {
            Step::Starting(_) | Step::Deleting(_) => {}
            Step::Executing if self.victim != Victim::Containerd => {}
            _ => return,
        }
        match within(CLIENTS_PATIENCE, || sh(&format!("cat {CLIENT}.code")).stdout.trim().parse::<i32>().ok())
        {
            Some(code) => self.found.push(format!("the client ended with {code}")),
            None => self.wrong("the client waits still"),
        }
    }

    /// containerd alone crashed: what ran runs on.
    fn expect_untouched(&mut self) {
        let status = self.status();
        self.found.push(status.clone().unwrap_or_else(|| "no task".to_owned()));
        if let Some(expected) = self.step.status()
            && status.as_deref() != Some(expected)
        {
            self.wrong(&format!("{status:?}, not {expected}"));
        }
        let name = self.name.clone();
        if status.as_deref() == Some("PAUSED") {
            self.must(&format!("ctr task resume {name}"));
        }
        if matches!(status.as_deref(), Some("PAUSED" | "RUNNING")) {
            self.must(&format!("ctr task exec --exec-id after {name} true"));
        }
        if status.is_some_and(|status| status != "STOPPED") {
            self.must(&format!("ctr task kill -s KILL {name}"));
            self.expect_end();
        }
    }

    /// A start whose VM ended is tried once more, with a VM that is booted: then the container runs.
    fn expect_end_or_new_start(&mut self) {
        let name = self.name.clone();
        let runs = || sh(&format!("timeout 20 ctr task exec --exec-id after {name} true")).code == 0;
        let found = within(PATIENCE, || self.end().or_else(|| runs().then_some("started nonetheless")));
        self.found.extend(found.map(str::to_owned));
        if found == Some("started nonetheless") {
            self.must(&format!("ctr task kill -s KILL {name}"));
        }
        self.expect_end();
    }

    fn end(&self) -> Option<&'static str> {
        match self.status() {
            None => Some("no task"),
            Some(status) if status == "STOPPED" => Some("STOPPED"),
            _ => None,
        }
    }

    /// The task is known as ended soon, or not at all any more.
    fn expect_end(&mut self) {
        let killed = Instant::now();
        let ended = within(PATIENCE, || self.end());
        let took = killed.elapsed().as_secs_f64();
        match ended {
            Some(state) => self.found.push(format!("{state} after {took:.1} s")),
            None => {
                let status = self.status();
                self.wrong(&format!("still {status:?}"));
                let name = self.name.clone();
                sh(&format!("ctr task kill -s KILL {name}"));
            }
        }
    }

    /// The deletion of the task, if there is one, tells how it ended; that of the container succeeds.
    fn delete(&mut self) {
        let (name, started) = (self.name.clone(), Instant::now());
        let existed = self.status();
        if let Some(status) = existed {
            // What ctr(8) has to end first, it tells no code of; what ended before, in a warning.
            let stopped = status == "STOPPED";
            let deleted =
                sh(&format!("timeout 60 ctr task delete {} {name}", if stopped { "" } else { "-f" }));
            match (deleted.code, deleted.stderr.trim()) {
                (0, _) if !stopped => self.found.push("deleted".to_owned()),
                (0, words) if words.contains(&format!("exit code {KILLED}\"")) => {
                    self.found.push(format!("deleted, exit code {KILLED}"));
                }
                (code, words) => self.wrong(&format!("task delete of a {status} one: {code}, {words}")),
            }
        }
        if sh(&format!("ctr container ls -q | grep -qx {name}")).code == 0 {
            self.must(&format!("ctr container rm {name}"));
        }
        let took = started.elapsed();
        if took > PATIENCE {
            self.wrong(&format!("the deletion took {took:?}"));
        }
        self.expect_events();
    }

    /// An end is told once, as a kill's. What a containerd had taken when it went, its clients may never hear.
    fn expect_events(&mut self) {
        let name = self.name.clone();
        let events = |topic: &str| {
            output(&format!(
                "grep -F '{topic} ' {EVENTS} | grep -F '\"container_id\":\"{name}\",\"id\":\"{name}\"' || true"
            ))
        };
        let exits = || events("/tasks/exit");
        let started =
            !output(&format!("grep -F '/tasks/start ' {EVENTS} | grep -F '\"{name}\"' || true")).is_empty();
        // They may come a moment after the deletion.
        let _ = within(PATIENCE, || (!started || !exits().is_empty()).then_some(()));
        let exits = exits();
        match exits.lines().count() {
            0 if !started => {}
            0 if self.victim == Victim::Containerd && matches!(self.step, Step::Deleting(_)) => {
                self.found.push("its end was told to the containerd that went".to_owned());
            }
            0 => self.wrong("its end was not told"),
            1 if exits.contains("\"exit_status\":137") => self.found.push("exit told: 137".to_owned()),
            _ => self.wrong(&format!("its end was told so: {exits}")),
        }
    }

    fn status(&self) -> Option<String> {
        let line = sh(&format!("ctr task ls | grep '^{} '", self.name)).stdout;
        line.split_whitespace().last().map(str::to_owned)
    }

    fn must(&mut self, script: &str) {
        let done = sh(&format!("timeout 60 {script}"));
        if done.code != 0 {
            self.wrong(&format!("{script}: {}, {}", done.code, done.stderr.trim()));
        }
    }

    fn wrong(&mut self, words: &str) {
        self.found.push(format!("**{words}**"));
        let what = format!("{}, {:?}: {words}", self.step, self.victim);
        self.machine.wrong.push(what);
    }
}

/// Runs a client that goes on by itself; how it ends is written down.
fn client(script: &str) {
    sh(&format!(
        "rm -f {CLIENT} {CLIENT}.code; {{ {script}; echo $? > {CLIENT}.code; }} > {CLIENT} 2>&1 < /dev/null &"
    ));
}

/// A line of the table, as soon as it is known. The test harness keeps to itself what is printed otherwise.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() > deadline {
            return seen;
        }
        sleep(PAUSE);
    }
}

/// Kills it at each of the steps asked for.
fn at_steps(victim: Victim) {
    let mut machine = Machine::new();
    let _ = std::fs::remove_file(EVENTS);
    output(&format!("touch {EVENTS}"));
    listen();
    print("\n| step | killed | found |\n|---|---|---|");
    for (number, step) in Step::asked_for().into_iter().enumerate() {
        let name = format!("{}{number}", format!("{victim:?}").to_lowercase());
        Case { machine: &mut machine, step, victim, name, found: Vec::new() }.run();
    }
    sh("pkill -x ctr");
    machine.tell();
    assert!(machine.wrong.is_empty(), "{}", machine.wrong.join("\n"));
}

#[test]
fn a_killed_shim_leaves_nothing() {
    at_steps(Victim::Shim);
}

#[test]
fn a_killed_vmm_is_an_end_like_others() {
    at_steps(Victim::Vmm);
}

#[test]
fn a_killed_file_server_ends_what_needs_it() {
    at_steps(Victim::FileServer);
}

#[test]
fn a_crash_of_containerd_loses_nothing() {
    at_steps(Victim::Containerd);
}
