//! Many runs leave the machine as one found it.

use bulkhead_e2e::machine::{free_memory, snapshot};
use bulkhead_e2e::shell::{output, sh};

const RUNS: usize = 200;

/// What the machine itself may use meanwhile, in KiB.
const DRIFT: u64 = 64 << 10;

#[test]
fn two_hundred_runs_leave_the_machine_as_it_was() {
    output("bulkhead run -m 64m $BUSYBOX true");
    let (before, free) = (snapshot(), free_memory());
    for run in 0..RUNS {
        let finished = sh("bulkhead run -m 64m $BUSYBOX sh -c 'echo x > /file; exit 7'");
        assert_eq!(finished.code, 7, "run {run}: {}", finished.stderr);
    }
    assert_eq!(snapshot(), before);
    let left = free_memory();
    assert!(left + DRIFT > free, "{free} KiB were free before, {left} KiB are now");
}
