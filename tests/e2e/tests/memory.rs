//! Memory that a guest frees: it is the host's again.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::output;
use bulkhead_e2e::vm::{Plan, disk_image};
use vmm_api::Reply;

/// Longer than it takes the guest's kernel, which reports a part of what is free every two seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// MiB of the process's memory that are in RAM.
fn resident(vmm: &str) -> u64 {
    let kib = format!("awk '/^Rss/ {{ print $2 }}' /proc/{vmm}/smaps_rollup");
    output(&kib).parse::<u64>().unwrap() >> 10
}

/// Has a guest fill `mib` and free them, and waits for most of them.
fn fill_and_free(vmm: &str, mib: u64, fill: impl FnOnce(), free: impl FnOnce()) {
    let before = resident(vmm);
    fill();
    let filled = resident(vmm);
    assert!(filled >= before + mib * 9 / 10, "{before} MiB, then {filled}");
    free();
    let freed = Instant::now();
    let wanted = filled - (filled - before) * 8 / 10;
    let mut now = resident(vmm);
    while now > wanted && freed.elapsed() < LIMIT {
        sleep(Duration::from_millis(500));
        now = resident(vmm);
    }
    let seconds = freed.elapsed().as_secs();
    println!("{before} MiB, full {filled}, {now} in {seconds} s after it was freed");
    assert!(now <= wanted, "{before} MiB, full {filled}, still {now}");
}

/// The same in the only container there is.
fn in_container(container: &str, mib: u64) {
    let exec = |command: &str| drop(output(&format!("bulkhead exec {container} {command} 2>&1")));
    let fill = format!("dd if=/dev/zero of=/dev/shm/file bs=1M count={mib}");
    fill_and_free("$(pgrep -n bulkhead-vmm)", mib, || exec(&fill), || exec("rm /dev/shm/file"));
}

#[test]
fn what_a_container_frees_is_the_hosts_again() {
    let before = snapshot();
    output("bulkhead run -d --name filled -m 1500m --shm-size 1100m $BUSYBOX sleep 1000");
    in_container("filled", 1024);
    output("bulkhead rm -f filled");
    assert_unchanged(&before, "memory was freed");
}

#[test]
fn a_guest_that_booted_gives_memory_back_and_takes_it_again() {
    let before = snapshot();
    output(
        "BULKHEAD_TEMPLATES=off bulkhead run -d --name filled -m 500m --shm-size 300m $BUSYBOX sleep 1000",
    );
    in_container("filled", 256);
    in_container("filled", 256);
    // What is taken again is as good as before.
    let text = "yes 0123456789 | head -c 200000000";
    let inside = format!("bulkhead exec filled sh -c '{text} > /dev/shm/file; md5sum < /dev/shm/file'");
    assert_eq!(output(&inside), output(&format!("{text} | md5sum")));
    output("bulkhead rm -f filled");
    assert_unchanged(&before, "memory was freed");
}

#[test]
fn a_saved_vm_gives_memory_back_and_its_file_is_not_filled() {
    let script = "
        await() { while [ ! -e /sys/block/$1 ]; do echo 1 > /sys/bus/pci/rescan; sleep 0.1; done; }
        mkdir /fill; mount -t tmpfs -o size=90% fill /fill; echo ready
        await vda; dd if=/dev/zero of=/fill/file bs=1M count=256; echo it is full
        await vdb; rm /fill/file; echo it is free; sleep 1000";
    let mut plan = Plan::running(script);
    (plan.in_file, plan.memory) = (true, 512 << 20);
    let mut vm = plan.start();
    vm.wait_for("ready");
    let saved = vm.save();
    let written = || saved.memory.metadata().unwrap().blocks() >> 11;
    let before = written();
    let clone = std::cell::RefCell::new(saved.resume());
    let step = |serial, said| {
        let mut clone = clone.borrow_mut();
        assert_eq!(clone.add_disk(serial, &disk_image("", 1 << 20)), Ok(Reply::DiskAdded));
        clone.wait_for(said);
    };
    let pid = clone.borrow().pid().to_string();
    assert!(matches!(clone.borrow().reply(), Ok(Reply::Launched { .. })));
    fill_and_free(&pid, 256, || step("fill", "it is full"), || step("free", "it is free"));
    println!("the file: {before} MiB, then {}", written());
    assert!(written() <= before + 16, "{before} MiB, then {}", written());
}
