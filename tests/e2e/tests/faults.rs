//! What is wrong is told clearly, and leaves nothing behind.

use bulkhead_e2e::machine::{listed, snapshot};
use bulkhead_e2e::shell::{background, output, sh};

/// Runs a script in a directory of its own, which must fail as Bulkhead's fault, with these words.
fn refused(script: &str, words: &[&str]) {
    let before = snapshot();
    let run = sh(&format!("t=$(mktemp -d); cd $t; trap 'rm -rf $t' EXIT; {script}"));
    assert_eq!(run.code, 125, "{script}\n{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in {}", run.stderr);
    }
    assert_eq!(snapshot(), before, "{script}");
}

/// Makes a docker archive of `layer.tar` in the working directory, with what else the image's JSON is to say.
fn archive(config: &str) -> String {
    format!(
        r#"digest=$(sha256sum layer.tar | cut -d' ' -f1)
        echo '{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:'$digest'"]}}}}' > config.json
        {config}
        echo '[{{"Config":"config.json","RepoTags":["bad:1"],"Layers":["layer.tar"]}}]' > manifest.json
        tar cf bad.tar config.json manifest.json layer.tar
        bulkhead run bad.tar true"#
    )
}

#[test]
fn what_is_no_image_is_refused() {
    refused("bulkhead run missing.tar true", &["missing.tar", "no such file"]);
    refused("head -c 100000 $BUSYBOX > cut.tar; bulkhead run cut.tar true", &["cut.tar"]);
    refused("echo hello > foreign; bulkhead run foreign true", &["foreign"]);
    refused("head -c 100000 /dev/urandom > noise; bulkhead run noise true", &["noise"]);
    refused("mkdir empty; bulkhead run empty true", &["empty"]);
    refused("bulkhead run $BUSYBOX:other true", &["other"]);
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
    let bomb = "mkdir -p l/blobs/sha256; truncate -s 4G zeros; tar cf - zeros | gzip -1 > layer.gz";
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
        bulkhead run l true"#
    );
    refused(&script, &["limit"]);
}

#[test]
fn a_full_disk_is_named() {
    refused(
        "mkdir data; mount -t tmpfs -o size=300k tmpfs data
         BULKHEAD_DATA_DIR=$t/data bulkhead run $BUSYBOX true; code=$?
         find data -type f >&2; umount data; exit $code",
        &["no space left"],
    );
}

#[test]
fn an_unknown_user_is_named() {
    refused("bulkhead run -u nobody-here $BUSYBOX true", &["nobody-here"]);
}

#[test]
fn options_that_cannot_be_are_named() {
    refused("bulkhead run -m 1m $BUSYBOX true", &["memory", "at least"]);
    refused("bulkhead run -m lots $BUSYBOX true", &["lots"]);
    refused("bulkhead run -w relative $BUSYBOX true", &["relative", "absolute"]);
    refused("bulkhead run --cap-add FLY $BUSYBOX true", &["FLY"]);
    refused("bulkhead run --env-file missing $BUSYBOX true", &["missing"]);
    refused("bulkhead run --security-opt seccomp=missing $BUSYBOX true", &["missing"]);
    refused("bulkhead run --name 'a b' $BUSYBOX true", &["a b"]);
    refused("bulkhead run --entrypoint '' $BUSYBOX", &["no command"]);
    refused("bulkhead run --privileged $BUSYBOX true", &["--privileged", "Usage"]);
}

/// A copy of the installation in `lib`, to be spoilt.
const COPY: &str = "cp -rL $(dirname $(readlink -f $(command -v bulkhead)))/../lib/bulkhead lib; export BULKHEAD_LIBDIR=$t/lib";

#[test]
fn an_installation_that_lacks_something_is_told() {
    refused(&format!("{COPY}; rm lib/vmlinux; bulkhead run $BUSYBOX true"), &["vmlinux not found"]);
    refused(&format!("{COPY}; echo none > lib/vmlinux; bulkhead run $BUSYBOX true"), &["kernel"]);
    refused(
        &format!("{COPY}; head -c 1000000 lib/vmlinux > k; mv k lib/vmlinux; bulkhead run $BUSYBOX true"),
        &[],
    );
}

#[test]
fn a_guest_kernel_that_panics_is_told_with_its_last_words() {
    refused(
        "BULKHEAD_KERNEL_ARGS='rdinit=/nowhere' bulkhead run $BUSYBOX true",
        &["booting the guest", "panic"],
    );
}

#[test]
fn a_guest_that_panics_while_it_runs_is_told() {
    let before = snapshot();
    let run = sh("bulkhead run --cap-add ALL --security-opt seccomp=unconfined $BUSYBOX sh -c \
                  'mount -o remount,rw /proc/sys 2>/dev/null; mkdir /p; mount -t proc proc /p && echo c > /p/sysrq-trigger; sleep 30'");
    if !run.stderr.contains("sysrq-trigger") {
        assert_eq!(run.code, 125, "{}", run.stderr);
        assert!(run.stderr.contains("panic"), "{}", run.stderr);
    }
    assert_eq!(snapshot(), before);
}

#[test]
fn the_vmm_killed_is_told_and_leaves_nothing() {
    let before = snapshot();
    let run = background("bulkhead run --name victim $BUSYBOX sh -c 'echo up; exec sleep 1000' 2>&1");
    output(&format!("kill -9 {}", listed("victim")["vmm_pid"]));
    assert_eq!(run.wait(), 125);
    assert_eq!(snapshot(), before);
}

#[test]
fn bulkhead_killed_at_any_moment_is_cleaned_up_by_the_next_command() {
    let before = snapshot();
    for delay in ["0.01", "0.05", "0.1", "0.2", "0.4", "0.8", "1.5", "3"] {
        sh(&format!(
            "bulkhead run $BUSYBOX sleep 1000 & sleep {delay}; kill -9 $!; wait $!; sleep 0.5; bulkhead ps"
        ));
        assert_eq!(snapshot(), before, "killed after {delay} s");
    }
}
