//! vCPUs that a VM gets while it runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use bulkhead_e2e::vm::{Plan, Vm, disk_image};
use vmm_api::{Reply, Request};

/// Says how many CPUs there are; uses one more with each disk that comes, and says again, and in the end whether each was busy.
const SCRIPT: &str = "
    echo first: $(nproc)
    await() { while [ ! -e /sys/block/$1 ]; do echo 1 > /sys/bus/pci/rescan; sleep 0.1; done; }
    await vda; echo 1 > /sys/devices/system/cpu/cpu1/online
    echo then: $(nproc), $(grep -c ^processor /proc/cpuinfo)
    await vdb; echo 1 > /sys/devices/system/cpu/cpu2/online
    echo last: $(nproc), $(grep -c ^processor /proc/cpuinfo)
    busy() { awk -v cpu=cpu$1 '$1 == cpu { print $2 }' /proc/stat; }
    for cpu in 0 1 2; do taskset -c $cpu sh -c 'while :; do :; done' & done
    for cpu in 0 1 2; do until [ $(busy $cpu) -gt 20 ]; do sleep 0.1; done; done
    echo all busy; sleep 1000";

fn plan() -> Plan {
    let mut plan = Plan::running(SCRIPT).with_arguments("maxcpus=1");
    plan.most_vcpus = Some(3);
    plan
}

fn grow(vm: &mut Vm) {
    for (total, serial, text) in [(2, "first", "then: 2, 2"), (3, "second", "last: 3, 3")] {
        for total in [1, total, total] {
            assert_eq!(vm.ask(Request::AddVcpus { total }), Ok(Reply::VcpusAdded));
        }
        assert_eq!(vm.add_disk(serial, &disk_image("", 1 << 20)), Ok(Reply::DiskAdded));
        vm.wait_for(text);
    }
    let refused = vm.ask(Request::AddVcpus { total: 4 }).unwrap_err();
    assert_eq!(refused, "this VM can have 3 vCPUs, not 4");
    vm.wait_for("all busy");
}

#[test]
fn a_vm_that_booted_gets_vcpus() {
    let mut vm = plan().start();
    vm.wait_for("first: 1");
    grow(&mut vm);
    assert_eq!(vm.ask(Request::Stop), Ok(Reply::Stopping));
}

#[test]
fn a_vm_that_goes_on_from_a_saved_one_gets_vcpus_and_is_not_copied_then() {
    let mut plan = plan();
    plan.in_file = true;
    let mut vm = plan.start();
    vm.wait_for("first: 1");
    let saved = vm.save();
    for _ in 0..2 {
        let mut clone = saved.resume();
        assert!(matches!(clone.reply(), Ok(Reply::Launched { .. })));
        grow(&mut clone);
        let refused = clone.ask(Request::Hold).unwrap_err();
        assert!(refused.contains("more vCPUs than it was launched with"), "{refused}");
        // It runs on.
        assert_eq!(clone.add_disk("later", &disk_image("", 1 << 20)), Ok(Reply::DiskAdded));
    }
}
