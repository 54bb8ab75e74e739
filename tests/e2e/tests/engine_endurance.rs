//! Many runs by way of containerd, one after the other and at once, leave the machine as one found it.

// What cannot be set up fails the test that needs it.
#![allow(clippy::expect_used)]

use bulkhead_e2e::engines::Containerd;
use bulkhead_e2e::machine::{assert_unchanged, free_memory, snapshot};
use bulkhead_e2e::shell::{output, sh};

/// Enough to see a leak of a run; BULKHEAD_ENDURANCE_RUNS asks for more.
const RUNS: usize = 20;

/// Enough to see them get in each other's way; BULKHEAD_ENDURANCE_AT_ONCE asks for more.
const AT_ONCE: usize = 10;

/// What the machine itself may use meanwhile, containerd's own growth and its database's among it, in KiB.
const DRIFT: u64 = 64 << 10;

/// On a machine with much to do the client waits longer for its containerd than the ten seconds of its own.
const RUN: &str =
    "ctr --connect-timeout 300s run --runtime io.containerd.bulkhead.v2 --rm localhost/busybox:latest";

/// `otherwise`, unless the environment says how many.
fn count(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |count| count.parse().expect("a number"))
}

/// The body must leave the machine as it was; what the first run and the first crowd need stays.
fn leaves_nothing(warm_up: &str, body: impl FnOnce()) {
    let daemon = Containerd::Debians.start("");
    output(warm_up);
    let (before, free) = (snapshot(), free_memory());
    body();
    assert_unchanged(&before, "something is left");
    let left = free_memory();
    eprintln!("{free} KiB were free before, {left} KiB are now");
    assert!(left + DRIFT > free, "{free} KiB were free before, {left} KiB are now");
    drop(daemon);
}

#[test]
fn runs_in_a_row_leave_the_machine_as_it_was() {
    leaves_nothing(&format!("{RUN} first true"), || {
        for run in 0..count("BULKHEAD_ENDURANCE_RUNS", RUNS) {
            let finished = sh(&format!("{RUN} row{run} sh -c 'echo x > /file; echo {run}; exit 7'"));
            assert_eq!(
                (finished.code, finished.stdout.trim()),
                (7, run.to_string().as_str()),
                "{}",
                finished.stderr
            );
        }
    });
}

#[test]
fn runs_at_once_leave_the_machine_as_it_was() {
    let at_once = count("BULKHEAD_ENDURANCE_AT_ONCE", AT_ONCE);
    // Each says its number, or what went wrong.
    let crowd = |name: &str| {
        format!(
            r#"t=$(mktemp -d); trap 'rm -r $t' EXIT
            for i in $(seq {at_once}); do
                {{ {RUN} {name}$i sh -c "echo x > /file; echo $i; sleep 1; exit 7"; echo "ended with $?"; }} > $t/$i 2>&1 &
            done
            wait
            for i in $(seq {at_once}); do
                [[ $(cat $t/$i) == "$i"$'\n'"ended with 7" ]] || {{ echo "run $i:"; cat $t/$i; failed=1; }}
            done
            exit ${{failed:-0}}"#
        )
    };
    // Which wait for the template that one of them makes.
    let warm_up = crowd("warm");
    leaves_nothing(&warm_up, || {
        output(&crowd("crowd"));
    });
}
