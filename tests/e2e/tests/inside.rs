//! What happens inside a sandbox for the verbs about a running or ended container: pause, stats, top, cp, diff,
//! export, commit, init, limits.

use bulkhead_e2e::shell::{output, sh};

/// A container named `box` that runs this in the background, for the script that follows; gone afterwards.
fn with(flags: &str, command: &str, script: &str) -> String {
    output(&format!(
        "set -e -o pipefail; trap 'bulkhead rm -f box >/dev/null 2>&1' EXIT; t=$(mktemp -d); cd $t
         bulkhead load -q -i $BUSYBOX >/dev/null
         bulkhead run -d --name box {flags} busybox {command} >/dev/null
         {script}
         rm -r $t"
    ))
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    let count = r#"sh -c 'while true; do echo x >> /n; usleep 10000; done'"#;
    let lines = "bulkhead cp box:/n - | tar -xO | wc -l";
    let script = format!(
        r#"bulkhead exec box sh -c 'until test -e /n; do usleep 10000; done'
        bulkhead pause box
        first=$({lines}); sleep 0.5; test $first -eq $({lines}) && echo stands
        bulkhead exec box true || echo refused
        bulkhead unpause box
        until test $({lines}) -gt $first; do sleep 0.1; done; echo goes on"#
    );
    assert_eq!(with("", count, &script), "box\nstands\nrefused\nbox\ngoes on");
}

#[test]
fn files_are_copied_in_and_out_with_their_kind_mode_and_links() {
    let script = r#"
        mkdir -p in/sub; echo hello > in/sub/file; chmod 640 in/sub/file; ln -s sub/file in/link
        bulkhead cp -q in box:/srv
        bulkhead exec box stat -c '%A %s' /srv/sub/file
        bulkhead exec box readlink /srv/link
        bulkhead cp -q box:/srv out && diff -r in out && echo same
        bulkhead cp box:/none . 2>/dev/null || echo missing"#;
    assert_eq!(with("", "sleep 1000", script), "-rw-r----- 6\nsub/file\nsame\nmissing");
}

#[test]
fn a_path_never_leads_out_of_the_container() {
    // A root that is no container's has an /init; so has the guest.
    let script = r#"
        bulkhead exec box sh -c 'mkdir /d; ln -s / /d/up; ln -s ../../../.. /d/rel'
        bulkhead cp box:/d/up/../../../init - 2>/dev/null >/dev/null || echo no init
        echo secret > file; bulkhead cp -q file box:/d/rel/
        bulkhead exec box cat /file
        (mkdir x; cd x; tar -cPf ../t.tar --transform 's,^,../../,' ../file)
        bulkhead cp - box:/d < t.tar 2>/dev/null || echo refused"#;
    assert_eq!(with("", "sleep 1000", script), "no init\nsecret\nrefused");
}

#[test]
fn what_is_mounted_in_a_running_container_is_seen() {
    let script = "bulkhead exec box sh -c 'echo in memory > /tmp/f'; bulkhead cp box:/tmp/f - | tar -xO";
    assert_eq!(with("--tmpfs /tmp", "sleep 1000", script), "in memory");
}

#[test]
fn a_diff_tells_what_was_added_changed_and_deleted_and_nothing_else() {
    let script = r#"
        bulkhead diff box | wc -l
        bulkhead exec box sh -c 'mkdir /new; echo > /new/file; rm /bin/vi; echo x >> /etc/passwd'
        bulkhead diff box"#;
    assert_eq!(with("", "sleep 1000", script), "0\nC /bin\nD /bin/vi\nC /etc/passwd\nA /new\nA /new/file");
}

#[test]
fn an_export_holds_what_the_container_has() {
    let script = r#"
        bulkhead exec box sh -c 'echo mine > /mine; ln /mine /also; rm /bin/vi'
        bulkhead export box > root.tar; mkdir root; tar -xf root.tar -C root
        cat root/mine; stat -c %h root/also; test -e root/bin/vi || echo no vi; root/bin/busybox echo runs"#;
    assert_eq!(with("", "sleep 1000", script), "mine\n2\nno vi\nruns");
}

#[test]
fn a_commit_is_an_image_with_the_changes_and_so_is_one_on_top_of_it() {
    let script = r#"
        bulkhead exec box sh -c 'echo mine > /mine; rm /bin/vi; mkdir /srv; echo > /srv/old'
        bulkhead commit box mine:1 >/dev/null
        bulkhead run --name two mine:1 sh -c 'cat /mine; test -e /bin/vi || echo no vi; rm -r /srv; mkdir /srv; echo > /srv/new'
        bulkhead diff two
        bulkhead commit two mine:2 >/dev/null; bulkhead rm two >/dev/null
        bulkhead run --rm mine:2 sh -c 'cat /mine; ls /srv'
        bulkhead rmi mine:1 mine:2 >/dev/null"#;
    let expected = "mine\nno vi\nC /srv\nA /srv/new\nD /srv/old\nmine\nnew";
    assert_eq!(with("", "sleep 1000", script), expected);
}

#[test]
fn processes_are_shown_as_the_container_sees_them() {
    let both = "until test $(bulkhead top box | wc -l) -eq 3; do sleep 0.1; done; bulkhead top box";
    let shown = with("", "sh -c 'sleep 1000; true'", both);
    let commands: Vec<Vec<&str>> =
        shown.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(commands.len(), 2, "{shown}");
    assert_eq!((commands[0][1], commands[0][2]), ("1", "0"), "{shown}");
    assert_eq!(commands[1][2], "1", "{shown}");
    assert!(shown.contains("sleep 1000"), "{shown}");
}

#[test]
fn an_init_reaps_passes_signals_on_and_ends_as_its_program() {
    assert_eq!(sh("bulkhead run --rm --init $BUSYBOX sh -c 'exit 42'").code, 42);
    assert_eq!(sh("bulkhead run --rm --init $BUSYBOX sh -c 'kill -TERM $$'").code, 143);
    assert_eq!(sh("bulkhead run --rm --init $BUSYBOX nonsense").code, 127);
    assert_eq!(
        output("bulkhead run --rm --init $BUSYBOX sh -c 'tr \"\\0\" \" \" < /proc/1/cmdline; echo $$'"),
        "/sbin/docker-init -- sh -c tr \"\\0\" \" \" < /proc/1/cmdline; echo $$ 2"
    );
    // An orphan that ends is gone: no zombie stays.
    let orphan = "orphan=$(true & echo $!); while test -e /proc/$orphan; do usleep 10000; done; echo reaped";
    assert_eq!(output(&format!("bulkhead run --rm --init $BUSYBOX sh -c '{orphan}'")), "reaped");
    // Signals reach the program, and its answer the host.
    let trap = r#"sh -c 'trap "exit 7" TERM; echo up; while true; do usleep 10000; done'"#;
    let stop = "until bulkhead logs box | grep up >/dev/null; do sleep 0.2; done; bulkhead stop -t 60 box >/dev/null; bulkhead wait box";
    assert_eq!(with("--init", trap, stop), "7");
}

#[test]
fn limits_hold_on_the_host_and_leave_nothing() {
    let script = r#"
        cgroup=$(ls -d /sys/fs/cgroup/bulkhead/*/)
        cat $cgroup/cpu.max $cgroup/cpu.weight
        test $(cat $cgroup/memory.max) -gt $((128 << 20)) && grep -c . $cgroup/cgroup.procs
        bulkhead exec box cat /sys/fs/cgroup/pids.max
        bulkhead rm -f box >/dev/null
        # The VM is given back behind the end.
        while test -e $cgroup; do sleep 0.1; done; echo gone"#;
    let flags = "--cpus 0.5 --cpu-shares 512 --memory 128m --pids-limit 50";
    assert_eq!(with(flags, "sleep 1000", script), "50000 100000\n59\n1\n50\ngone");
}

#[test]
fn too_many_processes_are_refused_by_the_guest() {
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    let finished = sh(&format!("bulkhead run --rm --pids-limit 5 $BUSYBOX sh -c '{forks}'"));
    assert!(finished.stderr.contains("can't fork"), "{finished:?}");
}

#[test]
fn an_out_of_memory_kill_is_told_as_such() {
    let script = "bulkhead wait box; bulkhead inspect --format '{{.State.OOMKilled}}' box";
    assert_eq!(with("--memory 32m", "sh -c 'tail /dev/zero'", script), "137\ntrue");
}
