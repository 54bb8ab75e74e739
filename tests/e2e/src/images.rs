//! The images the suites run, made of Debian's packages by the tools their users have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub struct Images {
    /// A docker archive of busybox-static with all its applets, by umoci and skopeo.
    pub busybox: PathBuf,
    /// An OCI layout of a small Debian with Python, by umoci.
    pub python: PathBuf,
    /// The layout the archive was made of, with the tags `busybox` and `pause` beside `latest`.
    pub busybox_layout: PathBuf,
}

/// Where the machine keeps the root file systems that images are made of.
const ROOTFS_VARIABLE: &str = "BULKHEAD_TEST_IMAGES";

const MAKE: &str = r#"
set -euo pipefail
cd "$1"
mkdir -p root/bin root/dev root/etc root/proc root/root root/sys root/tmp root/var
chmod 1777 root/tmp
printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1234:1234:web:/home/web:/bin/sh\n' > root/etc/passwd
printf 'root:x:0:\nweb:x:1234:\nextra:x:77:web\n' > root/etc/group
cp /bin/busybox root/bin/
for applet in $(/bin/busybox --list); do [ -e root/bin/$applet ] || ln -s busybox root/bin/$applet; done
tar -C root --numeric-owner --owner=0 --group=0 -cf busybox-root.tar .

layout() { # LAYOUT ROOTFS
    umoci init --layout "$1"
    umoci new --image "$1:latest"
    umoci raw add-layer --image "$1:latest" "$2"
}
layout busybox busybox-root.tar
umoci config --image busybox:latest --config.cmd sh --config.env PATH=/bin --config.env FROM=image
skopeo --insecure-policy copy -q oci:busybox:latest docker-archive:busybox.tar:busybox:latest
# A pod's pause container is one of these, with a command that stays.
umoci tag --image busybox:latest busybox
umoci config --image busybox:latest --tag pause --config.cmd sleep --config.cmd 1000000
layout python "$2/debian-python.tar"
umoci config --image python:latest --config.cmd python3
"#;

/// Made once for a suite, in a directory that is left to the machine.
pub fn images() -> &'static Images {
    static IMAGES: OnceLock<Images> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory").keep();
        make(&directory);
        let path = |name: &str| directory.join(name);
        Images { busybox: path("busybox.tar"), python: path("python"), busybox_layout: path("busybox") }
    })
}

fn make(directory: &Path) {
    let rootfs = std::env::var(ROOTFS_VARIABLE).expect("BULKHEAD_TEST_IMAGES names the root file systems");
    let made =
        Command::new("bash").args(["-c", MAKE, "bash"]).arg(directory).arg(rootfs).output().expect("bash");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
