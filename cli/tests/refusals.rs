//! The program itself, on any machine: what it refuses, with which words and exit code. Needs no KVM.

#![allow(clippy::unwrap_used, reason = "a test fails so")]

use std::process::{Command, Output};

/// A home of its own for each call: images and records of the machine are left alone.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn bulkhead(&self, arguments: &[&str]) -> Output {
        let library = self.0.path().join("lib");
        std::fs::create_dir_all(&library).unwrap();
        for part in ["bulkhead-vmm", "bulkhead-file-server", "vmlinux", "initramfs"] {
            std::fs::write(library.join(part), "").unwrap();
        }
        Command::new(env!("CARGO_BIN_EXE_bulkhead"))
            .args(arguments)
            .env("BULKHEAD_DATA_DIR", self.0.path().join("data"))
            .env("BULKHEAD_LIBDIR", library)
            .env("XDG_RUNTIME_DIR", self.0.path())
            .output()
            .unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Bulkhead's own fault or refusal, with these words.
fn assert_refused(output: &Output, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn a_missing_image_is_named() {
    let home = Home::new();
    let image = home.path("missing.tar");
    assert_refused(&home.bulkhead(&["run", &image]), &[&image, "no such file"]);
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let image = home.path("image.tar");
    for content in [&b""[..], b"hello", &[0; 4096], b"\x1f\x8b\x08\x00broken"] {
        std::fs::write(&image, content).unwrap();
        assert_refused(&home.bulkhead(&["run", &image]), &[&image]);
    }
    assert!(home.bulkhead(&["images", "-aq"]).stdout.is_empty());
    assert!(std::fs::read_dir(home.path("data/images/layers")).unwrap().next().is_none());
}

#[test]
fn options_that_cannot_be_are_named_with_what_could() {
    let home = Home::new();
    for (options, words) in [
        (&["-m", "1k"][..], &["--memory", "at least"][..]),
        (&["-m", "lots"], &["lots", "512m"]),
        (&["--cpus", "none"], &["none", "0.5"]),
        (&["--ulimit", "files=1"], &["files=1", "nofile"]),
        (&["--cap-add", "FLY"], &["FLY", "capabilities(7)"]),
        (&["--security-opt", "label=disable"], &["seccomp=unconfined"]),
        (&["--stop-signal", "LOUD"], &["LOUD", "SIGTERM"]),
        (&["--tmpfs", "tmp"], &["tmp", "absolute"]),
        (&["-e", "=value"], &["name"]),
        (&["--no-such-option"], &["--no-such-option", "Usage"]),
    ] {
        let arguments = [&["run"], options, &["image.tar", "true"]].concat();
        assert_refused(&home.bulkhead(&arguments), words);
    }
}

#[test]
fn a_terminal_is_wanted_where_there_is_none() {
    assert_refused(&Home::new().bulkhead(&["run", "-it", "image.tar"]), &["the input device is not a TTY"]);
}

#[test]
fn a_sandbox_that_does_not_run_cannot_be_entered_or_killed() {
    let home = Home::new();
    for arguments in [&["exec", "nobody-of-that-name", "true"][..], &["kill", "nobody-of-that-name"]] {
        assert_refused(&home.bulkhead(arguments), &["no such container", "nobody-of-that-name"]);
    }
}

#[test]
fn an_installation_without_its_parts_says_which() {
    let home = Home::new();
    let output = Command::new(env!("CARGO_BIN_EXE_bulkhead"))
        .args(["run", "image.tar"])
        .env("BULKHEAD_LIBDIR", home.0.path())
        .env("BULKHEAD_DATA_DIR", home.path("data"))
        .env("XDG_RUNTIME_DIR", home.0.path())
        .output()
        .unwrap();
    assert_refused(
        &output,
        &["bulkhead-vmm, bulkhead-file-server, vmlinux, initramfs not found", "./dev build"],
    );
}

#[test]
fn what_is_printed_for_programs_is_whole() {
    let home = Home::new();
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&home.bulkhead(arguments).stdout).unwrap()
    };
    assert!(home.bulkhead(&["ps", "-a", "--format", "json"]).stdout.is_empty(), "a line for each container");
    let checks = json(&["doctor", "--format", "json"]);
    assert!(checks.as_array().unwrap().iter().all(|check| check["state"].is_string()));
    for arguments in [&["completion", "bash"][..], &["completion", "zsh"], &["completion", "fish"], &["man"]]
    {
        let output = home.bulkhead(arguments);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("entrypoint"), "{arguments:?}");
    }
}

#[test]
fn colours_and_progress_are_for_terminals_only() {
    for arguments in [&["--help"][..], &["run", "--help"], &["doctor"], &["run", "--bad"]] {
        let output = Home::new().bulkhead(arguments);
        assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{arguments:?}");
    }
}
