//! Many runs leave the machine as one found it.

use bulkhead_e2e::machine::{assert_unchanged, free_memory, snapshot};
use bulkhead_e2e::shell::{output, sh};

/// Enough to see a leak of a run; BULKHEAD_TEST_RUNS asks for more.
const RUNS: usize = 20;

/// What the machine itself may use meanwhile, in KiB.
const DRIFT: u64 = 64 << 10;

#[test]
fn runs_leave_the_machine_as_it_was() {
    output("bulkhead run --rm -m 64m $BUSYBOX true");
    let (before, free) = (snapshot(), free_memory());
    let runs = std::env::var("BULKHEAD_TEST_RUNS").map_or(RUNS, |runs| runs.parse().unwrap());
    for run in 0..runs {
        let finished = sh("bulkhead run --rm -m 64m $BUSYBOX sh -c 'echo x > /file; exit 7'");
        assert_eq!(finished.code, 7, "run {run}: {}", finished.stderr);
    }
    assert_unchanged(&before, "something is left");
    let left = free_memory();
    assert!(left + DRIFT > free, "{free} KiB were free before, {left} KiB are now");
}
