//! Pods, as Kubernetes makes them: through the CRI plug-in of Debian's containerd and of the next one. With runc
//! for a handler (BULKHEAD_CRI_HANDLER) it passes, too: what runc does not pass is the suite's mistake.

// What cannot be set up, or is not told, fails the test that needs it.
#![allow(clippy::expect_used)]

use bulkhead_e2e::cri::messages::{
    ContainerState, LinuxContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext,
    ListContainersRequest, ListPodSandboxRequest, ListPodSandboxStatsRequest, Mount, NamespaceMode,
    NamespaceOption, PodSandboxState, StopContainerRequest,
};
use bulkhead_e2e::cri::node::Node;
use bulkhead_e2e::cri::pod::{Container, Pod, SYSCTLS};
use bulkhead_e2e::engines::Containerd;
use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{output, sh};

/// Which runtime the pods are of, to ask the same of runc.
const HANDLER_VARIABLE: &str = "BULKHEAD_CRI_HANDLER";

type Body = fn(&Node, &Pod);

/// What is asked, each of a pod of its own.
const BODIES: [(&str, Body); 9] = [
    ("network and volumes", containers_of_a_pod_share_its_network_and_volumes),
    ("a host of its own", a_pod_is_a_host_of_its_own),
    ("processes", processes_are_shared_with_whom_they_are_to_be),
    ("streams", commands_run_in_containers_with_their_streams),
    ("logs and stats", logs_are_kept_and_stats_told),
    ("updates", resources_are_updated_while_running),
    ("ports", ports_are_forwarded),
    ("stop of containers", containers_are_stopped_with_grace_and_removed),
    ("stop of the pod", a_pod_is_stopped_and_removed_with_all_that_is_in_it),
];

#[test]
fn pods_of_debians_containerd() {
    pods_of(Containerd::Debians, "bulkhead", |_| true);
}

#[test]
fn pods_of_the_next_containerd() {
    // Here the host's kernel carries their packets, where it has that; above, in the lab, it does not.
    sh("modprobe vhost_net");
    // What goes by the guest's agent alone is the same.
    let agents = ["streams", "logs and stats", "updates"];
    pods_of(Containerd::Next, "bulkhead", |what| !agents.contains(&what));
}

#[test]
fn pods_of_the_sandbox_api() {
    // What is different: how a pod comes and goes. (Of its /etc/hosts and their kin, the CRI makes nothing.)
    let coming_and_going = ["network and volumes", "stop of containers", "stop of the pod"];
    pods_of(Containerd::Next, "sandboxed", |what| coming_and_going.contains(&what));
}

const PORT: i32 = 8080;

/// Serves a page on all of the pod's addresses.
const SERVER: &str = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";

/// Asks all of it on one node; what a pod leaves is told.
fn pods_of(containerd: Containerd, handler: &str, is_asked: impl Fn(&str) -> bool) {
    let handler = std::env::var(HANDLER_VARIABLE).unwrap_or_else(|_| handler.to_owned());
    let node = Node::start(containerd);
    // The first makes what stays: the template, the bridge, the cgroup of pods.
    let first = Pod::run(&node.cri, &handler, "first", PORT);
    first.stop();
    first.remove();
    let before = snapshot();
    for (what, body) in BODIES.into_iter().filter(|(what, _)| is_asked(what)) {
        println!("{what}");
        let pod = Pod::run(&node.cri, &handler, "pod", PORT);
        body(&node, &pod);
        pod.stop();
        pod.remove();
        assert_unchanged(&before, what);
    }
}

fn sleeper<'pod>(pod: &'pod Pod, name: &str) -> Container<'pod> {
    pod.start(pod.container(name, "trap exit TERM; while :; do sleep 0.1; done"))
}

fn containers_of_a_pod_share_its_network_and_volumes(_: &Node, pod: &Pod) {
    let volume = pod.directory.join("volume");
    std::fs::create_dir(&volume).expect("a volume");
    std::fs::write(volume.join("from-host"), "host").expect("a file");
    let with_volume = |name: &str, script: &str, readonly: bool| {
        let mut config = pod.container(name, script);
        config.mounts.push(Mount {
            container_path: "/volume".to_owned(),
            host_path: volume.display().to_string(),
            readonly,
        });
        pod.start(config)
    };
    let server = with_volume("server", SERVER, false);
    let client = with_volume("client", "sleep 1000000", true);
    let third = sleeper(pod, "third");

    let fetch = "until wget -qO- http://127.0.0.1/; do sleep 0.2; done 2>/dev/null";
    assert_eq!(client.output(fetch), "served");
    assert_eq!(third.output(fetch), "served");
    let addresses = "ip -o addr show dev eth0 scope global | awk '{ print $4 }'";
    assert_eq!(server.output(addresses), client.output(addresses));
    assert!(client.output(addresses).contains(&pod.ip()));

    server.output("echo written > /volume/from-server; chown 1234:77 /volume/from-server");
    assert_eq!(
        client.output("cat /volume/from-host /volume/from-server; stat -c %u:%g /volume/from-server"),
        "hostwritten\n1234:77"
    );
    assert_eq!(std::fs::read_to_string(volume.join("from-server")).expect("a file"), "written\n");
    std::fs::write(volume.join("later"), "later").expect("a file");
    assert_eq!(client.output("cat /volume/later"), "later");
    assert_ne!(client.sh("echo no > /volume/refused").code, 0);
    assert!(!volume.join("refused").exists());

    // Their file systems and processes are their own.
    assert_ne!(client.sh("ls /www").code, 0);
    assert_ne!(client.sh("ps | grep -v grep | grep httpd").code, 0);
}

fn a_pod_is_a_host_of_its_own(_: &Node, pod: &Pod) {
    let server = pod.start(pod.container("server", SERVER));
    let network = pod.status().network.expect("a network");
    let fetch = |address: &str| {
        output(&format!("curl -s --retry 100 --retry-connrefused --retry-delay 1 'http://{address}/'"))
    };
    assert_eq!(fetch(&network.ip), "served");
    assert_eq!(network.additional_ips.len(), 1);
    assert_eq!(fetch(&format!("[{}]", network.additional_ips[0].ip)), "served");
    assert_eq!(fetch(&format!("127.0.0.1:{PORT}")), "served");

    for (name, value) in SYSCTLS {
        assert_eq!(server.output(&format!("cat /proc/sys/{}", name.replace('.', "/"))), value, "{name}");
    }
    assert_eq!(server.output("hostname"), "pod");
    assert_eq!(server.output("cat /etc/hostname"), "pod");
    assert_eq!(server.output("cat /etc/resolv.conf"), "search cluster.local\nnameserver 10.77.0.53");
    assert_eq!(server.output("ip route | grep ^default").trim_end(), "default via 10.77.0.1 dev eth0");
    assert_eq!(server.output("ping -c 1 -W 60 10.77.0.1 >/dev/null && echo answered"), "answered");

    let other = Pod::run(pod.cri(), &pod.status().runtime_handler, "other", 8081);
    let client = sleeper(&other, "client");
    assert_eq!(client.output(&format!("wget -qO- http://{}/", network.ip)), "served");
    assert_ne!(client.sh("wget -qO- http://127.0.0.1/").code, 0);
    other.stop();
    other.remove();
}

fn processes_are_shared_with_whom_they_are_to_be(_: &Node, pod: &Pod) {
    let with_pids = |name: &str, script: &str, pid: NamespaceMode, target: &str| {
        let mut config = pod.container(name, script);
        let namespaces =
            NamespaceOption { pid: pid.into(), target_id: target.to_owned(), ..Default::default() };
        config.linux = Some(LinuxContainerConfig {
            security_context: Some(LinuxContainerSecurityContext { namespace_options: Some(namespaces) }),
            ..Default::default()
        });
        pod.start(config)
    };
    let seen = |container: &Container| container.output("ps -o args");
    let forking = |mark: u32| format!("trap 'exit 7' TERM; sleep {mark} & while :; do sleep 0.1; done");

    // All of a pod.
    let first = with_pids("first", &forking(1_000_001), NamespaceMode::Pod, "");
    let second = with_pids("second", &forking(1_000_002), NamespaceMode::Pod, "");
    for container in [&first, &second] {
        let seen = seen(container);
        assert!(seen.contains("sleep 1000001") && seen.contains("sleep 1000002"), "{seen}");
    }
    if pod.status().runtime_handler == "bulkhead" {
        // What keeps the pod reaps for them, and has nothing to show; the suite's own image for it does neither.
        assert_eq!(second.output("kill -KILL 1; cat /proc/1/cmdline").trim_end_matches('\0'), "/pause");
        first.output("(sleep 0 &); while grep -q '^State:.Z' /proc/[0-9]*/status; do sleep 0.1; done");
        assert_ne!(second.sh("ls /proc/1/root/").code, 0);
    }
    // What ends takes its own with it, and nobody else's.
    first.stop(200);
    assert_eq!(first.status().exit_code, 7);
    let left = seen(&second);
    assert!(!left.contains("sleep 1000001") && left.contains("sleep 1000002"), "{left}");

    // One other container's alone.
    let target = with_pids("target", &forking(1_000_003), NamespaceMode::Container, "");
    let other = with_pids("other", &forking(1_000_004), NamespaceMode::Container, "");
    let debugger = with_pids("debugger", &forking(1_000_005), NamespaceMode::Target, &target.id);
    for container in [&target, &debugger] {
        let seen = seen(container);
        assert!(seen.contains("sleep 1000003") && seen.contains("sleep 1000005"), "{seen}");
        assert!(!seen.contains("sleep 1000002") && !seen.contains("sleep 1000004"), "{seen}");
    }
    assert!(!seen(&other).contains("sleep 1000003"));
    debugger.stop(200);
    assert!(!seen(&target).contains("sleep 1000005"));
    let again = with_pids("again", "sleep 1000000", NamespaceMode::Target, &target.id);
    // The namespace ends with the one whose it is.
    target.stop(200);
    again.wait_for_exit();
    assert_eq!(again.status().exit_code, 137);
}

fn commands_run_in_containers_with_their_streams(_: &Node, pod: &Pod) {
    let container = sleeper(pod, "container");
    let done = container.sh("echo out; echo err >&2; exit 5");
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (5, "out\n", "err\n"));

    let mut piped = container.exec("read line; echo \"read $line\"; echo err >&2; exit 3", false);
    piped.write("a line\n");
    let done = piped.finish();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (3, "read a line\n", "err\n"));
    assert_eq!(container.exec("true", false).finish().code, 0);

    let mut terminal =
        container.exec("tty; while read word; do stty size; [ $word = more ] || exit 4; done", true);
    terminal.wait_for("/dev/pts/");
    terminal.resize(132, 43);
    // The size comes by another way than the words.
    while !terminal.said("43 132") {
        terminal.write("more\n");
        terminal.wait_for_more();
    }
    terminal.write("end\n");
    assert_eq!(terminal.finish().code, 4);

    let mut config = pod.container("reader", "while read line; do echo \"read $line\"; done");
    config.stdin = true;
    let reader = pod.start(config);
    let mut attached = reader.attach();
    attached.write("attached\n");
    attached.wait_for("read attached\n");
}

fn logs_are_kept_and_stats_told(node: &Node, pod: &Pod) {
    let script = "echo first; echo second >&2; echo third; exec sleep 1000000";
    let container = pod.start(pod.container("container", script));
    container.wait_for_log(3);
    let mut log = container.log();
    // Two streams are two pipes.
    log.sort();
    assert_eq!(log, ["stderr F second", "stdout F first", "stdout F third"]);

    let stats = container.stats();
    assert_eq!(stats.attributes.expect("attributes").id, container.id);
    assert!(stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).expect("cpu").value > 0);
    assert!(stats.memory.and_then(|memory| memory.working_set_bytes).expect("memory").value > 0);

    let stats = pod.stats();
    assert_eq!(stats.attributes.expect("attributes").id, pod.id);
    let linux = stats.linux.expect("Linux's");
    assert!(linux.cpu.and_then(|cpu| cpu.usage_core_nano_seconds).expect("cpu").value > 0);
    assert!(linux.memory.and_then(|memory| memory.working_set_bytes).expect("memory").value > 0);
    let interface = linux.network.and_then(|network| network.default_interface).expect("an interface");
    assert_eq!(interface.name, "eth0");
    let containers: Vec<_> =
        linux.containers.into_iter().filter_map(|stats| stats.attributes).map(|a| a.id).collect();
    assert_eq!(containers, std::slice::from_ref(&container.id));

    let all: Vec<_> =
        node.cri.call(ListPodSandboxStatsRequest {}).stats.into_iter().filter_map(|s| s.attributes).collect();
    assert!(all.iter().any(|attributes| attributes.id == pod.id));
}

fn resources_are_updated_while_running(_: &Node, pod: &Pod) {
    const MIB: i64 = 1 << 20;
    let resources = |memory: i64, quota: i64| LinuxContainerResources {
        memory_limit_in_bytes: memory * MIB,
        cpu_period: 100_000,
        cpu_quota: quota,
        cpu_shares: 512,
    };
    let mut config = pod.container("container", "sleep 1000000");
    let linux = config.linux.take().unwrap_or_default();
    config.linux = Some(LinuxContainerConfig { resources: Some(resources(64, 50_000)), ..linux });
    let container = pod.start(config);
    let limits = || container.output("cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max");
    assert_eq!(limits(), format!("{}\n50000 100000", 64 * MIB));
    container.update(resources(512, 150_000));
    assert_eq!(limits(), format!("{}\n150000 100000", 512 * MIB));
    // More than there was at first, and all of it written to.
    container.output("dd if=/dev/zero of=/dev/null bs=200M count=1");
    // A further one for which the pod's VM was too small.
    let mut config = pod.container("larger", "sleep 1000000");
    let linux = config.linux.take().unwrap_or_default();
    config.linux = Some(LinuxContainerConfig { resources: Some(resources(900, 50_000)), ..linux });
    pod.start(config).output("dd if=/dev/zero of=/dev/null bs=700M count=1");
}

fn ports_are_forwarded(_: &Node, pod: &Pod) {
    let served = "mkdir /www; echo served > /www/index.html; httpd -p '[::1]:82' -h /www; exec httpd -f -p 127.0.0.1:80 -h /www";
    let server = pod.start(pod.container("server", served));
    server.output("until wget -qO- http://127.0.0.1/; do sleep 0.2; done");
    // Of either address of the loopback's.
    for port in [80, 82] {
        let answer = pod.forward(port, "GET / HTTP/1.0\r\n\r\n").expect("an answer");
        assert!(answer.starts_with("HTTP/1.") && answer.ends_with("\r\n\r\nserved\n"), "{answer}");
    }
    assert!(pod.forward(81, "").is_err());
}

fn containers_are_stopped_with_grace_and_removed(node: &Node, pod: &Pod) {
    let ready = |container: &Container| container.wait_for_log(1);
    let graceful =
        pod.start(pod.container("graceful", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"));
    let stubborn = pod.start(pod.container("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done"));
    let done = pod.start(pod.container("done", "exit 3"));
    ready(&graceful);
    ready(&stubborn);
    assert_eq!(graceful.status().state(), ContainerState::Running);

    graceful.stop(200);
    assert_eq!((graceful.status().state(), graceful.status().exit_code), (ContainerState::Exited, 7));
    stubborn.stop(2);
    assert_eq!((stubborn.status().state(), stubborn.status().exit_code), (ContainerState::Exited, 137));
    done.wait_for_exit();
    let status = done.status();
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    // Calls that have nothing to do succeed.
    done.stop(0);
    node.cri.call(StopContainerRequest { container_id: stubborn.id.clone(), timeout: 0 });

    let missing = pod.create({
        let mut config = pod.container("missing", "");
        config.command = vec!["/no/such/program".to_owned()];
        config
    });
    let refused = missing.start().expect_err("there is no such program");
    assert!(refused.message().contains("no such file or directory"), "{}", refused.message());
    assert_eq!(missing.status().reason, "StartError");

    let running = sleeper(pod, "running");
    for container in [graceful, stubborn, done, missing, running] {
        container.remove();
    }
    assert_eq!(node.cri.call(ListContainersRequest {}).containers, []);
    // The pod takes new ones.
    assert_eq!(sleeper(pod, "next").output("echo here"), "here");
}

fn a_pod_is_stopped_and_removed_with_all_that_is_in_it(node: &Node, pod: &Pod) {
    let running = sleeper(pod, "running");
    let created = pod.create(pod.container("created", "true"));
    let address = pod.ip();
    pod.stop();
    assert_eq!(pod.status().state(), PodSandboxState::NotReady);
    assert_eq!(running.status().state(), ContainerState::Exited);
    assert_ne!(sh(&format!("ping -c 1 -W 1 {address}")).code, 0);
    assert!(created.start().is_err());
    pod.stop();
    assert_eq!(node.cri.call(ListPodSandboxRequest {}).items.len(), 1);
}
