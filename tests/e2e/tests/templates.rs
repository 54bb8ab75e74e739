//! Sandboxes that go on from a template: that they do, that each is somebody of its own, and what happens when a template
//! is of no use.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{output, sh};

const RUN: &str = "bulkhead run --rm --timing $BUSYBOX true 2>&1";

fn remove_all() {
    output("bulkhead template rm --all");
}

fn keys() -> Vec<String> {
    output("bulkhead template ls -q").lines().map(str::to_owned).collect()
}

#[test]
fn the_first_start_makes_a_template_and_those_after_it_use_it() {
    remove_all();
    let first = output(RUN);
    assert!(first.contains("template made"), "{first}");
    let next = output(RUN);
    assert!(next.contains("template found") && !next.contains("kernel"), "{next}");
    assert_eq!(keys().len(), 1);
    // Ranges of pages: what the first start wrote is copied ahead for those after it.
    let written = output("cat /run/bulkhead/.templates/*/written.json");
    assert!(written.starts_with("[[") && written.matches("],[").count() > 20, "{written}");

    // Another machine, another template.
    for machine in ["-m 128m", "--cpus 2"] {
        let first = output(&format!("bulkhead run --rm --timing {machine} $BUSYBOX nproc 2>&1"));
        assert!(first.contains("template made") && !first.contains("given up"), "{machine}: {first}");
    }
    assert_eq!(output("bulkhead run --rm --cpus 2 $BUSYBOX nproc"), "2");
    assert_eq!(keys().len(), 3);
    let shown = output("bulkhead template inspect $(bulkhead template ls -q)");
    assert!(shown.contains("\"vcpus\": 2"), "{shown}");
    assert!(output("bulkhead template ls").starts_with("KEY"));

    let one = &keys()[0];
    assert_eq!(output(&format!("bulkhead template rm {}", &one[..8])), *one);
    assert_eq!(keys().len(), 2);
    let unknown = sh("bulkhead template rm nothing");
    assert!(unknown.code != 0 && unknown.stderr.contains("no template has the key"), "{unknown:?}");
    remove_all();
    let built = output("bulkhead template build --cpus 2 -m 128m");
    assert_eq!(keys(), std::slice::from_ref(&built));
    assert_eq!(output("bulkhead template build --cpus 2 -m 128m"), built, "it is there already");
}

#[test]
fn first_starts_at_once_make_one_template() {
    remove_all();
    let runs = "for i in 1 2 3; do bulkhead run --rm --timing $BUSYBOX echo run$i 2>&1 & done; wait";
    let told = output(runs);
    let count = |what: &str| told.matches(what).count();
    assert_eq!((count("run1"), count("run2"), count("run3")), (1, 1, 1), "{told}");
    assert_eq!((count("template made"), count("template awaited")), (1, 2), "{told}");
    assert_eq!(keys().len(), 1);
}

#[test]
fn a_template_of_no_use_is_replaced_and_the_sandbox_boots() {
    let spoil = [
        "truncate -s 1000 $T/state",
        "printf x | dd of=$T/state bs=1 seek=16 conv=notrunc status=none",
        "printf xxxxxxxx | dd of=$T/state bs=1 seek=5000 conv=notrunc status=none",
        "truncate -s 1M $T/memory",
        // Its guest is dead: nothing answers.
        "truncate -s 0 $T/memory; truncate -s 512M $T/memory",
    ];
    for spoil in spoil {
        remove_all();
        let key = output("bulkhead template build");
        output(&format!("T=/run/bulkhead/.templates/{key}; {spoil}"));
        let run = output(&format!("{RUN} && bulkhead run --rm $BUSYBOX echo fine"));
        assert!(run.contains("template given up") && run.ends_with("fine"), "{spoil}: {run}");
        assert!(output(RUN).contains("template found"), "{spoil}");
    }
}

#[test]
fn a_maker_that_is_killed_leaves_nothing() {
    remove_all();
    let before = snapshot();
    output(
        "bulkhead template build & p=$!; while ! ls -d /run/bulkhead/.templates/.making-*; do :; done; kill -9 $p",
    );
    output("bulkhead template build");
    assert_unchanged(&before, "a maker was killed");
    assert_eq!(keys().len(), 1);
}

#[test]
fn templates_can_be_turned_off() {
    remove_all();
    let run = output(&format!("BULKHEAD_TEMPLATES=off {RUN}"));
    assert!(!run.contains("template"), "{run}");
    assert_eq!(keys(), Vec::<String>::new());
}

/// What a clone says of itself: random values of three sources, its ids and names; then, a line for a line, its clock.
const WHO: &str = r#"
import os, random, sys, time
print(os.getrandom(32).hex(), open("/dev/urandom", "rb").read(32).hex(), "%064x" % random.getrandbits(256),
      open("/proc/sys/kernel/random/boot_id").read().strip(), open("/proc/sys/kernel/random/uuid").read().strip(),
      os.uname().nodename, flush=True)
for line in sys.stdin:
    print(time.time_ns(), flush=True)
"#;

struct Clone {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Clone {
    fn start() -> Self {
        let python = bulkhead_e2e::images::images().python.clone();
        let mut child = Command::new("timeout")
            .args(["300", "bulkhead", "run", "--rm", "-i"])
            .arg(python)
            .args(["python3", "-c", WHO])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }

    /// How far its clock is from the host's, in ns, beyond what cannot be told: the half of the quickest answer.
    fn clock_error(&mut self) -> u128 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let ask = |clone: &mut Self| {
            let asked = now();
            writeln!(clone.child.stdin.as_mut().unwrap()).unwrap();
            let told: u128 = clone.line().parse().unwrap();
            let answered = now();
            (answered - asked, told.abs_diff((asked + answered) / 2))
        };
        let (took, error) = (0..10).map(|_| ask(self)).min().unwrap();
        error.saturating_sub(took / 2)
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// Sixteen unless `BULKHEAD_TEST_CLONES` says how many; four at a time.
#[test]
fn each_clone_is_somebody_of_its_own() {
    let count = std::env::var("BULKHEAD_TEST_CLONES").map_or(16, |count| count.parse().unwrap());
    output("bulkhead run --rm $PYTHON python3 -c 'print()'");
    let mut seen = BTreeSet::new();
    for _ in 0..count / 4 {
        let mut clones = [(); 4].map(|()| Clone::start());
        for clone in &mut clones {
            let said = clone.line();
            assert_eq!(said.split_whitespace().count(), 6, "{said}");
            for word in said.split_whitespace() {
                assert!(seen.insert(word.to_owned()), "{word} was seen before");
            }
            let error = clone.clock_error();
            assert!(error <= 50_000_000, "its clock is {error} ns off");
        }
        clones.into_iter().for_each(Clone::end);
    }
}
