//! What holds a container inside its guest, and the VMM on its host.

use std::collections::BTreeSet;
use std::fs;

use bulkhead_e2e::machine::listed;
use bulkhead_e2e::shell::{background, output, sh};

fn inside(options: &str, script: &str) -> String {
    output(&format!("bulkhead run --rm {options} $BUSYBOX sh -c '{script}'"))
}

#[test]
fn a_container_has_dockers_confinement() {
    let status = inside("", "grep -E \"^(Seccomp|Cap...|NoNewPrivs):\" /proc/self/status");
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(value("Seccomp:"), Some("2"));
    assert_eq!(value("CapBnd:"), Some("00000000a80425fb"));
    assert_eq!(value("CapEff:"), Some("00000000a80425fb"));
    assert_eq!(value("CapInh:"), Some("0000000000000000"));
    assert_eq!(value("NoNewPrivs:"), Some("0"));
}

#[test]
fn the_command_is_process_1_and_alone() {
    // Counted by the shell itself: what it started would come and go.
    assert_eq!(inside("", "echo $$; set -- /proc/[0-9]*; echo $#"), "1\n1");
}

#[test]
fn the_cgroup_has_the_limits_asked_for() {
    let limits = "cd /sys/fs/cgroup; cat memory.max cpu.max; [ -w cgroup.procs ] || echo read-only";
    assert!(inside("-m 256m --cpus 0.5", limits).starts_with("268435456\n50000 100000"));
    assert_eq!(inside("--cpus 2", "nproc"), "2");
    assert_eq!(inside("", "touch /sys/fs/cgroup/x 2>/dev/null || echo refused"), "refused");
}

#[test]
fn kernel_files_are_hidden_or_read_only() {
    assert_eq!(
        inside("", "cat /proc/kcore /proc/timer_list /proc/keys | wc -c; ls /sys/firmware | wc -l"),
        "0\n0"
    );
    assert_eq!(inside("", "echo 1 2>/dev/null > /proc/sys/kernel/sysrq || echo refused"), "refused");
}

#[test]
fn calls_outside_the_profile_are_refused_unless_a_capability_brings_them() {
    let attempt = "unshare -m true 2>/dev/null && echo done || echo refused";
    assert_eq!(inside("", attempt), "refused");
    assert_eq!(inside("--cap-add SYS_ADMIN", attempt), "done");
    assert_eq!(inside("--security-opt seccomp=unconfined", "grep Seccomp: /proc/self/status"), "Seccomp:\t0");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
    let own =
        format!("t=$(mktemp); echo '{profile}' > $t; bulkhead run --rm --security-opt seccomp=$t $BUSYBOX");
    let refused = sh(&format!("{own} mkdir /x"));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("Operation not permitted"), "{}", refused.stderr);
}

#[test]
fn capabilities_are_given_and_taken() {
    let effective = |options: &str| inside(options, "grep CapEff /proc/self/status").replace("CapEff:\t", "");
    assert_eq!(effective("--cap-drop ALL"), "0000000000000000");
    assert_eq!(effective("--cap-drop ALL --cap-add CHOWN"), "0000000000000001");
    assert_eq!(effective("--cap-add ALL"), "000001ffffffffff");
    assert_eq!(effective("-u web"), "0000000000000000");
    assert_eq!(
        inside("--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t1"
    );
}

#[test]
fn there_is_loopback_and_no_other_network() {
    assert_eq!(inside("", "ls /sys/class/net; ping -c 1 -W 60 127.0.0.1 >/dev/null && echo up"), "lo\nup");
}

#[test]
fn there_are_dockers_devices_and_no_disks() {
    assert_eq!(
        inside("", "echo x > /dev/null && head -c 4 /dev/zero | wc -c && ls /dev/vd* 2>/dev/null | wc -l"),
        "4\n0"
    );
}

#[test]
fn a_node_of_ones_own_opens_none_of_the_guests_disks() {
    let disks = r#"for number in $(cat /sys/block/*/dev); do
        mknod /dev/disk b ${number/:/ } && head -c 1 /dev/disk 2>&1 | sed "s/.*: //"; rm /dev/disk; done | sort | uniq"#;
    assert_eq!(inside("", disks), "Operation not permitted");
    assert_eq!(inside("", "mknod /dev/mine c 1 3 && echo x > /dev/mine && echo written"), "written");
}

#[test]
fn the_vmm_holds_nothing_it_does_not_need() {
    let run = background("bulkhead run --rm --name watched $BUSYBOX sh -c 'echo up; exec sleep 1000'");
    let pid = listed("watched")["VmmPid"].as_u64().expect("a pid");
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("threads") {
        let status = fs::read_to_string(thread.expect("a thread").path().join("status")).expect("status");
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(value(set), Some("0000000000000000"), "{set}");
        }
        assert_eq!((value("Seccomp:"), value("NoNewPrivs:")), (Some("2"), Some("1")));
        assert!(!value("Uid:").expect("a uid").split_whitespace().any(|uid| uid == "0"), "{status}");
    }
    assert_eq!(output(&format!("ls -A /proc/{pid}/root/")), "");
    let descriptors = output(&format!("find /proc/{pid}/fd -type l -printf '%l\\n'"));
    let kinds: BTreeSet<&str> =
        descriptors.lines().map(|link| link.split(':').next().unwrap_or(link)).collect();
    let is_known = |kind: &&str| {
        let own = ["socket", "anon_inode", "pipe", "/dev/kvm", "/dev/null"].contains(kind);
        // A template's memory, which is mapped, holds nothing of anybody.
        let disks = ["/memfd", "/var/lib/bulkhead/", "/run/bulkhead/.templates/"];
        own || disks.iter().any(|place| kind.starts_with(place))
    };
    let unknown: Vec<_> = kinds.iter().filter(|kind| !is_known(kind)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    output("bulkhead kill watched");
    assert_eq!(run.wait(), 137);
}
