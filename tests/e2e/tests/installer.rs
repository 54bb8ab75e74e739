//! The installer for nodes (packaging/install): what it plugs in, an upgrade under what runs, and taking it back.

// What cannot be set up fails the test that needs it.
#![allow(clippy::expect_used)]

use bulkhead_e2e::engines::Containerd;
use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::{output, sh};

const INSTALL: &str = include_str!("../../../packaging/install");

/// Elsewhere than where the suites' Bulkhead is.
const PREFIX: &str = "/tmp/bulkhead-installed";

const PACKAGE: &str = "/tmp/bulkhead-package";

/// The archive for nodes, unpacked.
fn unpack() {
    output(&format!(
        "rm -rf {PACKAGE}; mkdir {PACKAGE}; cp -rL $(dirname $(readlink -f $(command -v bulkhead)))/../{{bin,lib}} {PACKAGE}/"
    ));
    std::fs::write(format!("{PACKAGE}/install"), INSTALL).expect("the installer");
}

fn install(options: &str) -> String {
    output(&format!("sh {PACKAGE}/install --prefix {PREFIX} {options}"))
}

/// Another version, as far as a file's content tells: what lies behind an ELF file's sections is nobody's.
fn next_version() {
    output(&format!(
        "for file in {PACKAGE}/bin/* {PACKAGE}/lib/bulkhead/{{bulkhead-*,vmlinux}}; do echo next >> $file; done"
    ));
}

#[test]
fn what_runs_survives_an_upgrade() {
    unpack();
    install("");
    let containerd = Containerd::Debians.start("");
    let run = format!("ctr run --runtime {PREFIX}/bin/containerd-shim-bulkhead-v2");
    // Each version's first start makes its template, which stays.
    output(&format!("{run} --rm localhost/busybox:latest first true"));
    let before = snapshot();
    output(&format!("{run} -d localhost/busybox:latest old sleep 1000"));
    next_version();
    install("");
    assert_eq!(output("ctr task exec --exec-id e1 old echo inside"), "inside");
    assert_eq!(output(&format!("{run} --rm localhost/busybox:latest new echo hello")), "hello");
    containerd.kill();
    let _containerd = Containerd::Debians.start_again();
    assert_eq!(output("ctr task exec --exec-id e2 old echo inside"), "inside");
    output("ctr task kill -s KILL old; while ctr task ls | grep -q 'old.*RUNNING'; do sleep 0.1; done");
    output("ctr task delete old; ctr container rm old");
    install("--uninstall");
    assert_unchanged(&before, "after an upgrade");
}

#[test]
fn engines_are_told_and_all_is_taken_back() {
    output("rm -rf /etc/containerd /etc/docker /etc/containers/containers.conf.d/bulkhead.conf");
    unpack();
    install("");
    let configured = output("containerd config dump");
    assert!(configured.contains("io.containerd.bulkhead.v2"), "{configured}");
    assert_eq!(
        output("jq -r .runtimes.bulkhead.runtimeType /etc/docker/daemon.json"),
        "io.containerd.bulkhead.v2"
    );
    output("podman load -qi $BUSYBOX");
    assert_eq!(output("podman --runtime bulkhead run --rm busybox echo hello"), "hello");
    // Once more is no more.
    install("");
    assert_eq!(output("grep -c conf.d /etc/containerd/config.toml"), "1");
    install("--uninstall");
    assert!(!std::path::Path::new(PREFIX).exists());
    assert_ne!(sh("podman --runtime bulkhead run --rm busybox true").code, 0);
    assert!(!output("containerd config dump").contains("bulkhead"));
}
