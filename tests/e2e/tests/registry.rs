//! Images from and to a registry, beside the tools people have: Debian's docker-registry on loopback, plain and with
//! TLS and a password; pushed by skopeo, run and changed by Bulkhead, run again by podman.

use bulkhead_e2e::shell::{Background, background, output, sh};

/// A registry that is up until this is dropped.
struct Registry {
    _server: Background,
    host: &'static str,
    /// Where its configuration, its images and its pid are.
    directory: String,
}

const PASSWORD: &str = "correct horse";

/// Writes a registry's configuration, and what it needs, to a directory that the script's last line names.
const CONFIGURE: &str = r#"
set -e
d=$(mktemp -d)
cat > $d/config.yml <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $d/data}, delete: {enabled: true}}
END
"#;

const PLAIN: &str = r#"
echo 'http: {addr: "127.0.0.1:5000"}' >> $d/config.yml
"#;

const GUARDED: &str = r#"
new_key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
openssl req -x509 $new_key -days 30 -subj /CN=authority -keyout $d/ca.key -out $d/ca.crt 2>/dev/null
openssl req $new_key -subj /CN=localhost -keyout $d/key.pem -out $d/request 2>/dev/null
echo subjectAltName=DNS:localhost,IP:127.0.0.1 > $d/names
openssl x509 -req -in $d/request -CA $d/ca.crt -CAkey $d/ca.key -days 30 -extfile $d/names -out $d/cert.pem 2>/dev/null
mkdir -p /etc/docker/certs.d/localhost:5443
cp $d/ca.crt /etc/docker/certs.d/localhost:5443/
htpasswd -Bbn ann "$PASSWORD" > $d/users
cat >> $d/config.yml <<END
http: {addr: "127.0.0.1:5443", tls: {certificate: $d/cert.pem, key: $d/key.pem}}
auth: {htpasswd: {realm: lab, path: $d/users}}
END
"#;

impl Registry {
    fn plain() -> Self {
        Self::serve("localhost:5000", PLAIN, "http://127.0.0.1:5000/v2/")
    }

    fn guarded() -> Self {
        Self::serve("localhost:5443", GUARDED, "--insecure https://127.0.0.1:5443/v2/")
    }

    fn serve(host: &'static str, configure: &str, url: &str) -> Self {
        let directory = output(&format!("PASSWORD='{PASSWORD}'{CONFIGURE}{configure}echo $d"));
        let up = format!("until curl -s -o /dev/null {url}; do sleep 0.1; done; echo up");
        let serve = format!(
            "bash -c 'docker-registry serve {directory}/config.yml >{directory}/log 2>&1 & echo $! > {directory}/pid; {up}; wait'"
        );
        Self { _server: background(&serve), host, directory }
    }

    /// Runs a script with `$R` this registry, in a directory of its own.
    fn with(&self, script: &str) -> String {
        let host = self.host;
        output(&format!(
            "set -e -o pipefail; R={host}; PASSWORD='{PASSWORD}'; export STORAGE_DRIVER=vfs
             t=$(mktemp -d); cd $t; trap 'bulkhead rm -f changed >/dev/null 2>&1; rm -rf $t' EXIT
             {script}"
        ))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let directory = &self.directory;
        let end = "kill $p; while kill -0 $p 2>/dev/null; do sleep 0.1; done";
        let _ = sh(&format!("p=$(cat {directory}/pid); {end}; rm -r {directory}"));
    }
}

/// From skopeo to Bulkhead, changed, and on to podman; the digests agree all along.
const ROUND_TRIP: &str = r#"
    skopeo --insecure-policy copy -q $TO docker-archive:$BUSYBOX docker://$R/busybox:1
    digest=$(skopeo inspect $AT --format '{{.Digest}}' docker://$R/busybox:1)
    bulkhead pull $R/busybox:1 | grep -q "^Digest: $digest$" && echo pulled
    test "$(bulkhead images --digests --format '{{.Digest}}' $R/busybox)" = $digest && echo the same digest
    bulkhead pull $R/busybox:1 | grep "^Status:"
    bulkhead run --name changed $R/busybox:1 sh -c 'echo mine > /mine; rm /bin/vi; echo ran'
    bulkhead commit -m changed -c 'CMD ["cat", "/mine"]' changed $R/mine:1 >/dev/null
    pushed=$(bulkhead push $R/mine:1 | sed -n 's/^1: digest: \(sha256:[0-9a-f]*\) size: .*/\1/p')
    test "$(skopeo inspect $AT --format '{{.Digest}}' docker://$R/mine:1)" = $pushed && echo pushed
    podman pull -q $AT $R/mine:1 >/dev/null
    test "$(podman image inspect --format '{{.Digest}}' $R/mine:1)" = $pushed && echo the same again
    podman run --rm --network none $R/mine:1
    podman run --rm --network none $R/mine:1 sh -c 'test -e /bin/vi || echo no vi'
    podman rmi $R/mine:1 >/dev/null
    bulkhead rm changed >/dev/null; bulkhead rmi $R/mine:1 $R/busybox:1 >/dev/null; bulkhead images -q $R/mine
    bulkhead run --rm $R/mine:1
"#;

const TOLD: &str = "pulled
the same digest
Status: Image is up to date for HOST/busybox:1
ran
pushed
the same again
mine
no vi
mine";

#[test]
fn an_image_goes_round_by_a_plain_registry() {
    let registry = Registry::plain();
    let script = format!("TO=--dest-tls-verify=false; AT=--tls-verify=false; {ROUND_TRIP}");
    assert_eq!(registry.with(&script), TOLD.replace("HOST", registry.host));
}

#[test]
fn an_image_goes_round_by_a_registry_with_tls_and_a_password() {
    let registry = Registry::guarded();
    assert_eq!(
        registry.with(
            r#"bulkhead logout $R >/dev/null 2>&1 || true
               bulkhead pull -q $R/busybox:1 2>message || echo refused with $?
               grep -q "bulkhead login $R" message && echo told to log in
               echo wrong | bulkhead login -u ann --password-stdin $R 2>/dev/null || echo wrong password
               printf %s "$PASSWORD" | bulkhead login -u ann --password-stdin $R 2>/dev/null"#
        ),
        "refused with 125\ntold to log in\nwrong password\nLogin Succeeded"
    );
    let script = format!("TO=; AT=; {ROUND_TRIP}");
    assert_eq!(registry.with(&script), TOLD.replace("HOST", registry.host));
    let logged_out = r#"bulkhead logout $R; bulkhead rmi $R/mine:1 >/dev/null
        bulkhead pull -q $R/mine:1 2>/dev/null || echo refused"#;
    let expected = format!("Removing login credentials for {}\nrefused", registry.host);
    assert_eq!(registry.with(logged_out), expected);
}

#[test]
fn what_is_saved_is_byte_for_byte_what_was_pulled() {
    let registry = Registry::plain();
    let script = r#"
        skopeo --insecure-policy copy -q --dest-tls-verify=false docker-archive:$BUSYBOX docker://$R/busybox:2
        bulkhead pull -q $R/busybox:2
        bulkhead save -o saved.tar $R/busybox:2
        skopeo inspect --raw --tls-verify=false docker://$R/busybox:2 > pulled
        skopeo inspect --raw oci-archive:saved.tar > saved; cmp pulled saved && echo the same manifest
        bulkhead rmi $R/busybox:2 >/dev/null
        bulkhead load -i saved.tar
        bulkhead rmi $R/busybox:2 >/dev/null"#;
    let host = registry.host;
    let expected = format!("{host}/busybox:2\nthe same manifest\nLoaded image: {host}/busybox:2");
    assert_eq!(registry.with(script), expected);
}

#[test]
fn what_the_registry_does_not_have_is_named_with_what_to_do() {
    let registry = Registry::plain();
    let script = r#"bulkhead pull $R/nothing:1 2>&1 >/dev/null || true
        bulkhead run --pull never $R/nothing:1 2>&1 || true"#;
    let told = registry.with(script);
    assert!(told.contains("localhost:5000/nothing:1"), "{told}");
    assert!(told.contains("bulkhead pull localhost:5000/nothing:1"), "{told}");
}
