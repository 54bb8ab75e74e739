//! Root file systems that containerd's snapshotters have on disks, and block devices of the host by path: the guest has them
//! as disks, and the host looks into neither.

use bulkhead_e2e::engines::{Containerd, podman_images};
use bulkhead_e2e::machine::{assert_unchanged, snapshot};
use bulkhead_e2e::shell::output;

const BOTH: [Containerd; 2] = [Containerd::Debians, Containerd::Next];

/// Snapshots in image files, which are copies of an empty one.
const BLOCKFILE: Snapshotter = Snapshotter {
    name: "blockfile",
    of: &BOTH,
    prepare: "truncate -s 48M /var/lib/empty.ext4; mkfs.ext4 -q /var/lib/empty.ext4",
    configuration: r#"
        scratch_file = "/var/lib/empty.ext4"
        fs_type = "ext4"
        recreate_scratch = true"#,
};

/// The least that mkfs.xfs(8) makes.
const BLOCKFILE_OF_XFS: Snapshotter = Snapshotter {
    of: &[Containerd::Debians],
    prepare: "truncate -s 300M /var/lib/empty.xfs; mkfs.xfs -q /var/lib/empty.xfs",
    configuration: r#"
        scratch_file = "/var/lib/empty.xfs"
        fs_type = "xfs"
        mount_options = ["loop", "nouuid"]
        recreate_scratch = true"#,
    ..BLOCKFILE
};

/// Snapshots of a thin pool.
const DEVMAPPER: Snapshotter = Snapshotter {
    name: "devmapper",
    of: &BOTH,
    // Nobody here makes the names of devices but dmsetup itself, containerd's too, if it is told so.
    prepare: r#"
        modprobe dm-thin-pool
        printf '#!/bin/sh\nDM_DISABLE_UDEV=1 exec /usr/sbin/dmsetup "$@"\n' > /usr/local/sbin/dmsetup
        chmod +x /usr/local/sbin/dmsetup
        device() { truncate -s $2 /var/lib/pool.$1; losetup -f --show /var/lib/pool.$1; }
        data=$(device data 512M); meta=$(device meta 16M)
        dmsetup create e2e-pool --table "0 $((512 * 2048)) thin-pool $meta $data 128 32768 1 skip_block_zeroing""#,
    configuration: r#"
        pool_name = "e2e-pool"
        root_path = "/var/lib/devmapper"
        base_image_size = "64MB"
        fs_type = "ext4"
        discard_blocks = true"#,
};

/// Layers in image files; what is written goes to a directory.
const EROFS: Snapshotter =
    Snapshotter { name: "erofs", of: &[Containerd::Next], prepare: "modprobe erofs", configuration: "" };

struct Snapshotter {
    name: &'static str,
    /// Who has it.
    of: &'static [Containerd],
    /// Makes on the machine what it needs, once.
    prepare: &'static str,
    /// Its section of containerd's configuration.
    configuration: &'static str,
}

impl Snapshotter {
    fn configuration(&self) -> String {
        let Self { name, configuration, .. } = self;
        format!("version = 2\n[plugins.\"io.containerd.snapshotter.v1.{name}\"]{configuration}\n")
    }

    /// With `run` for our runtime and these snapshots, and `mounted` to look into one from the host.
    fn script(&self, containerd: Containerd, text: &str) -> String {
        let (ctr, name) = (containerd.ctr(), self.name);
        format!(
            r#"ctr={ctr}; busybox=localhost/busybox:latest
            run() {{ $ctr run --runtime io.containerd.bulkhead.v2 --snapshotter {name} "$@"; }}
            mounted() {{ t=$(mktemp -d); $ctr snapshot --snapshotter {name} mounts $t $1 | sed "s/ -o *$//" | sh; cat $t/$2; umount $t; rmdir $t; }}
            {text}"#
        )
    }

    /// Runs a test's body with each containerd, which leaves nothing.
    fn with_each(&self, body: impl Fn(&dyn Fn(&str) -> String)) {
        output(self.prepare);
        for &containerd in self.of {
            let daemon = containerd.start(&self.configuration());
            let script = |text: &str| self.script(containerd, text);
            // The first start unpacks the image, and makes the template.
            output(&script("run --rm $busybox first true"));
            let before = snapshot();
            body(&script);
            assert_unchanged(&before, &format!("{}, {containerd:?}", self.name));
            drop(daemon);
        }
    }
}

fn a_root_is_a_disk(snapshotter: &Snapshotter) {
    snapshotter.with_each(|script| {
        output(&script("run -d $busybox task sh -c 'echo kept > /kept; while :; do sleep 1; done'"));
        let root = output(&script("$ctr task exec --exec-id e1 task grep ' / ' /proc/mounts"));
        assert!(root.starts_with("/dev/vd") && root.contains(" ext4 rw"), "{root}");
        // In no mount namespace of the host, and by no loop device that is the snapshot's.
        let source = output(&script(&format!(
            "$ctr snapshot --snapshotter {} mounts / task | grep -o '/[^ ]*' | head -n 1",
            snapshotter.name
        )));
        let used = format!("cat /proc/[0-9]*/mountinfo 2>/dev/null | grep -F {source}; losetup -nO BACK-FILE | grep -F {source}; true");
        assert_eq!(output(&used), "");
        output(&script(
            "$ctr task exec --exec-id e2 task grep -q kept /kept; $ctr task kill -s KILL task
            while $ctr task ls | grep -q 'task.*RUNNING'; do sleep 0.1; done; $ctr task delete task; true",
        ));
        assert_eq!(output(&script("mounted task kept")), "kept");
        output(&script("$ctr container rm task"));
    });
}

fn what_was_written_is_there_when_it_runs_again(snapshotter: &Snapshotter) {
    snapshotter.with_each(|script| {
        output(&script("run $busybox twice sh -c 'cat /runs; echo run >> /runs; true' 2>/dev/null"));
        assert_eq!(output(&script("$ctr task start twice")), "run");
        assert_eq!(output(&script("mounted twice runs; $ctr container rm twice")), "run\nrun");
    });
}

fn a_view_is_read_only_at_the_host(snapshotter: &Snapshotter) {
    snapshotter.with_each(|script| {
        // ctr(8) makes containers of snapshots to be written to; a view takes the place of one.
        let view = format!(
            r#"$ctr container create --runtime io.containerd.bulkhead.v2 --snapshotter {name} $busybox view sh -c \
                "cut -d ' ' -f 2-4 /proc/mounts | grep '^/ '; sort -u /sys/block/vd*/ro; touch /new 2>/dev/null || echo refused"
            snapshot="$ctr snapshot --snapshotter {name}"
            $snapshot rm view; $snapshot view view $($snapshot ls | awk '$NF == "Committed" {{ print $1 }}') >/dev/null
            $ctr task start view; $ctr container rm view"#,
            name = snapshotter.name
        );
        let told = output(&script(&view));
        let lines: Vec<_> = told.lines().collect();
        assert!(lines.first().is_some_and(|root| root.starts_with("/ overlay ro")), "{told}");
        assert_eq!(lines.get(1..), Some(&["1", "refused"][..]), "{told}");
    });
}

#[test]
fn a_view_of_a_disk_is_read_only_at_the_host() {
    a_view_is_read_only_at_the_host(&BLOCKFILE);
    a_view_is_read_only_at_the_host(&EROFS);
}

#[test]
fn a_snapshot_in_an_image_file_is_mounted_by_the_guest_alone() {
    a_root_is_a_disk(&BLOCKFILE);
}

#[test]
fn an_image_file_has_what_a_container_wrote() {
    what_was_written_is_there_when_it_runs_again(&BLOCKFILE);
}

#[test]
fn an_image_file_of_xfs_has_what_a_container_wrote() {
    what_was_written_is_there_when_it_runs_again(&BLOCKFILE_OF_XFS);
}

#[test]
fn a_thin_snapshot_is_mounted_by_the_guest_alone_and_has_what_was_written() {
    a_root_is_a_disk(&DEVMAPPER);
    what_was_written_is_there_when_it_runs_again(&Snapshotter { prepare: "true", ..DEVMAPPER });
}

/// With `$device`, of 8 MiB that begin with `hello`, and `reads` for what they begin with afterwards.
fn with_device(text: &str) -> String {
    format!(
        r#"t=$(mktemp); printf hello > $t; truncate -s 8M $t; device=$(losetup -f --show $t)
        trap 'losetup -d $device; rm $t' EXIT
        reads() {{ head -c 5 $device; echo; }}
        {text}"#
    )
}

#[test]
fn a_block_device_is_the_containers_by_its_path() {
    BLOCKFILE.with_each(|script| {
        let used = script(&with_device(
            r#"chmod 0640 $device; chown 0:77 $device
            run --rm --device $device $busybox device sh -c \
                "stat -c '%F %a %u:%g' $device; head -c 5 $device; echo; echo BYE12 | dd of=$device conv=notrunc 2>/dev/null"
            reads"#,
        ));
        assert_eq!(output(&used), "block special file 640 0:77\nhello\nBYE12");
    });
}

#[test]
fn a_disk_that_was_not_given_stays_shut() {
    BLOCKFILE.with_each(|script| {
        let opened = script(&with_device(
            r#"run --rm --device $device $busybox shut sh -c \
                'for number in $(cat /sys/block/vd*/dev); do
                    mknod /dev/node b ${number/:/ }; head -c 5 /dev/node 2>/dev/null && echo || echo refused; rm /dev/node
                done' | sort -u"#,
        ));
        assert_eq!(output(&opened), "hello\nrefused");
    });
}

#[test]
fn a_device_that_may_be_read_alone_is_read_only_at_the_host() {
    podman_images();
    let used = with_device(
        r#"podman --runtime $(command -v bulkhead-oci) run --rm --device $device:/dev/data:r busybox sh -c \
            'head -c 5 /dev/data; echo
            echo BYE12 > /dev/data || echo refused' 2>/dev/null
        reads"#,
    );
    assert_eq!(output(&used), "hello\nrefused\nhello");
}
