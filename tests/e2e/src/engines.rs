//! Container engines with Bulkhead plugged in, as an operator configures them. Each lives as long as the value that was
//! made for it; their images are the suites' own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::images::images;
use crate::shell::{output, sh};

/// How long an engine may take to answer first.
const LIMIT: Duration = Duration::from_secs(120);

/// A daemon that is ended when this is dropped.
pub struct Daemon {
    process: Child,
    log: String,
}

/// The versions of containerd in the lab: Debian's, the one before (1.6) and the one after (2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containerd {
    Previous,
    Debians,
    Next,
}

impl Containerd {
    fn directory(self) -> &'static str {
        match self {
            Self::Previous => "/opt/containerd-1.6/bin",
            Self::Debians => "/usr/bin",
            Self::Next => "/opt/containerd-2/bin",
        }
    }

    /// Its command-line client.
    pub fn ctr(self) -> String {
        format!("{}/ctr", self.directory())
    }

    /// Starts it with `configuration` (TOML) beside its defaults, and imports the image `localhost/busybox:latest`.
    pub fn start(self, configuration: &str) -> Daemon {
        std::fs::create_dir_all("/etc/containerd").expect("/etc/containerd");
        std::fs::write("/etc/containerd/config.toml", configuration).expect("a configuration");
        let daemon = self.start_again();
        self.import("default", "busybox");
        daemon
    }

    /// Starts it as it was before it ended.
    pub fn start_again(self) -> Daemon {
        let program = format!("{}/containerd", self.directory());
        Daemon::start("containerd", &program, &format!("{} version", self.ctr()))
    }

    /// Imports the test image `tag` as `localhost/TAG:latest`.
    pub fn import(self, namespace: &str, tag: &str) {
        let layout = images().busybox_layout.display();
        let ctr = self.ctr();
        // By this archive an image has one name, and it is the one that is wanted: the CRI goes by the first it finds.
        output(&format!(
            "t=$(mktemp -d); skopeo --insecure-policy copy -q oci:{layout}:{tag} docker-archive:$t/image.tar:localhost/{tag}:latest \
             && {ctr} -n {namespace} image import $t/image.tar && rm -r $t"
        ));
    }
}

/// Docker beside a containerd that runs, with the runtime `bulkhead` in its configuration.
pub fn docker() -> Daemon {
    std::fs::create_dir_all("/etc/docker").expect("/etc/docker");
    let configuration = r#"{"runtimes": {"bulkhead": {"runtimeType": "io.containerd.bulkhead.v2"}}}"#;
    std::fs::write("/etc/docker/daemon.json", configuration).expect("a configuration");
    let daemon = Daemon::start("dockerd", "dockerd", "docker version");
    output("docker load -qi $BUSYBOX");
    daemon
}

impl Daemon {
    fn start(name: &str, program: &str, answers: &str) -> Self {
        let log = format!("/tmp/{name}.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let process = Command::new(program)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let daemon = Self { process, log };
        let deadline = Instant::now() + LIMIT;
        while sh(answers).code != 0 {
            assert!(Instant::now() < deadline, "{name} does not answer:\n{}", daemon.last_words());
            sleep(Duration::from_millis(200));
        }
        daemon
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        output(&format!("tail -n 40 {}", self.log))
    }

    /// As a crash.
    pub fn kill(mut self) {
        self.process.kill().expect("kill");
        self.process.wait().expect("wait");
        std::mem::forget(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of {}\n{}", self.log, self.last_words());
        }
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// The suites' images for podman and buildah.
pub fn podman_images() {
    assert!(Path::new(&images().busybox).exists());
    output("podman load -qi $BUSYBOX");
}
