//! `docker --runtime bulkhead`, on Debian's Docker.

use bulkhead_e2e::engines::{Containerd, Daemon, docker};
use bulkhead_e2e::shell::{output, sh};
use bulkhead_e2e::terminal::Terminal;

/// Docker finds a containerd that runs.
fn engine() -> (Daemon, Daemon) {
    let containerd = Containerd::Debians.start("");
    (containerd, docker())
}

#[test]
fn docker_run_and_its_kin() {
    let _engine = engine();
    assert_eq!(output("docker run --rm --runtime bulkhead busybox echo hello"), "hello");
    assert_ne!(output("docker run --rm --runtime bulkhead busybox uname -r"), output("uname -r"));
    assert_eq!(sh("docker run --rm --runtime bulkhead busybox sh -c 'exit 42'").code, 42);
    assert_eq!(sh("docker run --rm --runtime bulkhead busybox no-such-program").code, 127);
    assert_eq!(sh("docker run --rm --runtime bulkhead busybox /etc/passwd").code, 126);
    assert_eq!(output("echo in | docker run -i --rm --runtime bulkhead busybox cat"), "in");
    assert_eq!(
        output(
            "docker run --rm --runtime bulkhead -u 5:6 -w /tmp -e A=b busybox sh -c 'id -u; pwd; echo $A'"
        ),
        "5\n/tmp\nb"
    );
    let host = sh("docker run --rm --runtime bulkhead --network host busybox true");
    assert!(host.code != 0 && host.stderr.contains("network"), "{}", host.stderr);
    let host = sh("docker run --rm --runtime bulkhead --pid host busybox true");
    assert!(host.code != 0 && host.stderr.contains("PID namespace"), "{}", host.stderr);
    assert_eq!(output("docker run --rm --runtime bulkhead --network none busybox ls /sys/class/net"), "lo");
}

#[test]
fn a_network_has_queues_for_all_vcpus_and_the_limits_asked_for() {
    let _engine = engine();
    let limits = "--annotation dev.bulkhead.network.egress-bandwidth=80M --annotation dev.bulkhead.network.ingress-packets=1000";
    let queues = output(&format!(
        "docker run --rm --runtime bulkhead --cpus 2 {limits} busybox sh -c \
         'ping -c 3 -W 60 172.17.0.1 > /dev/null && ls /sys/class/net/eth0/queues'"
    ));
    assert_eq!(queues, "rx-0\nrx-1\ntx-0\ntx-1");
    let wrong = "docker run --rm --runtime bulkhead --annotation dev.bulkhead.network.egress-bandwidth=fast busybox true";
    let wrong = sh(wrong);
    assert!(wrong.stderr.contains("\"fast\" is no rate"), "{}", wrong.stderr);
}

#[test]
fn a_docker_container_lives_and_is_looked_into() {
    let _engine = engine();
    output(
        "docker run -d --name web --runtime bulkhead -p 8080:80 busybox sh -c \
        'mkdir -p /www; echo page > /www/index.html; echo started; exec httpd -f -h /www -p 80'",
    );
    output("for i in $(seq 100); do curl -sf http://127.0.0.1:8080/ && exit; sleep 0.2; done; exit 1");
    // From outside: another network namespace, with this machine as its router.
    let outside = r#"
        ip netns add outside; ip link add out0 type veth peer name eth0 netns outside
        ip addr add 10.99.0.1/24 dev out0; ip link set out0 up
        ip -n outside addr add 10.99.0.2/24 dev eth0; ip -n outside link set eth0 up
        ip netns exec outside curl -sf http://10.99.0.1:8080/; ip netns del outside"#;
    assert_eq!(output(outside), "page");
    assert_eq!(output("docker logs web"), "started");
    assert_eq!(output("docker exec web cat /www/index.html"), "page");
    let mut terminal = Terminal::new(30, 100);
    terminal.run(&["docker", "exec", "-it", "web", "sh", "-c", "stty size; tty; exit 3"]);
    terminal.expect("30 100\r\n");
    assert_eq!(terminal.wait(), 3);
    assert_eq!(
        output(
            "echo copied > /tmp/copied; docker cp -q /tmp/copied web:/www/copied; sleep 1.5; curl -s http://127.0.0.1:8080/copied"
        ),
        "copied"
    );
    assert_eq!(output("docker cp -q web:/www/index.html /tmp/page; cat /tmp/page"), "page");
    assert!(output("docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' web").contains("MiB"));
    assert!(output("docker top web").lines().count() >= 2);
    let beside = sh("docker run --rm --runtime bulkhead --pid container:web busybox true");
    assert!(beside.code != 0 && beside.stderr.contains("the same VM"), "{}", beside.stderr);
    output("docker pause web && docker unpause web");
    assert_eq!(
        output(
            "docker commit web committed >/dev/null; docker run --rm --runtime bulkhead committed cat /www/copied"
        ),
        "copied"
    );
    output("docker stop -t 3 web");
    assert_eq!(output("docker inspect -f '{{.State.Status}}' web"), "exited");
    assert_eq!(
        output(
            "docker start web >/dev/null; docker inspect -f '{{.State.Status}}' web; docker rm -f web >/dev/null"
        ),
        "running"
    );
}

#[test]
fn a_limit_that_is_raised_can_be_used() {
    const MIB: u64 = 1 << 20;
    let _engine = engine();
    output(
        "docker run -d --name small --runtime bulkhead --memory 64m --memory-swap 64m busybox sleep 1000000",
    );
    // All of it is in the memory of one process.
    let hold = "docker exec small sh -c 'head -c 209715200 /dev/zero | tail -c 209715200 | wc -c'";
    assert_ne!(sh(hold).stdout.trim(), "209715200");
    let limit = || {
        let cgroup = "/sys/fs/cgroup$(sed 's/^0:://' /proc/$(pgrep -n bulkhead-vmm)/cgroup)";
        output(&format!("cat {cgroup}/memory.max")).parse::<u64>().expect("a limit") / MIB
    };
    let launched = limit();
    output("docker update --memory 512m --memory-swap 512m small");
    assert!(limit() >= launched + 448, "{} MiB", limit());
    assert_eq!(output(hold), "209715200");
    output("docker update --memory 64m --memory-swap 64m small");
    assert!(limit() < launched + 448, "{} MiB", limit());
    let refused = sh("docker update --memory 900g --memory-swap 900g small");
    assert!(
        refused.code != 0 && refused.stderr.contains("more than the VM can grow to"),
        "{}",
        refused.stderr
    );
    assert_eq!(output("docker exec small cat /sys/fs/cgroup/memory.max"), (64 * MIB).to_string());
    output("docker rm -f small");
}

/// On a machine with two processors.
#[test]
fn more_processors_can_be_used() {
    let _engine = engine();
    output("docker run -d --name slow --runtime bulkhead --cpus 1 busybox sh -c 'while :; do :; done'");
    let inside = |script: &str| output(&format!("docker exec slow sh -c '{script}'"));
    assert_eq!(inside("nproc"), "1");
    output("docker update --cpus 2 slow");
    assert_eq!(
        inside("nproc; grep -c ^processor /proc/cpuinfo; cat /sys/fs/cgroup/cpu.max"),
        "2\n2\n200000 100000"
    );
    let busy = "awk \"/^cpu[01]/ { print \\$2 }\" /proc/stat";
    let both = format!(
        "while :; do :; done & until {busy} | sort -n | head -n 1 | grep -q ...; do sleep 0.1; done; kill $!"
    );
    inside(&both);
    output("docker update --cpus 1 slow");
    assert_eq!(inside("nproc; cat /sys/fs/cgroup/cpu.max"), "2\n100000 100000");
    output("docker update --cpus 2 slow; docker rm -f slow");
}

#[test]
fn devices_are_opened_as_the_rules_allow() {
    let _engine = engine();
    let opened = |rules: &str, number: &str| {
        output(&format!(
            "docker run --rm --runtime bulkhead {rules} busybox sh -c \
            'mknod /dev/node c {number} && (: > /dev/node) 2>&1 && echo opened' | sed 's/.*: //'"
        ))
    };
    let (kmsg, fuse) = ("1 11", "10 229");
    assert_eq!(opened("", kmsg), "Operation not permitted");
    assert_eq!(opened("", fuse), "Operation not permitted");
    assert_eq!(opened("--device-cgroup-rule 'c 10:229 rwm'", fuse), "opened");
    assert_eq!(opened("--device-cgroup-rule 'c 10:229 rwm'", kmsg), "Operation not permitted");
    assert_eq!(opened("--device-cgroup-rule 'a *:* rwm'", kmsg), "opened");
}

#[test]
fn images_are_built_and_services_composed() {
    let _engine = engine();
    let build = r#"
        set -e; t=$(mktemp -d); cd $t
        printf 'FROM busybox\nRUN mkdir -p /www && uname -r > /www/kernel\nRUN echo built > /www/index.html\nCMD ["httpd","-f","-h","/www","-p","80"]\n' > Dockerfile
        sed -i 's/^{/{"default-runtime": "bulkhead", /' /etc/docker/daemon.json
        pkill -HUP dockerd; sleep 1
        DOCKER_BUILDKIT=0 docker build -q -t site . >/dev/null
        docker run --rm site cat /www/kernel
        cat > compose.yaml <<'Y'
services:
  web: {image: site, runtime: bulkhead}
  client:
    image: busybox
    runtime: bulkhead
    depends_on: [web]
    command: sh -c 'for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://web/ && exit; sleep 1; done; exit 1'
Y
        docker compose up --abort-on-container-exit --exit-code-from client 2>/dev/null | grep -o built
        docker compose down >/dev/null 2>&1"#;
    let built = output(build);
    let lines: Vec<_> = built.lines().collect();
    assert_ne!(lines.first().copied(), Some(output("uname -r").as_str()));
    assert_eq!(lines.last().copied(), Some("built"));
}
