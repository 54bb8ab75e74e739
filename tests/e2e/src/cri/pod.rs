//! Pods and their containers, made and used as a kubelet does.

use std::collections::HashMap;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tonic::Status;

use super::Client;
use super::messages::*;
use super::node::image;
use super::streams::{Process, exchange};
use crate::shell::{Finished, output};

/// Longer than a container takes to do what is waited for.
const LIMIT: Duration = Duration::from_secs(120);

/// A pod with what a kubelet keeps for it: a cgroup and a directory for its logs.
pub struct Pod<'node> {
    cri: &'node Client,
    config: PodSandboxConfig,
    pub id: String,
    /// Its directory on the host.
    pub directory: PathBuf,
}

/// A container in a pod.
pub struct Container<'pod> {
    pod: &'pod Pod<'pod>,
    name: String,
    pub id: String,
}

/// Kernel parameters of every pod, as its `securityContext` would have them.
pub const SYSCTLS: [(&str, &str); 2] = [("net.core.somaxconn", "100"), ("kernel.shm_rmid_forced", "1")];

impl<'node> Pod<'node> {
    /// Runs one with nothing in it; port 80 of the pod is the host's `host_port`.
    pub fn run(cri: &'node Client, handler: &str, name: &str, host_port: i32) -> Self {
        let directory = tempfile::tempdir().expect("a directory").keep();
        let cgroup_parent = cgroup(name);
        output(&format!(
            "mkdir -p /sys/fs/cgroup{cgroup_parent}; echo '+cpu +memory +pids' > /sys/fs/cgroup/kubepods/cgroup.subtree_control"
        ));
        let namespaces = NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "suite".to_owned(),
            }),
            hostname: name.to_owned(),
            log_directory: directory.display().to_string(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.77.0.53".to_owned()],
                searches: vec!["cluster.local".to_owned()],
            }),
            port_mappings: vec![PortMapping { container_port: 80, host_port }],
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent,
                security_context: Some(LinuxSandboxSecurityContext { namespace_options: Some(namespaces) }),
                sysctls: HashMap::from(SYSCTLS.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            }),
            ..Default::default()
        };
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.to_owned() };
        let id = cri.call(request).pod_sandbox_id;
        Self { cri, config, id, directory }
    }

    pub fn status(&self) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest { pod_sandbox_id: self.id.clone() };
        self.cri.call(request).status.expect("a status")
    }

    pub fn cri(&self) -> &'node Client {
        self.cri
    }

    /// Its first address.
    pub fn ip(&self) -> String {
        self.status().network.expect("a network").ip
    }

    pub fn stats(&self) -> PodSandboxStats {
        let request = PodSandboxStatsRequest { pod_sandbox_id: self.id.clone() };
        self.cri.call(request).stats.expect("stats")
    }

    /// What `port` of its loopback interface answers, or why it is not forwarded.
    pub fn forward(&self, port: i32, request: &str) -> Result<String, String> {
        let forward = PortForwardRequest { pod_sandbox_id: self.id.clone(), port: vec![port] };
        exchange(&self.cri.call(forward).url, request)
    }

    pub fn stop(&self) {
        self.cri.call(StopPodSandboxRequest { pod_sandbox_id: self.id.clone() });
    }

    /// Removes it and what was kept for it.
    pub fn remove(self) {
        self.cri.call(RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() });
        let cgroup = self.config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
        std::fs::remove_dir(format!("/sys/fs/cgroup{cgroup}")).expect("nothing is left in the pod's cgroup");
        std::fs::remove_dir_all(&self.directory).expect("the pod's directory");
    }

    /// What a container of it is made of, that runs `script`.
    pub fn container(&self, name: &str, script: &str) -> ContainerConfig {
        let namespaces = NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned() }),
            image: Some(ImageSpec { image: image("busybox") }),
            command: ["sh", "-c", script].map(str::to_owned).into(),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext { namespace_options: Some(namespaces) }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub fn create(&self, config: ContainerConfig) -> Container<'_> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let request = CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: Some(config),
            sandbox_config: Some(self.config.clone()),
        };
        let id = self.cri.call(request).container_id;
        Container { pod: self, name, id }
    }

    /// Creates a container and starts it.
    pub fn start(&self, config: ContainerConfig) -> Container<'_> {
        let container = self.create(config);
        container.start().unwrap_or_else(|status| panic!("{}: {}", container.name, status.message()));
        container
    }
}

impl Drop for Pod<'_> {
    /// The next test on the machine is to find none of a test that failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.cri.try_call(StopPodSandboxRequest { pod_sandbox_id: self.id.clone() });
            let _ = self.cri.try_call(RemovePodSandboxRequest { pod_sandbox_id: self.id.clone() });
        }
    }
}

/// The pod's, where a kubelet without systemd makes it.
fn cgroup(pod: &str) -> String {
    format!("/kubepods/pod{pod}")
}

fn wait(done: impl Fn() -> bool, otherwise: &str) {
    let deadline = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < deadline, "{otherwise}");
        sleep(Duration::from_millis(100));
    }
}

impl Container<'_> {
    pub fn start(&self) -> Result<(), Status> {
        self.pod.cri.try_call(StartContainerRequest { container_id: self.id.clone() })
    }

    pub fn status(&self) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: self.id.clone() };
        self.pod.cri.call(request).status.expect("a status")
    }

    pub fn stats(&self) -> ContainerStats {
        let request = ContainerStatsRequest { container_id: self.id.clone() };
        self.pod.cri.call(request).stats.expect("stats")
    }

    /// Runs a script to its end.
    pub fn sh(&self, script: &str) -> Finished {
        let cmd = ["sh", "-c", script].map(str::to_owned).into();
        let done = self.pod.cri.call(ExecSyncRequest { container_id: self.id.clone(), cmd, timeout: 0 });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { code: done.exit_code, stdout: text(&done.stdout), stderr: text(&done.stderr) }
    }

    /// Runs a script that must succeed; its output without the last newline.
    pub fn output(&self, script: &str) -> String {
        let finished = self.sh(script);
        assert_eq!(finished.code, 0, "{script}\n{}{}", finished.stdout, finished.stderr);
        finished.stdout.trim_end().to_owned()
    }

    /// Starts a script with its streams.
    pub fn exec(&self, script: &str, tty: bool) -> Process {
        let cmd = ["sh", "-c", script].map(str::to_owned).into();
        let request =
            ExecRequest { container_id: self.id.clone(), cmd, tty, stdin: true, stdout: true, stderr: !tty };
        Process::open(&self.pod.cri.call(request).url)
    }

    /// The streams of its first process.
    pub fn attach(&self) -> Process {
        let request =
            AttachRequest { container_id: self.id.clone(), stdin: true, stdout: true, stderr: true };
        Process::open(&self.pod.cri.call(request).url)
    }

    pub fn update(&self, resources: LinuxContainerResources) {
        self.pod
            .cri
            .call(UpdateContainerResourcesRequest { container_id: self.id.clone(), linux: Some(resources) });
    }

    /// Waits until its log has so many lines.
    pub fn wait_for_log(&self, lines: usize) {
        wait(|| self.log().len() >= lines, &format!("{} does not log {lines} lines", self.name));
    }

    pub fn wait_for_exit(&self) {
        wait(|| self.status().state() == ContainerState::Exited, &format!("{} does not end", self.name));
    }

    /// The lines of its log as `STREAM TAG TEXT`, without their times.
    pub fn log(&self) -> Vec<String> {
        let path = self.pod.directory.join(format!("{}.log", self.name));
        let log =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let untimed = |line: &str| line.split_once(' ').map(|(_, rest)| rest.to_owned());
        log.lines().map(|line| untimed(line).unwrap_or_else(|| panic!("no time in {line:?}"))).collect()
    }

    pub fn stop(&self, grace: i64) {
        self.pod.cri.call(StopContainerRequest { container_id: self.id.clone(), timeout: grace });
    }

    pub fn remove(self) {
        self.pod.cri.call(RemoveContainerRequest { container_id: self.id });
    }
}
