//! Memory that a VM gets while it runs, and gives back when it is to have less.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use std::thread::sleep;
use std::time::{Duration, Instant};

use bulkhead_e2e::shell::output;
use bulkhead_e2e::vm::{Plan, Vm, disk_image};
use vmm_api::{MEMORY_ROOM, Reply, Request};

/// How long a guest may take to give back what it can.
const LIMIT: Duration = Duration::from_secs(120);

const MIB: u64 = 1 << 20;

/// Says how much memory there is, and on the way fills some of it and frees it again.
const SCRIPT: &str = "
    total() { awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo; }
    mkdir /fill; mount -t tmpfs -o size=300m fill /fill; echo ready
    while [ $(total) -lt 300 ]; do sleep 0.1; done
    dd if=/dev/zero of=/fill/file bs=1M count=250 && echo it is full
    rm /fill/file; sleep 1000";

fn plugged(vm: &mut Vm) -> u64 {
    match vm.ask(Request::Plugged) {
        Ok(Reply::Plugged { bytes }) => bytes / MIB,
        other => panic!("{other:?}"),
    }
}

fn resident(vm: &Vm) -> u64 {
    let rss = format!("awk '/^Rss/ {{ print $2 }}' /proc/{}/smaps_rollup", vm.pid());
    output(&rss).parse::<u64>().unwrap() >> 10
}

/// Grows by 256 MiB, which are used, and shrinks again.
fn grow_and_shrink(vm: &mut Vm) {
    assert_eq!(vm.ask(Request::Resize { plugged: 256 * MIB }), Ok(Reply::Plugged { bytes: 256 * MIB }));
    vm.wait_for("it is full");
    let full = resident(vm);
    vm.send(Request::Resize { plugged: 0 }, &[]);
    let asked = Instant::now();
    while plugged(vm) > 64 || resident(vm) > full - 150 {
        assert!(asked.elapsed() < LIMIT, "{} MiB plugged, {full} resident, {}", plugged(vm), resident(vm));
        sleep(Duration::from_millis(500));
    }
    println!("{full} MiB, then {}; {} plugged", resident(vm), plugged(vm));
}

#[test]
fn a_vm_that_booted_grows_and_shrinks() {
    let mut plan = Plan::running(SCRIPT);
    plan.memory = 128 * MIB;
    let mut vm = plan.start();
    vm.wait_for("ready");
    assert_eq!(plugged(&mut vm), 0);
    let refused = vm.ask(Request::Resize { plugged: MEMORY_ROOM + 1 }).unwrap_err();
    assert!(refused.contains("can grow by"), "{refused}");
    grow_and_shrink(&mut vm);
}

#[test]
fn a_vm_that_goes_on_from_a_saved_one_grows_and_shrinks_and_is_not_copied_meanwhile() {
    let mut plan = Plan::running(SCRIPT);
    (plan.in_file, plan.memory) = (true, 128 * MIB);
    let mut vm = plan.start();
    vm.wait_for("ready");
    let saved = vm.save();
    for _ in 0..2 {
        let mut clone = saved.resume();
        assert!(matches!(clone.reply(), Ok(Reply::Launched { .. })));
        assert_eq!(clone.ask(Request::Resize { plugged: 64 * MIB }), Ok(Reply::Plugged { bytes: 64 * MIB }));
        let refused = clone.ask(Request::Hold).unwrap_err();
        assert!(refused.contains("more memory than it was launched with"), "{refused}");
        // It runs on, with all that it had.
        assert_eq!(clone.add_disk("later", &disk_image("", MIB)), Ok(Reply::DiskAdded));
        grow_and_shrink(&mut clone);
    }
}
