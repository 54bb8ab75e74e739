//! A machine as a node's: containerd with its CRI plug-in, Bulkhead among its runtimes, and a network for pods.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Client;
use super::messages::{ImageSpec, ImageStatusRequest, RuntimeCondition, StatusRequest};
use crate::engines::{Containerd, Daemon};

/// The images of a node, each `localhost/TAG:latest`.
const IMAGES: [&str; 2] = ["busybox", "pause"];

/// Where the CRI keeps what it has in containerd.
const NAMESPACE: &str = "k8s.io";

const LIMIT: Duration = Duration::from_secs(120);

/// As containerd 1.7 is told.
const VERSION_2: &str = r#"
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:latest"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkhead]
runtime_type = "io.containerd.bulkhead.v2"
"#;

/// The same for containerd 2, and a runtime whose pods are made by the Sandbox API.
const VERSION_3: &str = r#"
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:latest"
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.bulkhead]
runtime_type = "io.containerd.bulkhead.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.sandboxed]
runtime_type = "io.containerd.bulkhead.v2"
sandboxer = "shim"
"#;

/// Pods on a bridge, with addresses of both families.
const NETWORK: &str = r#"{
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.77.0.0/16"}], [{"subnet": "fd77::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
            }
        },
        {"type": "portmap", "capabilities": {"portMappings": true}}
    ]
}"#;

/// A node that lives as long as this value.
pub struct Node {
    pub cri: Client,
    _containerd: Daemon,
}

impl Node {
    /// Starts it; it is ready for pods.
    pub fn start(containerd: Containerd) -> Self {
        std::fs::create_dir_all("/etc/cni/net.d").expect("/etc/cni/net.d");
        std::fs::write("/etc/cni/net.d/10-pods.conflist", NETWORK).expect("a network");
        let daemon = containerd.start(match containerd {
            Containerd::Previous | Containerd::Debians => VERSION_2,
            Containerd::Next => VERSION_3,
        });
        for tag in IMAGES {
            containerd.import(NAMESPACE, tag);
        }
        let node = Self { cri: Client::connect(), _containerd: daemon };
        node.wait_until_ready();
        node
    }

    /// The CRI learns of images and of networks by itself.
    fn wait_until_ready(&self) {
        let deadline = Instant::now() + LIMIT;
        while let Some(missing) = self.missing() {
            assert!(Instant::now() < deadline, "the node does not become ready: {missing}");
            sleep(Duration::from_millis(200));
        }
    }

    fn missing(&self) -> Option<String> {
        let status = self.cri.call(StatusRequest {}).status.unwrap_or_default();
        // Others are warnings, of settings that are to go.
        let wanted = ["RuntimeReady", "NetworkReady"];
        let is_missing =
            |condition: &&RuntimeCondition| wanted.contains(&&*condition.r#type) && !condition.status;
        if let Some(condition) = status.conditions.iter().find(is_missing) {
            return Some(format!("{}: {}", condition.r#type, condition.message));
        }
        let known = |tag: &&str| {
            let image = Some(ImageSpec { image: image(tag) });
            self.cri.call(ImageStatusRequest { image }).image.is_some()
        };
        IMAGES.iter().find(|tag| !known(tag)).map(|tag| format!("no image {tag}"))
    }
}

pub(super) fn image(tag: &str) -> String {
    format!("localhost/{tag}:latest")
}
