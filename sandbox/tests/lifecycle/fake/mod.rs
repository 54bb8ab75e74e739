//! A VMM and an agent in one program without a VM: what this host's side is tested against.

mod agent;
mod vmm;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Process;
use sandbox::{HostLimits, Installation, Label, SandboxConfig, Scratch, StateDir};

pub(crate) use vmm::serve;

/// How the fake VM behaves; it travels in the kernel's command line.
pub(crate) const WELL: &str = "";
pub(crate) const PANIC_AT_BOOT: &str = "fake=panic-at-boot";
pub(crate) const KILLED_AT_LAUNCH: &str = "fake=killed-at-launch";
pub(crate) const REFUSE_LAUNCH: &str = "fake=refuse-launch";
pub(crate) const NOT_READY: &str = "fake=not-ready";
pub(crate) const BREAK_THEN_PANIC: &str = "fake=break-then-panic";
pub(crate) const LINGER: &str = "fake=linger";

/// What the agent is told to run, as args of the spec.
pub(crate) const CAT: &str = "cat";
pub(crate) const MISSING: &str = "missing";
pub(crate) const EATER: &str = "eater";
pub(crate) const CRASHER: &str = "crasher";

/// A host with nothing on it but fakes.
pub(crate) struct Host {
    pub(crate) root: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let host = Self { root: owned.path().to_owned(), _owned: Some(owned) };
        for part in ["bulkhead-file-server", "vmlinux", "initramfs"] {
            fs::write(host.root.join(part), "fake").unwrap();
        }
        // The library starts the VMM without arguments; the script adds those that make this program one.
        // Nothing executable is written: another thread's fork could hold it open and so busy.
        // The tests of other crates use this as well.
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../sandbox/tests/lifecycle/fake/bulkhead-vmm.sh");
        symlink(script, host.root.join("bulkhead-vmm")).unwrap();
        symlink(std::env::current_exe().unwrap(), host.root.join("program")).unwrap();
        host
    }

    /// One that another process made.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), _owned: None }
    }

    pub(crate) fn installation(&self, behaviour: &str) -> Installation {
        let kvm = PathBuf::from("/dev/null");
        let installation = Installation::at(&self.root).unwrap();
        Installation { kvm, kernel_arguments: behaviour.to_owned(), templates: false, ..installation }
    }

    /// Below a path too long for a socket's address.
    pub(crate) fn state(&self) -> StateDir {
        StateDir::at(self.root.join("long".repeat(30)).join("state")).unwrap()
    }

    pub(crate) fn config(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            label: label(name),
            hostname: "host".to_owned(),
            vcpus: 1,
            memory_limit: Some(256 << 20),
            image: vec![fs::File::open("/dev/null").unwrap(), fs::File::open("/dev/null").unwrap()],
            scratch: Some(Scratch::Temporary { directory: self.root.join("data"), size: 128 << 20 }),
            limits: HostLimits::default(),
            cgroup_parent: None,
            network: None,
            shares: false,
            from: None,
        }
    }
}

pub(crate) fn label(name: &str) -> Label {
    Label {
        id: format!("{name}0123"),
        name: name.to_owned(),
        image: "image".to_owned(),
        command: vec![],
        process: Process::default(),
        user: String::new(),
    }
}
