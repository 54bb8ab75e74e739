//! What is wrong is told clearly, and leaves nothing behind.

use bulkhead_e2e::machine::{assert_unchanged, listed, snapshot};
use bulkhead_e2e::shell::{background, output, sh};

/// Runs a script in a directory of its own, which must fail as Bulkhead's fault, with these words.
fn refused(script: &str, words: &[&str]) {
    let before = snapshot();
    let run = sh(&format!("t=$(mktemp -d); cd $t; trap 'rm -rf $t' EXIT; {script}"));
    assert_eq!(run.code, 125, "{script}\n{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in {}", run.stderr);
    }
    assert_unchanged(&before, script);
}

/// Makes a docker archive of `layer.tar` in the working directory, with what else the image's JSON is to say.
fn archive(config: &str) -> String {
    format!(
        r#"digest=$(sha256sum layer.tar | cut -d' ' -f1)
        echo '{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:'$digest'"]}}}}' > config.json
        {config}
        echo '[{{"Config":"config.json","RepoTags":["bad:1"],"Layers":["layer.tar"]}}]' > manifest.json
        tar cf bad.tar config.json manifest.json layer.tar
        bulkhead run --rm bad.tar true"#
    )
}

#[test]
fn what_is_no_image_is_refused() {
    refused("bulkhead run --rm missing.tar true", &["missing.tar", "no such file"]);
    refused("head -c 100000 $BUSYBOX > cut.tar; bulkhead run --rm cut.tar true", &["cut.tar"]);
    refused("echo hello > foreign; bulkhead run --rm foreign true", &["foreign"]);
    refused("head -c 100000 /dev/urandom > noise; bulkhead run --rm noise true", &["noise"]);
    refused("mkdir empty; bulkhead run --rm empty true", &["empty"]);
    refused("bulkhead run --rm $BUSYBOX:other true", &["other"]);
}

#[test]
fn a_layer_that_is_not_what_its_digest_says_is_refused() {
    let forge = "sed -i 's/sha256:[0-9a-f]\\{8\\}/sha256:00000000/' config.json";
    refused(
        &format!("echo x > file; tar cf layer.tar file; {}", archive(forge)),
        &["diff_id does not match"],
    );
}

#[test]
fn a_layer_that_climbs_out_is_refused_or_kept_in() {
    let climbing = "echo x > file; tar cPf layer.tar --transform 's,^file,../../escaped,' file";
    refused(&format!("{climbing}; {}", archive("")), &["escaped"]);
    let absolute = "echo x > file; tar cPf layer.tar --transform 's,^file,/tmp/bulkhead-escaped,' file";
    sh(&format!("t=$(mktemp -d); cd $t; {absolute}; {}", archive("")));
    assert_eq!(sh("test -e /tmp/bulkhead-escaped").code, 1);
}

#[test]
fn another_architectures_image_is_refused() {
    let other = "sed -i s/amd64/arm64/ config.json";
    refused(&format!("echo x > file; tar cf layer.tar file; {}", archive(other)), &["arm64"]);
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let bomb = "mkdir -p l/blobs/sha256; truncate -s 1280M zeros; tar cf - zeros | gzip -1 > layer.gz";
    let script = format!(
        r#"{bomb}
        put() {{ d=$(sha256sum $1 | cut -d' ' -f1); s=$(stat -c %s $1); mv $1 l/blobs/sha256/$d; echo '"digest":"sha256:'$d'","size":'$s; }}
        layer=$(put layer.gz)
        echo '{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:'$(printf 0%.0s $(seq 64))'"]}}}}' > config
        config=$(put config); type=application/vnd.oci.image
        echo '{{"schemaVersion":2,"config":{{"mediaType":"'$type'.config.v1+json",'$config'}},"layers":[{{"mediaType":"'$type'.layer.v1.tar+gzip",'$layer'}}]}}' > manifest
        manifest=$(put manifest)
        echo '{{"schemaVersion":2,"manifests":[{{"mediaType":"'$type'.manifest.v1+json",'$manifest'}}]}}' > l/index.json
        echo '{{"imageLayoutVersion":"1.0.0"}}' > l/oci-layout
        bulkhead run --rm l true"#
    );
    refused(&script, &["limit"]);
}

#[test]
fn a_full_disk_is_named() {
    refused(
        "mkdir data; mount -t tmpfs -o size=300k tmpfs data
         BULKHEAD_DATA_DIR=$t/data bulkhead run --rm $BUSYBOX true; code=$?
         find data -type f >&2; umount data; exit $code",
        &["no space left"],
    );
}

#[test]
fn a_disk_that_fills_while_files_are_copied_is_named() {
    refused(
        "trap 'bulkhead rm -f box >/dev/null 2>&1; rm -r $t' EXIT
         bulkhead run -d --name box --storage 128m $BUSYBOX sleep 1000 >/dev/null
         yes | head -c 150M > large; bulkhead cp -q large box:/large",
        &["\"/large\" in the container", "No space left"],
    );
    refused(
        "trap 'bulkhead rm -f box >/dev/null 2>&1; umount small; rm -r $t' EXIT
         mkdir small; mount -t tmpfs -o size=300k tmpfs small
         bulkhead run -d --name box $BUSYBOX sleep 1000 >/dev/null
         bulkhead exec box dd if=/dev/zero of=/large bs=1M count=1 2>/dev/null; bulkhead cp -q box:/large small/",
        &["large", "space left"],
    );
}

#[test]
fn an_unknown_user_is_named() {
    refused("bulkhead run --rm -u nobody-here $BUSYBOX true", &["nobody-here"]);
}

#[test]
fn options_that_cannot_be_are_named() {
    refused("bulkhead run --rm -m 1m $BUSYBOX true", &["memory", "at least"]);
    refused("bulkhead run --rm -m lots $BUSYBOX true", &["lots"]);
    refused("bulkhead run --rm -w relative $BUSYBOX true", &["relative", "absolute"]);
    refused("bulkhead run --rm --cap-add FLY $BUSYBOX true", &["FLY"]);
    refused("bulkhead run --rm --env-file missing $BUSYBOX true", &["missing"]);
    refused("bulkhead run --rm --security-opt seccomp=missing $BUSYBOX true", &["missing"]);
    refused("bulkhead run --rm --name 'a b' $BUSYBOX true", &["a b"]);
    refused("bulkhead run --rm --entrypoint '' $BUSYBOX", &["no command"]);
    refused("bulkhead run --rm --no-such-option $BUSYBOX true", &["--no-such-option", "Usage"]);
    refused("bulkhead run --rm --restart always $BUSYBOX true", &["--rm", "--restart"]);
    refused("bulkhead run --rm --privileged $BUSYBOX true", &["--privileged", "not yet"]);
    refused("bulkhead run --rm -p 80:80 $BUSYBOX true", &["--publish", "not yet", "networking"]);
    refused("bulkhead run --rm -v /a:/b $BUSYBOX true", &["--volume", "not yet", "volumes"]);
}

/// A copy of the installation in `lib`, to be spoilt.
const COPY: &str = "cp -rL $(dirname $(readlink -f $(command -v bulkhead)))/../lib/bulkhead lib; export BULKHEAD_LIBDIR=$t/lib";

#[test]
fn an_installation_that_lacks_something_is_told() {
    refused(&format!("{COPY}; rm lib/vmlinux; bulkhead run --rm $BUSYBOX true"), &["vmlinux not found"]);
    refused(&format!("{COPY}; echo none > lib/vmlinux; bulkhead run --rm $BUSYBOX true"), &["kernel"]);
    refused(
        &format!(
            "{COPY}; head -c 1000000 lib/vmlinux > k; mv k lib/vmlinux; bulkhead run --rm $BUSYBOX true"
        ),
        &[],
    );
}

#[test]
fn a_guest_kernel_that_panics_is_told_with_its_last_words() {
    refused(
        "BULKHEAD_KERNEL_ARGS='rdinit=/nowhere' bulkhead run --rm $BUSYBOX true",
        &["booting the guest", "panic"],
    );
}

#[test]
fn a_guest_that_panics_while_it_runs_is_told() {
    let before = snapshot();
    let run = sh("bulkhead run --rm --cap-add ALL --security-opt seccomp=unconfined $BUSYBOX sh -c \
                  'mount -o remount,rw /proc/sys 2>/dev/null; mkdir /p; mount -t proc proc /p && echo c > /p/sysrq-trigger; sleep 30'");
    if !run.stderr.contains("sysrq-trigger") {
        assert_eq!(run.code, 125, "{}", run.stderr);
        assert!(run.stderr.contains("panic"), "{}", run.stderr);
    }
    assert_unchanged(&before, "something is left");
}

#[test]
fn the_vmm_killed_is_told_and_leaves_nothing() {
    let before = snapshot();
    let run = background("bulkhead run --rm --name victim $BUSYBOX sh -c 'echo up; exec sleep 1000' 2>&1");
    output(&format!("kill -9 {}", listed("victim")["VmmPid"]));
    assert_eq!(run.wait(), 125);
    assert_unchanged(&before, "something is left");
}

/// The process that keeps a container, as pgrep(1) finds it.
const SUPERVISOR: &str = "-x -f '[^ ]*bulkhead supervise .*'";

/// Waits until those killed are gone: a signal is sent sooner than it has done its work.
const GONE: &str = "while pgrep -x bulkhead >/dev/null; do sleep 0.1; done";

#[test]
fn a_supervisor_killed_at_any_moment_leaves_a_container_that_says_so() {
    let before = snapshot();
    for delay in ["0.05", "0.2", "0.8", "1.5", "3"] {
        let run = sh(&format!(
            "bulkhead run --name killed $BUSYBOX sleep 1000 & sleep {delay}
             pkill -9 {SUPERVISOR}; pkill -9 -x bulkhead; wait $!; {GONE}
             bulkhead ps -a --format '{{{{.State}}}} {{{{.Status}}}}'; bulkhead rm killed >&2"
        ));
        let states = ["", "created Created", "exited Exited (137)"];
        let known = states
            .iter()
            .any(|state| run.stdout.starts_with(state) && state.is_empty() == run.stdout.is_empty());
        assert!(known, "killed after {delay} s: {run:?}");
        assert_unchanged(&before, &format!("killed after {delay} s"));
    }
}

#[test]
fn whoever_waits_is_told_that_the_supervisor_was_killed() {
    let before = snapshot();
    let run = background("bulkhead run --rm --name victim $BUSYBOX sh -c 'echo up; exec sleep 1000'");
    output(&format!("pkill -9 {SUPERVISOR}"));
    assert_eq!(run.wait(), 125);
    output(&format!("{GONE}; bulkhead ps -a"));
    assert_unchanged(&before, "the supervisor was killed");
}

#[test]
fn a_killed_command_leaves_its_container_running() {
    let before = snapshot();
    let run = background("bulkhead run --rm --name orphan $BUSYBOX sh -c 'echo up; exec sleep 1000'");
    output("pkill -9 -x -f 'bulkhead run .*'");
    run.wait();
    assert_eq!(output("bulkhead ps --format '{{.Names}} {{.State}}'"), "orphan running");
    assert_eq!(output("bulkhead logs orphan"), "up");
    assert_eq!(output("bulkhead stop -t 0 orphan"), "orphan");
    assert_unchanged(&before, "the command was killed");
}
