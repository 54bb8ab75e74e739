//! A run as its user sees it: output, exit codes, streams, signals, terminal, and the image's and user's wishes.

use bulkhead_e2e::images::images;
use bulkhead_e2e::shell::{background, output, sh};
use bulkhead_e2e::terminal::Terminal;

#[test]
fn an_image_of_any_kind_runs() {
    assert_eq!(output("bulkhead run --rm $BUSYBOX echo from an archive"), "from an archive");
    let layout = images().busybox_layout.display();
    assert_eq!(output(&format!("bulkhead run --rm {layout}:latest echo from a layout")), "from a layout");
    let oci_archive = "skopeo --insecure-policy copy -q docker-archive:$BUSYBOX oci-archive:$t/image.tar:it";
    assert_eq!(
        output(&format!(
            "t=$(mktemp -d); {oci_archive} && bulkhead run --rm $t/image.tar:it echo and another; rm -r $t"
        )),
        "and another"
    );
}

#[test]
fn an_image_made_by_buildah_runs_with_its_own_settings() {
    let made = r#"
        set -e; t=$(mktemp -d); cd $t
        export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
        image=$(buildah from docker-archive:$BUSYBOX)
        buildah config --user web --workingdir /srv --env COLOUR=blue \
            --entrypoint '["sh","-c","id -u; pwd; echo $COLOUR $FROM"]' --cmd unused $image
        buildah commit -q $image docker-archive:$t/own.tar:own:1 >/dev/null
        buildah rm $image >/dev/null
        bulkhead run --rm own.tar
        bulkhead run --rm -u 5:6 -w /tmp -e COLOUR=red --entrypoint sh own.tar -c 'id; pwd; echo $COLOUR'
        rm -r $t"#;
    assert_eq!(output(made), "1234\n/srv\nblue image\nuid=5 gid=6 groups=6\n/tmp\nred");
}

#[test]
fn python_of_debian_computes() {
    assert_eq!(
        output("bulkhead run --rm $PYTHON python3 -c 'print(2**100)'"),
        "1267650600228229401496703205376"
    );
}

#[test]
fn a_file_may_be_larger_than_the_memory() {
    let write = "dd if=/dev/zero of=/big bs=1M count=1024 2>/dev/null && sync && stat -c %s /big";
    assert_eq!(output(&format!("bulkhead run --rm -m 256m $BUSYBOX sh -c '{write}'")), "1073741824");
}

#[test]
fn a_hundred_megabytes_pass_through_whole() {
    let pass = "head -c 100000000 /dev/urandom > $t; bulkhead run --rm -i $BUSYBOX cat < $t | cmp - $t";
    output(&format!("set -eo pipefail; t=$(mktemp); trap 'rm $t' EXIT; {pass}"));
}

#[test]
fn exit_codes_are_exact() {
    for (command, code) in [
        ("true", 0),
        ("sh -c 'exit 42'", 42),
        // The container's first process is safe from itself (pid_namespaces(7)); its child is not.
        ("sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'", 137),
        ("no-such-program", 127),
        ("/no/such/program", 127),
        ("/etc/passwd", 126),
        ("/etc", 126),
    ] {
        assert_eq!(sh(&format!("bulkhead run --rm $BUSYBOX {command}")).code, code, "{command}");
    }
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let run = sh("bulkhead run --rm $BUSYBOX sh -c 'echo out; echo err >&2'");
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn stdin_is_passed_only_when_asked_for() {
    assert_eq!(output("echo hello | bulkhead run --rm -i $BUSYBOX cat"), "hello");
    assert_eq!(output("echo hello | bulkhead run --rm $BUSYBOX cat"), "");
}

#[test]
fn a_reader_that_leaves_ends_the_writer() {
    assert_eq!(output("bulkhead run --rm $BUSYBOX yes | head -n 1"), "y");
}

/// The command a user waits for, as pgrep(1) finds it; not the shell that runs it.
const CLIENT: &str = "-x -f 'bulkhead run .*'";

#[test]
fn signals_reach_the_command() {
    for (signal, code) in [("TERM", 9), ("INT", 8), ("USR1", 7)] {
        let traps = "trap \"exit 9\" TERM; trap \"exit 8\" INT; trap \"exit 7\" USR1";
        let run = background(&format!(
            "bulkhead run --rm --name signalled $BUSYBOX sh -c '{traps}; echo up; while :; do sleep 0.1; done'"
        ));
        output(&format!("pkill -{signal} {CLIENT}"));
        assert_eq!(run.wait(), code, "{signal}");
    }
}

#[test]
fn the_stop_signal_takes_the_place_of_sigterm() {
    let run = background(
        "bulkhead run --rm --stop-signal QUIT $BUSYBOX sh -c 'trap \"exit 6\" QUIT; echo up; while :; do sleep 0.1; done'",
    );
    output(&format!("pkill -TERM {CLIENT}"));
    assert_eq!(run.wait(), 6);
}

#[test]
fn a_signal_during_the_start_ends_the_run() {
    for delay in [5, 50, 150, 400, 1000] {
        // When it comes so late that it is passed on to sleep, which as process 1 ignores it, another must follow.
        let script = "bulkhead run --rm --name early$$ $BUSYBOX sleep 1000 & run=$!; sleep $DELAY; kill -TERM $run
            passed_on() { bulkhead events --since 1h --until 0s --filter container=early$$ --filter event=kill | grep -q .; }
            while kill -0 $run; do ! passed_on || bulkhead kill early$$; sleep 0.3; done 2>/dev/null; wait $run";
        let run = sh(&script.replace("$DELAY", &format!("{}", f64::from(delay) / 1000.0)));
        // By the signal itself or by Bulkhead; or by the other.
        assert!([143, 137].contains(&run.code), "{delay} ms: {}", run.code);
    }
    assert_eq!(output("bulkhead ps -q"), "");
}

#[test]
fn a_terminal_is_one_and_follows_its_size() {
    let busybox = images().busybox.to_str().expect("a path");
    let script = "trap 'stty size' WINCH; trap 'exit 7' INT; stty size; tty; while :; do sleep 0.1; done";
    let mut terminal = Terminal::new(30, 100);
    let before = terminal.settings();
    terminal.run(&["bulkhead", "run", "--rm", "-it", busybox, "sh", "-c", script]);
    terminal.expect("30 100\r\n");
    terminal.expect("/dev/pts/0\r\n");
    terminal.resize(50, 132);
    terminal.expect("50 132\r\n");
    terminal.press("\x03");
    assert_eq!(terminal.wait(), 7);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn the_users_terminal_is_given_back_when_bulkhead_is_ended() {
    let busybox = images().busybox.to_str().expect("a path");
    let mut terminal = Terminal::new(24, 80);
    let before = terminal.settings();
    terminal.run(&[
        "bulkhead",
        "run",
        "--rm",
        "-it",
        "--name",
        "at-terminal",
        busybox,
        "sh",
        "-c",
        "echo up; exec sleep 1000",
    ]);
    terminal.expect("up\r\n");
    assert_ne!(terminal.settings(), before);
    output("bulkhead kill at-terminal");
    assert_eq!(terminal.wait(), 137);
    assert_eq!(terminal.settings(), before);
}

#[test]
fn interactive_with_a_terminal_wants_one() {
    let run = sh("bulkhead run --rm -it $BUSYBOX true");
    assert_eq!(run.code, 125);
    assert!(run.stderr.contains("the input device is not a TTY"), "{}", run.stderr);
}

#[test]
fn the_users_wishes_hold() {
    let run = |options: &str, script: &str| {
        output(&format!("bulkhead run --rm {options} $BUSYBOX sh -c '{script}'"))
    };
    assert_eq!(
        run("-h box", "hostname; cat /etc/hostname; ping -c 1 -W 60 box >/dev/null && echo known"),
        "box\nbox\nknown"
    );
    assert_eq!(run("-w /tmp", "pwd"), "/tmp");
    assert_eq!(run("-w /made/for/it", "pwd"), "/made/for/it");
    assert_eq!(run("-e A=1 -e FROM=user", "echo $A $FROM $PATH"), "1 user /bin");
    assert_eq!(run("-u web", "id"), "uid=1234(web) gid=1234(web) groups=77(extra),1234(web)");
    assert_eq!(run("--ulimit nofile=100:200", "ulimit -n; ulimit -Hn"), "100\n200");
    assert_eq!(run("--read-only", "touch /x 2>/dev/null || echo refused"), "refused");
    assert_eq!(run("--read-only --tmpfs /tmp:size=1m", "touch /tmp/x && echo written"), "written");
    let environment = "env -i PATH=$PATH OUTER=o bulkhead run --rm -e OUTER --env-file <(echo B=file) $BUSYBOX sh -c 'echo $OUTER $B'";
    assert_eq!(output(environment), "o file");
}

#[test]
fn a_timeline_is_printed_on_stderr() {
    let run = sh("bulkhead run --rm --timing=json $BUSYBOX echo hello");
    assert_eq!(run.stdout, "hello\n");
    let timing: serde_json::Value = serde_json::from_str(run.stderr.trim_end()).expect("JSON");
    let steps: Vec<_> =
        timing["steps"].as_array().expect("steps").iter().map(|step| step["step"].as_str()).collect();
    for step in [
        "container made",
        "supervisor started",
        "VMM spawned",
        "agent ready",
        "command started",
        "command ended",
    ] {
        assert!(steps.contains(&Some(step)), "{steps:?}");
    }
    assert!(timing["kvm_exits"].as_object().expect("exits").values().any(|count| count.as_u64() > Some(0)));
}

#[test]
fn a_container_that_wants_too_much_memory_is_told_so() {
    let run = sh("bulkhead run --rm -m 32m $BUSYBOX sh -c 'tail /dev/zero; exit $?'");
    assert_eq!(run.code, 137);
    assert!(run.stderr.contains("ran out of its 32 MiB of memory"), "{}", run.stderr);
}

#[test]
fn a_running_sandbox_is_listed_entered_and_killed() {
    let run = background(
        "bulkhead run --rm --name web -e A=of-container $BUSYBOX sh -c 'echo up; exec sleep 1000'",
    );
    assert_eq!(output("bulkhead ps --format '{{.Names}} {{.State}}'"), "web running");
    assert_eq!(output("bulkhead exec web sh -c 'echo $A; ps | grep -c [s]leep'"), "of-container\n1");
    assert_eq!(
        output("echo in | bulkhead exec -i -e A=own -w /tmp -u web web sh -c 'cat; echo $A; pwd; id -u'"),
        "in\nown\n/tmp\n1234"
    );
    assert_eq!(output("bulkhead exec web grep Seccomp: /proc/self/status"), "Seccomp:\t2");
    assert_eq!(sh("bulkhead exec web sh -c 'exit 5'").code, 5);
    assert_eq!(sh("bulkhead exec web no-such-program").code, 127);
    assert_eq!(output("id=$(bulkhead ps -q); bulkhead kill ${id:0:6} >/dev/null; echo $id | wc -c"), "13");
    assert_eq!(run.wait(), 137);
    assert_eq!(sh("bulkhead exec web true").code, 125);
}

#[test]
fn names_are_unique() {
    let run = background("bulkhead run --rm --name only $BUSYBOX sh -c 'echo up; exec sleep 1000'");
    let second = sh("bulkhead run --rm --name only $BUSYBOX true");
    assert_eq!(second.code, 125);
    assert!(second.stderr.contains("already in use"), "{}", second.stderr);
    output("bulkhead kill only");
    assert_eq!(run.wait(), 137);
}
