//! Copies of containers as they run: forks, and snapshots to go on from.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{output, sh};

/// Longer than anything takes that works.
const LIMIT: Duration = Duration::from_secs(240);

/// Does what is asked for in `/ask` to a database in memory, and answers in `/answer`.
const DATABASE: &str = r#"
import os, random, sqlite3, time
db = sqlite3.connect(":memory:")
db.execute("create table t (who text)")
db.execute("insert into t values (?)", ("mother",))
print("ready", flush=True)
while True:
    time.sleep(0.05)
    if not os.path.exists("/ask"):
        continue
    who = open("/ask").read()
    os.remove("/ask")
    db.execute("insert into t values (?)", (who,))
    rows = ",".join(row[0] for row in db.execute("select who from t order by rowid"))
    words = [rows, os.urandom(16).hex(), open("/proc/sys/kernel/random/uuid").read().strip(), os.uname().nodename]
    open("/answer.new", "w").write(" ".join(words))
    os.rename("/answer.new", "/answer")
"#;

/// Runs a script in the container until it succeeds; its output.
fn eventually(container: &str, script: &str) -> String {
    let start = Instant::now();
    loop {
        let tried = sh(&format!("bulkhead exec {container} sh -c '{script}'"));
        if tried.code == 0 {
            return tried.stdout.trim_end().to_owned();
        }
        assert!(start.elapsed() < LIMIT, "{container}: {script}: {tried:?}");
        sleep(Duration::from_millis(200));
    }
}

/// What the container's database holds once `who` is in it too; then random words and its hostname.
fn insert(container: &str, who: &str) -> Vec<String> {
    output(&format!("bulkhead exec {container} sh -c 'echo -n {who} > /ask.new && mv /ask.new /ask'"));
    let answer = eventually(container, "cat /answer && rm /answer");
    answer.split(' ').map(str::to_owned).collect()
}

fn logged(container: &str, text: &str) {
    let start = Instant::now();
    while !output(&format!("bulkhead logs {container} 2>&1")).contains(text) {
        assert!(start.elapsed() < LIMIT, "{container} does not say {text:?}: {}", look_into(container));
        sleep(Duration::from_millis(200));
    }
}

/// What can be seen of a container that does not do what it should, from outside and within.
fn look_into(container: &str) -> String {
    let processes =
        "for p in /proc/[0-9]*; do echo $p $(cat $p/comm $p/wchan) $(cut -d\\  -f3 $p/stat); done";
    let looks = [
        "bulkhead ps -a".to_owned(),
        format!("bulkhead logs {container} 2>&1 | tail -n 3"),
        format!("timeout 60 bulkhead exec {container} sh -c '{processes}; cat /disk; cat /proc/interrupts'"),
        "for t in /proc/$(pgrep -n bulkhead-vmm)/task/*; do echo $(cat $t/comm $t/wchan $t/syscall); done"
            .to_owned(),
        "dmesg | tail -n 5".to_owned(),
    ];
    looks.iter().map(|look| format!("\n{look}\n{}", sh(look).stdout)).collect()
}

fn ids(printed: &str) -> Vec<String> {
    printed.lines().map(str::to_owned).collect()
}

#[test]
fn forks_of_a_database_in_memory_diverge_and_the_mother_is_unharmed() {
    output("bulkhead run --rm $PYTHON true");
    let before = snapshot();
    output(&format!("bulkhead run -d --name mother $PYTHON python3 -c '{DATABASE}'"));
    logged("mother", "ready");
    assert_eq!(insert("mother", "first")[0], "mother,first");

    let forks = ids(&output("bulkhead fork -n 10 mother"));
    assert_eq!(forks.len(), 10);
    let mut seen = BTreeSet::new();
    for (number, fork) in forks.iter().enumerate() {
        let [rows, words @ ..] = &insert(fork, &format!("fork{number}"))[..] else { panic!("no answer") };
        assert_eq!(*rows, format!("mother,first,fork{number}"));
        assert!(fork.starts_with(&words[2]), "its hostname is {}", words[2]);
        for word in words {
            assert!(seen.insert(word.clone()), "{word} was seen before");
        }
    }
    // Each goes on by itself, and so does the mother.
    assert_eq!(insert(&forks[3], "more")[0], "mother,first,fork3,more");
    assert_eq!(insert("mother", "last")[0], "mother,first,last");
    // A fork of a fork.
    let grandchild = output(&format!("bulkhead fork --rm --name grandchild {}", forks[3]));
    assert_eq!(insert("grandchild", "young")[0], "mother,first,fork3,more,young");
    assert_eq!(output("bulkhead inspect --format '{{.Id}}' grandchild"), grandchild);
    output(&format!("bulkhead rm -f mother grandchild {}", forks.join(" ")));
    assert_unchanged(&before, "forks");
}

#[test]
fn a_snapshot_is_kept_and_gone_on_from() {
    let counting = "i=0; while true; do i=$((i+1)); echo $i > /count; echo line $i; sleep 0.1; done";
    output(&format!("bulkhead run -d --name counting $BUSYBOX sh -c '{counting}'"));
    logged("counting", "line 3\n");
    output("bulkhead exec counting sh -c 'echo kept > /file'");
    assert_eq!(output("bulkhead snapshot create one counting"), "one");
    let at: u32 = output("bulkhead exec counting cat /count").parse().unwrap();
    logged("counting", &format!("line {}\n", at + 3));
    let again = sh("bulkhead snapshot create one counting");
    assert!(again.code != 0 && again.stderr.contains("already"), "{again:?}");
    output("bulkhead rm -f counting");

    assert!(output("bulkhead snapshot ls").contains("counting"));
    assert_eq!(output("bulkhead snapshot ls -q"), "one");
    assert!(output("bulkhead snapshot inspect one").contains("\"StoodNs\""));
    for name in ["first", "second"] {
        output(&format!("bulkhead run -d --name {name} --from one"));
        logged(name, &format!("line {}\n", at + 2));
        let log = output(&format!("bulkhead logs {name}"));
        let first: u32 = log.lines().next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!((3..=at + 1).contains(&first), "it began with {first}, after {at}");
        assert_eq!(output(&format!("bulkhead exec {name} cat /file")), "kept");
    }
    // Stopped and started, it is a container as any other, with the disk it had.
    output("bulkhead stop -t 1 first; bulkhead start first");
    assert_eq!(output("bulkhead exec first cat /file"), "kept");
    logged("first", "line 1\n");

    output("bulkhead snapshot export -o /tmp/one.tar one; bulkhead snapshot rm one");
    assert_eq!(output("bulkhead exec second cat /file"), "kept", "it has what it went on from");
    let gone = sh("bulkhead run --from one");
    assert!(gone.code == 125 && gone.stderr.contains("no snapshot has the name"), "{gone:?}");
    assert_eq!(output("bulkhead snapshot import /tmp/one.tar again"), "again");
    output("bulkhead run -d --rm --name third --from again");
    assert_eq!(output("bulkhead exec third cat /file"), "kept");
    output("bulkhead rm -f first second third; bulkhead snapshot rm again; rm /tmp/one.tar");
}

/// Writes to its disk and believes what it reads there, sleeps, and says so over vsock.
const BUSY: &str = "i=0; while true; do i=$((i+1)); echo $i > /disk.new; sync; mv /disk.new /disk;
    test $(cat /disk) = $i || echo lost; echo line $i; sleep 0.05; done";

/// Copied, ended, and gone on from the copy, in rounds: five, unless `BULKHEAD_TEST_ROUNDS` says how many.
#[test]
fn a_busy_container_loses_nothing_round_after_round() {
    let rounds = std::env::var("BULKHEAD_TEST_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let numbers = |name: &str| -> Vec<u32> {
        let log = output(&format!("bulkhead logs {name}"));
        assert!(!log.contains("lost"), "{name}: {log}");
        log.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    };
    output(&format!("bulkhead run -d --name busy0 $BUSYBOX sh -c '{BUSY}'"));
    logged("busy0", "line 3\n");
    for round in 1..=rounds {
        let (mother, copy) = (format!("busy{}", round - 1), format!("busy{round}"));
        output(&format!("bulkhead snapshot create round {mother}"));
        // What was on its way to the mother's log when it was copied gets there, and not to the copy's.
        let said = *numbers(&mother).last().unwrap();
        logged(&mother, &format!("line {}\n", said + 5));
        let last = *numbers(&mother).last().unwrap();
        output(&format!("bulkhead rm -f {mother}; bulkhead run -d --name {copy} --from round"));
        output("bulkhead snapshot rm round");
        logged(&copy, &format!("line {}\n", last + 2));
        let numbers = numbers(&copy);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "round {round}: {numbers:?}");
        assert!(numbers[0] <= last + 1, "round {round}: it went on at {}, after {last}", numbers[0]);
    }
    output(&format!("bulkhead rm -f busy{rounds}"));
}

#[test]
fn what_cannot_be_copied_is_refused_and_runs_on() {
    output("bulkhead run -d --name steady $BUSYBOX sh -c 'while true; do date +%s > /now; sleep 0.1; done'");
    let runs_on = || {
        let now = eventually("steady", "cat /now");
        eventually("steady", &format!("test $(cat /now) -gt {now}"));
    };
    let refused = |command: &str, why: &str| {
        let refused = sh(command);
        assert!(refused.code == 125 && refused.stderr.contains(why), "{command}: {refused:?}");
    };
    output("bulkhead pause steady");
    refused("bulkhead fork steady", "it is paused");
    output("bulkhead unpause steady");
    refused("bulkhead snapshot create x/y steady", "cannot be named");
    refused("bulkhead snapshot create name nobody", "no such container");

    // No room for the memory.
    output(
        "mkdir -p /var/lib/bulkhead/snapshots; mount -t tmpfs -o size=8m tmpfs /var/lib/bulkhead/snapshots",
    );
    refused("bulkhead snapshot create name steady", "cannot write the VM's memory");
    assert_eq!(output("ls -A /var/lib/bulkhead/snapshots; umount /var/lib/bulkhead/snapshots"), "");
    runs_on();

    // Damaged, of another version, of another processor.
    let spoilt = [
        ("printf xxxx | dd of=$S/state bs=1 seek=16 conv=notrunc status=none", "version"),
        ("truncate -s 100 $S/state", "cut short"),
        ("truncate -s 1M $S/memory", "guest memory"),
        ("sed -i s/stepping/leaping/ $S/about.json", "another processor"),
        ("rm $S/about.json", "cannot read what is known"),
    ];
    for (spoil, why) in spoilt {
        output(&format!("bulkhead snapshot create bad steady; S=/var/lib/bulkhead/snapshots/bad; {spoil}"));
        refused("bulkhead run --rm --from bad", why);
        output("bulkhead snapshot rm bad");
    }
    runs_on();
    output("bulkhead rm -f steady");
    refused("bulkhead fork steady", "no such container");
}
