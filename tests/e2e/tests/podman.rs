//! `podman --runtime bulkhead-oci` and `buildah build`, which speak runc's command line to it.

use bulkhead_e2e::engines::podman_images;
use bulkhead_e2e::shell::{output, sh};
use bulkhead_e2e::terminal::Terminal;

/// With the runtime, which podman looks for on its PATH.
fn podman(arguments: &str) -> String {
    format!("podman --runtime $(command -v bulkhead-oci) {arguments}")
}

#[test]
fn podman_run_and_its_kin() {
    podman_images();
    assert_eq!(output(&podman("run --rm busybox echo hello")), "hello");
    assert_ne!(output(&podman("run --rm busybox uname -r")), output("uname -r"));
    assert_eq!(sh(&podman("run --rm busybox sh -c 'exit 42'")).code, 42);
    assert_eq!(sh(&podman("run --rm busybox no-such-program")).code, 127);
    assert_eq!(sh(&podman("run --rm busybox /etc/passwd")).code, 126);
    assert_eq!(output(&format!("echo in | {}", podman("run -i --rm busybox cat"))), "in");
    assert_eq!(output(&podman("run --rm --network none busybox ls /sys/class/net")), "lo");
    let host = sh(&podman("run --rm --network host busybox true"));
    assert!(host.code != 0 && host.stderr.contains("network"), "{}", host.stderr);
    let host = sh(&podman("run --rm --pid host busybox true"));
    assert!(host.code != 0 && host.stderr.contains("PID namespace"), "{}", host.stderr);
}

#[test]
fn the_containers_of_a_podman_pod_are_in_one_vm() {
    podman_images();
    output(&podman(
        "pod create --name pod --share net,ipc,uts,pid --network none --infra-image busybox --infra-command 'sleep 1000000'",
    ));
    let started = |name: &str, mark: u32| {
        let script = format!("trap 'exit 7' TERM; sleep {mark} & while :; do sleep 0.1; done");
        output(&podman(&format!("run -d --pod pod --name {name} busybox sh -c \"{script}\"")));
    };
    started("first", 1_000_001);
    started("second", 1_000_002);
    assert_eq!(output("pgrep -c bulkhead-vmm"), "1");
    let seen = output(&podman("exec first ps -o args"));
    assert!(seen.starts_with("COMMAND\nsleep 1000000\n") && seen.contains("sleep 1000002"), "{seen}");
    output(&podman("stop -t 60 first"));
    assert_eq!(output("podman inspect -f '{{.State.ExitCode}}' first"), "7");
    let left = output(&podman("exec second ps -o args"));
    assert!(!left.contains("sleep 1000001") && left.contains("sleep 1000002"), "{left}");
    output(&podman("pod rm -f -t 1 pod"));
    assert_eq!(sh("pgrep bulkhead-vmm").code, 1);
}

#[test]
fn a_podman_container_lives_and_is_looked_into() {
    podman_images();
    output(&podman(
        "run -d --name web -p 8081:80 busybox sh -c 'mkdir -p /www; echo page > /www/index.html; echo started; exec httpd -f -h /www -p 80'",
    ));
    output("for i in $(seq 100); do curl -sf http://127.0.0.1:8081/ && exit; sleep 0.2; done; exit 1");
    assert_eq!(output(&podman("logs web")), "started");
    assert_eq!(output(&podman("exec web cat /www/index.html")), "page");
    assert_eq!(sh(&podman("exec web sh -c 'exit 5'")).code, 5);
    let runtime = output("command -v bulkhead-oci");
    let mut terminal = Terminal::new(30, 100);
    terminal.run(&[
        "podman",
        "--runtime",
        &runtime,
        "exec",
        "-it",
        "web",
        "sh",
        "-c",
        "stty size; tty; exit 3",
    ]);
    terminal.expect("30 100\r\n");
    assert_eq!(terminal.wait(), 3);
    output(&podman("pause web"));
    output(&podman("unpause web"));
    assert_eq!(output(&podman("stop -t 3 web")), "web");
    assert_eq!(output(&podman("inspect -f '{{.State.Status}}' web")), "exited");
    output(&podman("rm -f web"));
}

#[test]
fn a_dockerfile_is_built_each_step_in_a_vm() {
    let build = r#"
        set -e; t=$(mktemp -d); cd $t
        printf 'FROM docker.io/library/busybox:latest\nRUN uname -r > /kernel\nRUN cat /kernel > /again\n' > Dockerfile
        buildah build -q --pull=never --runtime $(command -v bulkhead-oci) -t built . >/dev/null
        podman run --rm built cat /again"#;
    podman_images();
    assert_ne!(output(build), output("uname -r"));
}
