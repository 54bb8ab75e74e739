//! A VM by itself: how it ends, what is wrong with a launch, disks that come and go, and its jail.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::fs::{self, File};

use bulkhead_e2e::vm::{Plan, Vm, disk_image, root_entries, status_line, threads};
use vmm_api::{EndReason, Reply, Request};

#[test]
fn every_way_to_end_is_told_apart() {
    let power_off = Plan::running("poweroff -f").start().ended();
    assert_eq!(power_off.reason(), &EndReason::PowerOff);

    let reboot = Plan::running("reboot -f").start().ended();
    assert_eq!(reboot.reason(), &EndReason::Reboot);

    // The kernel's own way to reset by a triple fault.
    let triple_fault = Plan::running("reboot -f").with_arguments("reboot=t").start().ended();
    assert_eq!(triple_fault.reason(), &EndReason::TripleFault);

    let mut idle = Plan::running("echo ready; sleep 1000").start();
    idle.wait_for("ready");
    assert_eq!(idle.ask(Request::Stop), Ok(Reply::Stopping));
    assert_eq!(idle.ended().reason(), &EndReason::Stopped);
}

#[test]
fn a_panic_brings_the_last_lines_of_the_console() {
    // By the kernel's log: what waits in a terminal's buffer, a panic loses.
    let ended = Plan::running("echo '<0>about to panic' > /dev/kmsg; exit 3").start().ended();
    assert_eq!(ended.reason(), &EndReason::Panic);
    let console = &ended.end.console;
    assert!(console.contains("about to panic"), "{console}");
    assert!(console.contains("Kernel panic - not syncing: Attempted to kill init!"), "{console}");
    assert!(ended.end.exits["io"] > 0 && ended.end.exits["mmio"] > 0, "{:?}", ended.end.exits);
}

#[test]
fn a_supervisor_that_is_gone_ends_the_vm() {
    let mut vm = Plan::running("echo ready; while true; do :; done").start();
    vm.wait_for("ready");
    assert_eq!(vm.abandon().code(), Some(vmm_api::ExitCode::Stopped as i32));
}

#[test]
fn every_vcpu_comes_up() {
    let mut plan = Plan::running("echo cpus: $(nproc); poweroff -f");
    plan.vcpus = 4;
    let ended = plan.start().ended();
    assert!(ended.end.console.contains("cpus: 4"), "{}", ended.end.console);
}

#[test]
fn memory_beyond_the_hole_is_used() {
    let mut plan = Plan::running("grep MemTotal /proc/meminfo; poweroff -f");
    plan.memory = 4 << 30;
    let console = plan.start().ended().end.console;
    let total: u64 =
        console.split_whitespace().skip_while(|word| *word != "MemTotal:").nth(1).unwrap().parse().unwrap();
    assert!(total > 3_900_000, "{console}");
}

#[test]
fn a_launch_that_cannot_be_says_why() {
    let refusal = |plan: Plan| match plan.start().ended().reason() {
        EndReason::Launch { message } => message.clone(),
        other => panic!("{other:?}"),
    };
    let mut foreign = Plan::running("");
    foreign.kernel = "/bin/busybox".into();
    assert!(refusal(foreign).contains("without a PVH entry"));

    let mut no_elf = Plan::running("");
    no_elf.kernel = "/etc/passwd".into();
    assert!(refusal(no_elf).starts_with("the kernel is no ELF file with a PVH entry"));

    let mut small = Plan::running("");
    small.memory = 16 << 20;
    assert!(refusal(small).contains("does not fit the guest's memory of 16 MiB"));

    let mut no_cpus = Plan::running("");
    no_cpus.vcpus = 0;
    assert!(refusal(no_cpus).contains("1 to 254 vCPUs"));

    let mut not_first = Vm::spawn();
    assert!(not_first.ask(Request::Console).unwrap_err().contains("has to be a launch"));
}

#[test]
fn disks_come_and_go_while_the_guest_runs() {
    let script = "
        appears() { until [ -e /sys/block/$1 ]; do echo 1 > /sys/bus/pci/rescan; done; }
        tell() { echo \"$1: $(cat /sys/block/$1/serial) $(head -n 1 /dev/$1)\"; }
        leave() { echo 1 > $(readlink -f /sys/block/$1/device/..)/remove; }
        tell vda
        echo ready
        appears vdb; tell vdb
        echo written | dd of=/dev/vdb bs=512 seek=1 conv=fsync 2>/dev/null
        leave vdb; echo vdb is gone
        until dd if=/dev/vda bs=512 skip=1 count=1 2>/dev/null | grep -q 'taken away'; do sleep 0.1; done
        appears vdb; tell vdb
        poweroff -f";
    let mut plan = Plan::running(script);
    let first = disk_image("one\n", 1 << 20);
    plan.disks.push(("first", first.try_clone().unwrap()));
    let mut vm = plan.start();
    vm.wait_for("vda: first one");
    vm.wait_for("ready");

    let second = disk_image("two\n", 1 << 20);
    assert_eq!(vm.add_disk("second", &second), Ok(Reply::DiskAdded));
    assert_eq!(vm.add_disk("second", &second).unwrap_err(), "there is a disk second already");
    vm.wait_for("vdb is gone");
    assert_eq!(vm.ask(Request::RemoveDisk { serial: "second".to_owned() }), Ok(Reply::DiskRemoved));
    assert_eq!(
        vm.ask(Request::RemoveDisk { serial: "second".to_owned() }).unwrap_err(),
        "there is no disk second"
    );
    let mut sector = [0; 8];
    std::os::unix::fs::FileExt::read_exact_at(&second, &mut sector, 512).unwrap();
    assert_eq!(&sector, b"written\n");

    // A guest that rescans before its host has taken the disk away would find what is left of it.
    std::os::unix::fs::FileExt::write_all_at(&first, b"taken away\n", 512).unwrap();
    assert_eq!(vm.add_disk("third", &disk_image("three\n", 1 << 20)), Ok(Reply::DiskAdded));
    let ended = vm.ended();
    assert_eq!(ended.reason(), &EndReason::PowerOff);
    let console = &ended.end.console;
    assert!(console.contains("vdb: second two") && console.contains("vdb: third three"), "{console}");
}

#[test]
fn a_disk_that_is_none_is_refused_and_the_vm_goes_on() {
    let mut vm = Plan::running("echo ready; sleep 1000").start();
    vm.wait_for("ready");
    assert!(vm.add_disk("null", &File::open("/dev/null").unwrap()).unwrap_err().contains("null"));
    assert!(vm.add_disk("", &disk_image("", 4096)).unwrap_err().contains("serial"));
    vm.wait_for("ready");
}

#[test]
fn the_process_is_in_its_jail() {
    let mut vm = Plan::running("echo ready; sleep 1000").start();
    vm.wait_for("ready");
    let pid = vm.pid();
    assert_eq!(status_line(pid, "CapEff"), "0000000000000000");
    assert_eq!(status_line(pid, "NoNewPrivs"), "1");
    assert_eq!(status_line(pid, "Uid"), ["65534"; 4].join("\t"));
    assert_eq!(root_entries(pid), 0);
    let confined = threads(pid, "Seccomp");
    assert!(confined.iter().any(|(name, _)| name == "vcpu0"), "{confined:?}");
    assert!(confined.iter().all(|(_, mode)| mode == "2"), "{confined:?}");
}

#[test]
fn idle_it_needs_little_memory_beside_the_guests() {
    let mut vm = Plan::running("echo ready; sleep 1000").start();
    vm.wait_for("ready");
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", vm.pid())).unwrap();
    let kib = own_memory(&smaps);
    println!("bulkhead-vmm: {kib} KiB beside guest memory");
    assert!(kib <= 4096, "{kib} KiB");
}

/// KiB resident in mappings that are not the guest's: that one has the guest's size, which no other nears.
fn own_memory(smaps: &str) -> u64 {
    let mut sum = 0;
    let mut size = 0;
    for line in smaps.lines() {
        let number = || line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap();
        if line.starts_with("Size:") {
            size = number();
        } else if line.starts_with("Rss:") && size < 100 << 10 {
            sum += number();
        }
    }
    sum
}
