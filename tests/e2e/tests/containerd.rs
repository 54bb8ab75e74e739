//! Bulkhead as containerd's runtime, through its own client: with Debian's containerd, the one before and the one after.

use bulkhead_e2e::engines::Containerd;
use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{background, output, sh};

const ALL: [Containerd; 3] = [Containerd::Previous, Containerd::Debians, Containerd::Next];

/// What each script begins with: `run` with our runtime, and `$ctr` for the rest.
fn prelude(containerd: Containerd) -> String {
    format!(
        "ctr={}; run() {{ $ctr run --runtime io.containerd.bulkhead.v2 \"$@\"; }}; busybox=localhost/busybox:latest\n",
        containerd.ctr()
    )
}

/// Runs a test's body with each containerd; all that it leaves is told.
fn with_each(body: impl Fn(&dyn Fn(&str) -> String)) {
    for containerd in ALL {
        let daemon = containerd.start("");
        let script = |text: &str| prelude(containerd) + text;
        // The first start makes the template, which stays.
        output(&script("run --rm $busybox first true"));
        let before = snapshot();
        body(&script);
        assert_unchanged(&before, &format!("{containerd:?}"));
        drop(daemon);
    }
}

#[test]
fn a_container_runs_in_a_vm_of_its_own() {
    with_each(|script| {
        let kernel = output(&script("run --rm $busybox kernel uname -r"));
        assert_ne!(kernel, output("uname -r"));
        assert_eq!(output(&script("run --rm $busybox hello echo hello")), "hello");
        // Only once it runs: ctr(8) tells nobody of an end of its input that comes before.
        let late = r#"
            t=$(mktemp -d); mkfifo $t/in
            run --rm $busybox cat sh -c 'echo up; cat' < $t/in > $t/out & exec 3> $t/in
            until grep -q up $t/out; do sleep 0.1; done
            echo in >&3; exec 3>&-; wait $!; cat $t/out; rm -r $t"#;
        assert_eq!(output(&script(late)), "up\nin");
        assert_eq!(sh(&script("run --rm $busybox code sh -c 'exit 42'")).code, 42);
        let apart = sh(&script("run --rm $busybox apart sh -c 'echo out; echo err >&2'"));
        assert_eq!((apart.stdout.as_str(), apart.stderr.as_str()), ("out\n", "err\n"));
    });
}

#[test]
fn what_cannot_be_started_is_told_and_leaves_nothing() {
    with_each(|script| {
        let missing = sh(&script("run --rm $busybox missing /no/such/program"));
        assert_ne!(missing.code, 0);
        assert!(
            missing.stderr.contains("executable file not found") || missing.stderr.contains("no such file"),
            "{}",
            missing.stderr
        );
        let host_network = sh(&script("run --rm --net-host $busybox hosts true"));
        assert!(host_network.stderr.contains("network"), "{}", host_network.stderr);
        let socket = "run --rm --mount type=bind,src=/run/containerd/containerd.sock,dst=/sock,options=rbind $busybox socket true";
        let socket = sh(&script(socket));
        assert!(socket.stderr.contains("is a socket"), "{}", socket.stderr);
        let nowhere = sh(&script("run --rm --with-ns network:/no/such $busybox nowhere true"));
        assert!(nowhere.stderr.contains("/no/such"), "{}", nowhere.stderr);
        let none = sh(&script("run --rm --with-ns network:/etc/passwd $busybox none true"));
        assert!(none.stderr.contains("/etc/passwd"), "{}", none.stderr);
        output(&script("$ctr container ls -q | xargs -r $ctr container rm"));
    });
}

#[test]
fn a_task_is_listed_entered_paused_and_killed() {
    with_each(|script| {
        output(&script(
            "run -d $busybox task sh -c 'echo up; trap \"exit 7\" TERM; while :; do sleep 0.1; done'",
        ));
        let listed = output(&script("$ctr task ls | grep ^task"));
        assert!(listed.ends_with("RUNNING"), "{listed}");
        assert_eq!(output(&script("$ctr task exec --exec-id e1 task echo inside")), "inside");
        // Its id is free again.
        assert_eq!(sh(&script("$ctr task exec --exec-id e1 task sh -c 'exit 5'")).code, 5);
        output(&script("$ctr task pause task"));
        assert!(output(&script("$ctr task ls | grep ^task")).ends_with("PAUSED"));
        output(&script("$ctr task resume task"));
        assert!(output(&script("$ctr task ps task")).lines().count() >= 2);
        let metrics = output(&script("$ctr task metrics task"));
        assert!(metrics.contains("memory"), "{metrics}");
        output(&script(
            "$ctr task kill -s TERM task; while $ctr task ls | grep -q 'task.*RUNNING'; do sleep 0.1; done",
        ));
        let deleted = sh(&script("$ctr task delete task"));
        assert!(deleted.stderr.contains('7'), "{}", deleted.stderr);
        output(&script("$ctr container rm task"));
    });
}

#[test]
fn users_have_the_rights_that_containerd_gives_them() {
    with_each(|script| {
        let mapped = "run --rm --uidmap 0:1000:65536 --gidmap 0:2000:65536 $busybox mapped \
             sh -c 'id -u; tr -s \" \" < /proc/self/uid_map; [ -e /sys/class/net/lo ] && echo sees; touch /sys/fs/cgroup/x'";
        let mapped = sh(&script(mapped));
        assert_eq!(mapped.stdout, "0\n 0 1000 65536\nsees\n", "{}", mapped.stderr);
        output(&script("run -d $busybox ports sleep 1000"));
        let low = sh(&script("$ctr task exec --exec-id low --user 1000 ports nc -l -p 80"));
        assert_eq!((low.code, low.stderr.contains("Permission denied")), (1, true), "{}", low.stderr);
        output(&script("$ctr task rm -f ports; $ctr container rm ports"));
    });
}

#[test]
fn events_come_once_and_in_order() {
    with_each(|script| {
        let ctr = output(&script("echo $ctr"));
        let mut events = background(&format!("bash -c 'echo listening; exec {ctr} events'"));
        output(&script("sleep 3; run --rm $busybox told true"));
        let mut topics = Vec::new();
        while topics.last().map(String::as_str) != Some("/tasks/delete") {
            let line = events.line();
            assert_ne!(line, "", "events ended: {topics:?}");
            topics
                .extend(line.split_whitespace().find(|word| word.starts_with("/tasks/")).map(str::to_owned));
        }
        assert_eq!(topics, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    });
}

#[test]
fn files_written_are_the_snapshots() {
    with_each(|script| {
        output(&script("run $busybox written sh -c 'echo kept > /kept'"));
        let mounted = "t=$(mktemp -d); $ctr snapshot mounts $t written | sh; cat $t/kept; umount $t; rmdir $t; $ctr container rm written";
        assert_eq!(output(&script(mounted)), "kept");
    });
}

#[test]
fn directories_and_files_of_the_host_are_shared() {
    with_each(|script| {
        let shared = r#"
            t=$(mktemp -d); echo from the host > $t/file; mkdir $t/dir; chown 1234:55 $t/file
            bind=type=bind,options=rbind
            run --rm --mount $bind:rw,src=$t/dir,dst=/dir --mount $bind:ro,src=$t/file,dst=/etc/one $busybox shared \
                sh -c 'cat /etc/one; stat -c %u:%g /etc/one; echo back > /dir/made; echo no > /etc/one || echo refused' 2>/dev/null
            cat $t/dir/made; rm -r $t"#;
        assert_eq!(output(&script(shared)), "from the host\n1234:55\nrefused\nback");
    });
}
