//! A VM that is saved, and goes on as others.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::fs::File;
use std::os::unix::fs::FileExt;

use bulkhead_e2e::vm::{Plan, Saved, Vm, disk_image};
use vmm_api::{Place, Reply, Request};

/// Counts aloud, four times a second or so.
const COUNT: &str = "i=0; while true; do i=$((i + 1)); echo \"count $i.\"; sleep 0.25; done";

fn counting(vcpus: u8) -> Saved {
    let mut plan = Plan::running(COUNT);
    (plan.in_file, plan.vcpus) = (true, vcpus);
    let mut vm = plan.start();
    vm.wait_for("count 3.");
    vm.save()
}

/// The numbers a guest has counted since it goes on.
fn counted(vm: &mut Vm) -> Vec<u32> {
    let Ok(Reply::Console { tail }) = vm.ask(Request::Console) else { return Vec::new() };
    let number = |line: &str| line.strip_prefix("count ")?.strip_suffix('.')?.parse().ok();
    tail.lines().filter_map(number).collect()
}

#[test]
fn clones_go_on_where_the_saved_vm_was() {
    for vcpus in [1, 2] {
        let saved = counting(vcpus);
        let [mut one, mut other] = [saved.resume(), saved.resume()];
        one.wait_for("count 12.");
        other.wait_for("count 9.");
        for clone in [&mut one, &mut other] {
            let numbers = counted(clone);
            assert!(numbers[0] > 3, "it began anew: {numbers:?}");
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        }
        // What they wrote is not the saved VM's.
        let mut third = saved.resume();
        third.wait_for("count 6.");
        assert!(counted(&mut third)[0] < 9);
    }
}

/// What the guest's driver had fetched ahead, up to 256 bytes, is every clone's; what it asks for later is its own.
#[test]
fn a_clone_takes_disks_and_entropy() {
    let script = "echo ready; n=0
        while [ ! -e /sys/block/vda ]; do echo 1 > /sys/bus/pci/rescan; sleep 0.1; done
        head -c 5 /dev/vda; echo; head -c 256 /dev/hwrng > /dev/null; head -c 16 /dev/hwrng | od -An -tx1; echo done; sleep 1000";
    let mut plan = Plan::running(script);
    plan.in_file = true;
    let mut vm = plan.start();
    vm.wait_for("ready");
    let saved = vm.save();
    let run = |text: &str| {
        let mut clone = saved.resume();
        assert_eq!(clone.add_disk("late", &disk_image(text, 1 << 20)), Ok(Reply::DiskAdded));
        clone.wait_for("done");
        let Ok(Reply::Console { tail }) = clone.ask(Request::Console) else { return Vec::new() };
        assert!(tail.contains(text), "{tail}");
        tail.lines().filter(|line| line.trim().len() == 47).map(str::to_owned).collect::<Vec<_>>()
    };
    let (one, other) = (run("first"), run("other"));
    assert_eq!(one.len(), 1, "{one:?}");
    assert_ne!(one, other);
}

/// The guest's kernel knows the place before there is a disk, and only has to give it a driver then.
#[test]
fn a_disk_takes_the_place_the_saved_vm_had_for_it() {
    let script = "cd /sys/bus/virtio; echo 0 > drivers_autoprobe; echo looking
        while ! grep -q 0x0002 devices/*/device; do echo 1 > /sys/bus/pci/rescan; sleep 0.1; done
        echo 1 > drivers_autoprobe; echo ready
        while [ ! -e /sys/block/vda ]; do echo 1 > /sys/bus/pci/rescan; sleep 0.1; done
        for device in devices/*; do [ -e $device/driver ] || echo ${device#*/} > drivers_probe; done
        head -c 5 /dev/vdb; echo; echo \"$(cat /sys/block/vdb/size) sectors\"; echo done; sleep 1000";
    let mut plan = Plan::running(script);
    plan.in_file = true;
    let mut vm = plan.start();
    let place = || Request::AddPlace(Place::Block { serial: "place".to_owned() });
    vm.wait_for("looking");
    assert_eq!(vm.ask(place()), Ok(Reply::DiskAdded));
    assert_eq!(vm.ask(place()).unwrap_err(), "there is a disk place already");
    vm.wait_for("ready");
    let saved = vm.save();

    let late = disk_image("late", 1 << 20);
    let run = |disks: &[(&str, &File)]| {
        let mut clone = saved.resume_with(disks);
        assert_eq!(clone.add_disk("late", &late), Ok(Reply::DiskAdded));
        clone.wait_for("done");
        clone
    };
    let console = |vm: &mut Vm| match vm.ask(Request::Console) {
        Ok(Reply::Console { tail }) => tail,
        other => panic!("{other:?}"),
    };
    let taken = console(&mut run(&[("place", &disk_image("taken", 1 << 20))]));
    assert!(taken.contains("taken") && taken.contains("2048 sectors"), "{taken}");
    let mut empty = run(&[]);
    assert!(console(&mut empty).contains("\n0 sectors"), "{}", console(&mut empty));
    // As it is copied, too.
    assert_eq!(empty.ask(Request::Hold), Ok(Reply::Held));
    let again = empty.snapshot().resume_with(&[("late", &late)]).reply();
    assert!(matches!(again, Ok(Reply::Launched { .. })), "{again:?}");
}

#[test]
fn only_a_vm_made_for_it_is_saved_and_another_goes_on() {
    let mut ordinary = Plan::running(COUNT).start();
    ordinary.wait_for("count 1.");
    let state = tempfile::tempfile().unwrap();
    assert!(ordinary.save_to(&state).unwrap_err().contains("a file as its memory"));
    ordinary.wait_for("count 5.");

    let mut plan = Plan::running(COUNT);
    plan.in_file = true;
    plan.disks.push(("disk", disk_image("", 1 << 20)));
    let mut with_disk = plan.start();
    with_disk.wait_for("count 1.");
    assert!(with_disk.save_to(&state).unwrap_err().contains("disks"));
    with_disk.wait_for("count 5.");
}

#[test]
fn a_saved_vm_runs_no_more() {
    let mut plan = Plan::running(COUNT);
    plan.in_file = true;
    let mut vm = plan.start();
    vm.wait_for("count 2.");
    assert_eq!(vm.save_to(&tempfile::tempfile().unwrap()), Ok(Reply::Saved));
    let numbers = counted(&mut vm);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(counted(&mut vm), numbers);
    assert!(vm.save_to(&tempfile::tempfile().unwrap()).unwrap_err().contains("runs no more"));
}

/// Counts on a disk as well, and believes what it reads there.
const COUNT_ON_DISK: &str = "i=0
    while true; do
        i=$((i + 1)); printf '%08d' $i | dd of=/dev/vda bs=8 conv=notrunc,fsync 2>/dev/null
        echo 3 > /proc/sys/vm/drop_caches; echo \"count $(head -c 8 /dev/vda | sed 's/^0*//').\"; sleep 0.1
    done";

/// Rounds of a VM that is saved while it runs on, ended, and goes on from there: ten, unless `BULKHEAD_TEST_ROUNDS` says
/// how many.
#[test]
fn round_after_round_nothing_is_lost() {
    let rounds = std::env::var("BULKHEAD_TEST_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut plan = Plan::running(COUNT_ON_DISK);
    let disk = disk_image("", 1 << 20);
    plan.disks.push(("disk", disk.try_clone().unwrap()));
    let mut vm = plan.start();
    vm.wait_for("count 3.");
    let mut disk = disk;
    for round in 0..rounds {
        assert_eq!(vm.ask(Request::Hold), Ok(Reply::Held));
        let copy = tempfile::tempfile().unwrap();
        std::io::copy(&mut &disk, &mut &copy).unwrap();
        let saved = vm.snapshot();
        let at = *counted(&mut vm).last().unwrap();
        vm.wait_for(&format!("count {}.", at + 2));
        assert!(matches!(vm.ask(Request::Stop), Ok(Reply::Stopping)), "round {round}");
        disk = copy;
        vm = saved.resume_with(&[("disk", &disk)]);
        vm.wait_for(&format!("count {}.", at + 2));
        let numbers = counted(&mut vm);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "round {round}: {numbers:?}");
        assert!(numbers[0] <= at + 1, "round {round}: it went on at {}, after {at}", numbers[0]);
        std::io::Seek::rewind(&mut &disk).unwrap();
    }
}

#[test]
fn a_vm_that_is_held_goes_on_whatever_becomes_of_the_snapshot() {
    let mut vm = Plan::running(COUNT).start();
    vm.wait_for("count 2.");
    assert!(
        vm.snapshot_to(&tempfile::tempfile().unwrap(), &tempfile::tempfile().unwrap())
            .unwrap_err()
            .contains("not held")
    );
    let goes_on = |vm: &mut Vm| {
        let at = *counted(vm).last().unwrap();
        vm.wait_for(&format!("count {}.", at + 3));
    };

    assert_eq!(vm.ask(Request::Hold), Ok(Reply::Held));
    let numbers = counted(&mut vm);
    assert!(vm.ask(Request::Hold).unwrap_err().contains("being saved"));
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(counted(&mut vm), numbers, "it ran while it was held");
    assert_eq!(vm.ask(Request::Release), Ok(Reply::Released));
    goes_on(&mut vm);

    // No room, for the state or for the memory.
    let (full, file) =
        (File::options().write(true).open("/dev/full").unwrap(), tempfile::tempfile().unwrap());
    for (state, memory) in [(&full, &file), (&file, &full)] {
        assert_eq!(vm.ask(Request::Hold), Ok(Reply::Held));
        assert!(vm.snapshot_to(state, memory).is_err());
        goes_on(&mut vm);
    }

    // A supervisor that is gone meanwhile leaves nothing.
    assert_eq!(vm.ask(Request::Hold), Ok(Reply::Held));
    vm.abandon();
}

#[test]
fn what_is_no_saved_vm_is_refused_with_the_reason() {
    let saved = counting(1);
    let changed = |change: &dyn Fn(&File)| {
        let mut state = tempfile::tempfile().unwrap();
        let mut source = saved.state.try_clone().unwrap();
        std::io::Seek::rewind(&mut source).unwrap();
        std::io::copy(&mut source, &mut state).unwrap();
        change(&state);
        Saved { state, memory: saved.memory.try_clone().unwrap(), vcpus: 1, memory_size: saved.memory_size }
            .refusal()
    };
    assert!(changed(&|state| state.write_all_at(b"something else..", 0).unwrap()).contains("no saved VM"));
    assert!(changed(&|state| state.write_all_at(&[9], 16).unwrap()).contains("version 9"));
    let length = saved.state.metadata().unwrap().len();
    assert!(changed(&|state| state.set_len(length - 1).unwrap()).contains("cut short"));
    let damaged = changed(&|state| state.write_all_at(&[0xaa; 8], length - 8).unwrap());
    assert!(damaged.contains("damaged"), "{damaged}");

    let same = |file: &File| file.try_clone().unwrap();
    let (state, memory) = (same(&saved.state), same(&saved.memory));
    let refusal = Saved { state, memory, vcpus: 2, memory_size: saved.memory_size }.refusal();
    assert!(refusal.contains("is said to have others"), "{refusal}");
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(1 << 20).unwrap();
    let refusal =
        Saved { state: saved.state.try_clone().unwrap(), memory, vcpus: 1, memory_size: saved.memory_size }
            .refusal();
    assert!(refusal.contains("guest memory"), "{refusal}");
}
