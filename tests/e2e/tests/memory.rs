//! Memory that a container frees: it is the host's again.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::output;

/// Longer than it takes the guest's kernel, which reports a part of what is free every two seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// MiB of the only VMM's memory that are in RAM.
fn resident() -> u64 {
    let kib = "awk '/^Rss/ { print $2 }' /proc/$(pgrep -n bulkhead-vmm)/smaps_rollup";
    output(kib).parse::<u64>().unwrap() >> 10
}

/// Has a container fill `mib` and free them, and waits for most of them.
fn fill_and_free(container: &str, mib: u64) {
    let before = resident();
    output(&format!("bulkhead exec {container} dd if=/dev/zero of=/dev/shm/file bs=1M count={mib} 2>&1"));
    let filled = resident();
    assert!(filled >= before + mib * 9 / 10, "{before} MiB, then {filled}");
    output(&format!("bulkhead exec {container} rm /dev/shm/file"));
    let freed = Instant::now();
    let wanted = filled - (filled - before) * 8 / 10;
    let mut now = resident();
    while now > wanted && freed.elapsed() < LIMIT {
        sleep(Duration::from_millis(500));
        now = resident();
    }
    let seconds = freed.elapsed().as_secs();
    println!("{before} MiB, full {filled}, {now} in {seconds} s after it was freed");
    assert!(now <= wanted, "{before} MiB, full {filled}, still {now}");
}

#[test]
fn what_a_container_frees_is_the_hosts_again() {
    let before = snapshot();
    output("bulkhead run -d --name filled -m 1500m --shm-size 1100m $BUSYBOX sleep 1000");
    fill_and_free("filled", 1024);
    output("bulkhead rm -f filled");
    assert_unchanged(&before, "memory was freed");
}

#[test]
fn a_guest_that_booted_gives_memory_back_and_takes_it_again() {
    let before = snapshot();
    output(
        "BULKHEAD_TEMPLATES=off bulkhead run -d --name filled -m 500m --shm-size 300m $BUSYBOX sleep 1000",
    );
    fill_and_free("filled", 256);
    fill_and_free("filled", 256);
    // What is taken again is as good as before.
    let text = "yes 0123456789 | head -c 200000000";
    let inside = format!("bulkhead exec filled sh -c '{text} > /dev/shm/file; md5sum < /dev/shm/file'");
    assert_eq!(output(&inside), output(&format!("{text} | md5sum")));
    output("bulkhead rm -f filled");
    assert_unchanged(&before, "memory was freed");
}
