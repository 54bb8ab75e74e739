//! `bulkhead-oci` as its callers see it, as far as no virtual machine is needed: what is refused, in which words, where the
//! words are written, and that nothing is left.

// The whole program is tests; clippy takes only the test functions themselves for such.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A place for bundles and states.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("bundle/rootfs")).unwrap();
        // Where nothing of Bulkhead is installed, no machine can be launched.
        fs::create_dir(directory.path().join("lib")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bundle(&self, change: impl FnOnce(&mut Value)) -> &Self {
        let mut config = json!({
            "ociVersion": "1.2.0",
            "process": { "user": { "uid": 0, "gid": 0 }, "args": ["true"], "cwd": "/" },
            "root": { "path": "rootfs" },
            "linux": { "namespaces": [{ "type": "network" }, { "type": "mount" }] }
        });
        change(&mut config);
        self.text(&config.to_string())
    }

    fn text(&self, config: &str) -> &Self {
        fs::write(self.path("bundle/config.json"), config).unwrap();
        self
    }

    fn run(&self, arguments: &str) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_bulkhead-oci"));
        program.arg("--root").arg(self.path("root")).arg("--log").arg(self.path("log"));
        program.args(["--log-format", "json"]).args(arguments.split_whitespace());
        program.env("BULKHEAD_LIBDIR", self.path("lib")).current_dir(self.directory.path());
        program.stdin(Stdio::null()).output().unwrap()
    }

    /// What a command that fails says, which is the same on standard error and in the log.
    fn refused(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments}");
        let told = String::from_utf8(output.stderr).unwrap().trim_end().to_owned();
        let log = fs::read_to_string(self.path("log")).unwrap();
        let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!(told)));
        told
    }

    fn create_refused(&self) -> String {
        let told = self.refused("create --bundle bundle web");
        assert!(self.is_empty(), "{told}");
        told
    }

    /// Whether nothing is left of any container.
    fn is_empty(&self) -> bool {
        fs::read_dir(self.path("root")).map_or(true, |mut entries| entries.next().is_none())
    }
}

#[test]
fn a_bundle_that_is_none_is_told_as_runc_tells_it() {
    let place = Place::new();
    let told = place.create_refused();
    assert!(
        told.starts_with("JSON specification file ") && told.ends_with("config.json not found"),
        "{told}"
    );
    assert!(place.text("{").create_refused().contains("cannot parse"));
    let typed = place.bundle(|config| config["process"]["args"] = json!("true")).create_refused();
    assert!(typed.contains("cannot parse"), "{typed}");
    let none = place.bundle(|config| config["process"]["args"] = json!([])).create_refused();
    assert!(none.contains("args must not be empty"), "{none}");
    let relative = place.bundle(|config| config["process"]["cwd"] = json!("x")).create_refused();
    assert!(relative.contains("Cwd must be an absolute path"), "{relative}");
    assert!(place.refused("create --bundle nowhere web").contains("No such file or directory"));
}

#[test]
fn ids_that_lead_elsewhere_are_refused() {
    let place = Place::new();
    place.bundle(|_| ());
    for id in ["..", "a/b", "/etc", "a:b"] {
        assert_eq!(place.refused(&format!("create --bundle bundle {id}")), "invalid container ID format");
        assert_eq!(place.refused(&format!("state {id}")), "invalid container ID format");
        assert_eq!(place.refused(&format!("delete --force {id}")), "invalid container ID format");
    }
    assert!(place.is_empty());
}

#[test]
fn a_container_that_is_not_there_is_told_as_runc_tells_it() {
    let place = Place::new();
    for verb in ["state web", "start web", "kill web KILL", "delete web", "ps web", "pause web", "events web"]
    {
        assert_eq!(place.refused(verb), "container does not exist: web", "{verb}");
    }
    assert_eq!(place.refused("exec web true"), "exec failed: container does not exist: web");
    assert_eq!(place.run("exec web true").status.code(), Some(255));
    assert!(place.run("delete --force web").status.success());
    let listed = place.run("list --format json");
    assert_eq!((listed.status.code(), listed.stdout.as_slice()), (Some(0), &b"[]\n"[..]));
}

#[test]
fn a_create_that_was_killed_early_can_be_deleted() {
    let place = Place::new();
    fs::create_dir_all(place.path("root/web")).unwrap();
    place.bundle(|_| ());
    let told = place.refused("create --bundle bundle web");
    assert!(told.starts_with("container with given ID already exists"), "{told}");
    assert!(place.run("delete --force web").status.success());
    assert!(place.is_empty());
}

#[test]
fn a_terminal_wants_a_console_socket_and_a_console_socket_a_terminal() {
    let place = Place::new();
    let terminal = place.bundle(|config| config["process"]["terminal"] = json!(true)).create_refused();
    assert_eq!(terminal, "cannot allocate tty if runc will detach without setting console socket");
    let nowhere = place.refused("create --bundle bundle --console-socket none web");
    assert!(nowhere.starts_with("cannot connect to the console socket none"), "{nowhere}");
    let none = place.bundle(|_| ()).refused("create --bundle bundle --console-socket none web");
    assert_eq!(none, "cannot use console socket if runc will not detach or allocate tty");
    assert!(place.is_empty());
}

#[test]
fn what_cannot_travel_into_a_machine_is_refused_with_a_reason() {
    let place = Place::new();
    let descriptors = place.bundle(|_| ()).refused("create --bundle bundle --preserve-fds 1 web");
    assert!(descriptors.starts_with("descriptors cannot be preserved"), "{descriptors}");
    let hook = json!({ "startContainer": [{ "path": "/hook" }] });
    let told = place.bundle(|config| config["hooks"] = hook).create_refused();
    assert!(told.starts_with("startContainer hooks are not supported"), "{told}");
    for verb in ["checkpoint web", "restore --bundle bundle web"] {
        assert!(place.refused(verb).starts_with("checkpoints of containers are not supported"));
    }
}

#[test]
fn what_the_supervisor_could_not_do_is_told_by_create_and_nothing_is_left() {
    let place = Place::new();
    let told = place.bundle(|_| ()).create_refused();
    assert!(told.contains("vmlinux") && told.contains("not found in"), "{told}");
    let mut annotations = json!({});
    annotations["io.kubernetes.cri-o.ContainerType"] = json!("container");
    annotations["io.kubernetes.cri-o.SandboxID"] = json!("pod");
    let told = place.bundle(|config| config["annotations"] = annotations).create_refused();
    assert!(told.starts_with("the pod pod of this container does not run"), "{told}");
}

#[test]
fn what_needs_no_container_works_anywhere() {
    let place = Place::new();
    let version = place.run("--version").stdout;
    assert!(String::from_utf8(version).unwrap().starts_with("bulkhead-oci version "));
    let features: Value = serde_json::from_slice(&place.run("features").stdout).unwrap();
    assert_eq!(features["ociVersionMin"], json!("1.0.0"));
    assert!(place.run("spec --bundle bundle").status.success());
    assert_eq!(place.refused("spec --bundle bundle"), "File config.json exists. Remove it first");
}

#[test]
fn a_command_line_that_cannot_be_fails_as_others_do() {
    let place = Place::new();
    for arguments in ["", "create", "nonsense", "kill", "list --format xml"] {
        assert_eq!(place.run(arguments).status.code(), Some(1), "{arguments}");
    }
}
