//! The program as containerd runs it, but for a container: that takes a host with KVM.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, ShutdownRequest, StateRequest, StateResponse,
};
use containerd_shim_protos::bootstrap_api::BootstrapParams;
use containerd_shim_protos::sandbox_api::{PlatformRequest, PlatformResponse};
use containerd_shim_protos::types::introspection::RuntimeInfo;
use protobuf::Message;
use protobuf::well_known_types::empty::Empty;
use ttrpc::Code;
use ttrpc::r#async::Client;

const PROGRAM: &str = env!("CARGO_BIN_EXE_containerd-shim-bulkhead-v2");

/// A directory with a bundle, and a place for sockets.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        node.bundle("c1", "{}");
        node
    }

    fn bundle(&self, id: &str, config: &str) -> PathBuf {
        let bundle = self.0.path().join(id);
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), config).unwrap();
        bundle
    }

    fn start(&self, id: &str) -> Output {
        let params = BootstrapParams {
            instance_id: id.to_owned(),
            namespace: "default".to_owned(),
            socket_dir: Some(self.0.path().join("s").display().to_string()),
            ..Default::default()
        };
        let mut child = Command::new(PROGRAM)
            .args([
                "-namespace",
                "default",
                "-address",
                "/nowhere",
                "-publish-binary",
                "/bin/true",
                "-id",
                id,
                "start",
            ])
            .current_dir(self.0.path().join(id))
            .env_remove("TTRPC_ADDRESS")
            .env("MAX_SHIM_VERSION", "2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&params.write_to_bytes().unwrap()).unwrap();
        // Ends only when nobody has the streams any more: so waits containerd.
        child.wait_with_output().unwrap()
    }

    fn address(&self, id: &str) -> String {
        let output = self.start(id);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((answer["version"].as_u64(), answer["protocol"].as_str()), (Some(3), Some("ttrpc")));
        let address = answer["address"].as_str().unwrap().to_owned();
        assert_eq!(std::fs::read_to_string(self.0.path().join(id).join("address")).unwrap(), address);
        address
    }
}

async fn call<R: Message, A: Message>(
    client: &Client,
    service: &str,
    method: &str,
    request: &R,
) -> ttrpc::Result<A> {
    let request = ttrpc::Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: request.write_to_bytes().unwrap(),
        ..Default::default()
    };
    let response = client.request(request).await?;
    Ok(A::parse_from_bytes(&response.payload).unwrap())
}

fn code<A>(answer: ttrpc::Result<A>) -> Code {
    match answer {
        Err(ttrpc::Error::RpcStatus(status)) => status.code(),
        Err(error) => panic!("{error}"),
        Ok(_) => Code::OK,
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_shim_serves_both_versions_until_it_is_shut_down() {
    let node = Node::new();
    let address = node.address("c1");
    let socket = Path::new(address.strip_prefix("unix://").unwrap());
    assert!(std::fs::metadata(socket).unwrap().file_type().is_socket());
    let pid = std::fs::read_to_string(node.0.path().join("c1/shim.pid")).unwrap();
    let client = Client::connect(&address).await.unwrap();
    for service in ["containerd.task.v2.Task", "containerd.task.v3.Task"] {
        let request = ConnectRequest { id: "c1".to_owned(), ..Default::default() };
        let connected: ConnectResponse = call(&client, service, "Connect", &request).await.unwrap();
        assert_eq!((connected.shim_pid.to_string(), connected.task_pid), (pid.clone(), 0));
        let request = StateRequest { id: "c1".to_owned(), ..Default::default() };
        assert_eq!(
            code(call::<_, StateResponse>(&client, service, "State", &request).await),
            Code::NOT_FOUND
        );
        let request =
            CreateTaskRequest { id: "c1".to_owned(), bundle: "/nowhere".to_owned(), ..Default::default() };
        assert_eq!(code(call::<_, Empty>(&client, service, "Create", &request).await), Code::NOT_FOUND);
    }
    let sandbox = "containerd.runtime.sandbox.v1.Sandbox";
    let platform: PlatformResponse =
        call(&client, sandbox, "Platform", &PlatformRequest::new()).await.unwrap();
    assert_eq!(platform.platform.os, "linux");
    let _: Empty =
        call(&client, "containerd.task.v3.Task", "Shutdown", &ShutdownRequest::new()).await.unwrap();
    wait_until("the socket is left", || !socket.exists());
    // Reaped by whoever adopted it, it may stay a zombie.
    let process = PathBuf::from(format!("/proc/{pid}/exe"));
    wait_until("the shim is left", || std::fs::read_link(&process).is_err());
}

#[tokio::test]
async fn a_pods_containers_are_sent_to_its_shim() {
    let node = Node::new();
    let member = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod","io.kubernetes.cri.container-type":"container"}}"#;
    node.bundle("pod", &member.replace("\"container\"", "\"sandbox\""));
    node.bundle("a", member);
    let address = node.address("pod");
    assert_eq!(node.address("a"), address);
    assert_ne!(node.address("c1"), address);
    for address in [address, node.address("c1")] {
        let client = Client::connect(&address).await.unwrap();
        let _: Empty =
            call(&client, "containerd.task.v2.Task", "Shutdown", &ShutdownRequest::new()).await.unwrap();
    }
}

/// As `docker restart` does, whose containers keep their ids.
#[tokio::test]
async fn who_starts_again_at_once_gets_a_shim_that_stays() {
    let node = Node::new();
    let mut pids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let client = Client::connect(&node.address("c1")).await.unwrap();
        let connected: ConnectResponse =
            call(&client, "containerd.task.v3.Task", "Connect", &ConnectRequest::new()).await.unwrap();
        pids.insert(connected.shim_pid);
        let _: Empty =
            call(&client, "containerd.task.v3.Task", "Shutdown", &ShutdownRequest::new()).await.unwrap();
    }
    assert_eq!(pids.len(), 20);
}

#[test]
fn it_says_what_it_is() {
    let info = Command::new(PROGRAM).arg("-info").stdin(Stdio::null()).output().unwrap();
    let info = RuntimeInfo::parse_from_bytes(&info.stdout).unwrap();
    assert_eq!(info.name, "io.containerd.bulkhead.v2");
    assert_eq!(info.annotations.get("containerd.io/runtime-allow-mounts").map(String::as_str), Some("erofs"));
    let version = Command::new(PROGRAM).arg("-v").output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().contains(&info.version.version));
    let refused = Command::new(PROGRAM).args(["-id", "c", "start"]).output().unwrap();
    assert!(!refused.status.success());
    let words = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(words.trim(), "io.containerd.bulkhead.v2: shim namespace cannot be empty");
}
