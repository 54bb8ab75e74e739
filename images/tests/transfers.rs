//! Images from a registry and back to one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails so")]

#[path = "support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "as the other suites' support")]
mod server;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use images::registry::{Configuration, CredentialStores, Registries, Repository, Sleeping};
use images::store::{Progress, PullOptions, Pulled};
use images::{Limits, Name, Platform, Sha256};
use serde_json::{Value, json};
use server::{Answer, Asked, Server};
use support::tarball::Tarball;
use support::{Fixture, GZIP, gzip, sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a registry has, by repository and tag or digest.
type Shelf<T> = Arc<Mutex<BTreeMap<(String, String), T>>>;

/// A registry that believes everything.
#[derive(Clone, Default)]
struct Registry {
    blobs: Shelf<Vec<u8>>,
    /// With their media types.
    manifests: Shelf<(String, Vec<u8>)>,
}

impl Registry {
    fn answer(&self, asked: &Asked) -> Answer {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let Some(path) = path.strip_prefix("/v2/") else { return Answer::new(404) };
        if let Some((repository, reference)) = path.split_once("/manifests/") {
            return self.manifest(asked, repository, reference);
        }
        if let Some((repository, rest)) = path.split_once("/blobs/uploads/") {
            return self.upload(asked, repository, rest, query);
        }
        let Some((repository, digest)) = path.split_once("/blobs/") else { return Answer::ok("{}") };
        match self.blobs.lock().unwrap().get(&(repository.to_owned(), digest.to_owned())) {
            Some(blob) => Answer::range(asked, blob),
            None => Answer::new(404),
        }
    }

    fn manifest(&self, asked: &Asked, repository: &str, reference: &str) -> Answer {
        let key = (repository.to_owned(), reference.to_owned());
        if asked.method == "PUT" {
            let media_type = asked.header("content-type").unwrap();
            self.put_manifest(repository, reference, media_type, &asked.body);
            return Answer::new(201);
        }
        match self.manifests.lock().unwrap().get(&key) {
            Some((media_type, bytes)) => Answer::ok(bytes).header("content-type", media_type),
            None => Answer::new(404),
        }
    }

    fn upload(&self, asked: &Asked, repository: &str, id: &str, query: &str) -> Answer {
        let parameter = |key: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")));
            value.map(|value| value.replace("%3A", ":").replace("%2F", "/"))
        };
        let mut blobs = self.blobs.lock().unwrap();
        if let (Some(digest), Some(from)) = (parameter("mount"), parameter("from"))
            && let Some(blob) = blobs.get(&(from, digest.clone())).cloned()
        {
            blobs.insert((repository.to_owned(), digest), blob);
            return Answer::new(201);
        }
        let location = format!("/v2/{repository}/blobs/uploads/1");
        let part = blobs.entry((repository.to_owned(), "upload".to_owned())).or_default();
        if id.is_empty() {
            part.clear();
        }
        part.extend(&asked.body);
        match parameter("digest") {
            Some(digest) => {
                let whole = std::mem::take(part);
                blobs.insert((repository.to_owned(), digest), whole);
                Answer::new(201)
            }
            None => Answer::new(202).header("location", &location),
        }
    }

    fn put_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) {
        let mut manifests = self.manifests.lock().unwrap();
        for reference in [reference.to_owned(), sha256(bytes)] {
            manifests.insert((repository.to_owned(), reference), (media_type.to_owned(), bytes.to_vec()));
        }
    }

    fn put_blob(&self, repository: &str, blob: &[u8]) -> Value {
        self.blobs.lock().unwrap().insert((repository.to_owned(), sha256(blob)), blob.to_vec());
        json!({ "mediaType": GZIP, "digest": sha256(blob), "size": blob.len() })
    }

    /// Adds an image of layers with a file each; its manifest's descriptor.
    fn add(&self, repository: &str, architecture: &str, files: &[&str]) -> Value {
        let tars: Vec<Vec<u8>> =
            files.iter().map(|file| Tarball::default().file(file, file.as_bytes()).finish()).collect();
        let layers: Vec<Value> = tars.iter().map(|tar| self.put_blob(repository, &gzip(tar))).collect();
        let configuration = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": tars.iter().map(|tar| sha256(tar)).collect::<Vec<_>>() },
        });
        let mut config = self.put_blob(repository, configuration.to_string().as_bytes());
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
        self.put_manifest(repository, "untagged", MANIFEST, manifest.as_bytes());
        json!({
            "mediaType": MANIFEST, "digest": sha256(manifest.as_bytes()), "size": manifest.len(),
            "platform": { "os": "linux", "architecture": architecture },
        })
    }

    fn add_index(&self, repository: &str, tag: &str, entries: &[Value]) -> String {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
        self.put_manifest(repository, tag, INDEX, index.as_bytes());
        sha256(index.as_bytes())
    }
}

/// A registry, its server, and a store on this side.
struct World {
    registry: Registry,
    server: Server,
    fixture: Fixture,
}

impl World {
    fn new() -> World {
        let registry = Registry::default();
        let answering = registry.clone();
        let server = Server::new(move |asked| answering.answer(asked));
        World { registry, server, fixture: Fixture::new() }
    }

    fn name(&self, rest: &str) -> Name {
        Name::parse(&format!("{}/{rest}", self.server.host)).unwrap()
    }

    fn repository(&self, name: &Name) -> Repository {
        let mut configuration = Configuration::default();
        configuration.certificates.clear();
        let stores = CredentialStores::new([None::<std::path::PathBuf>]);
        Registries::open(configuration, stores, Arc::new(Sleeping)).repository(name)
    }

    fn pull(&self, rest: &str) -> Result<Pulled, String> {
        self.pull_with(rest, &PullOptions { platform: support::amd64(), ..PullOptions::default() }, &())
    }

    fn pull_with(
        &self,
        rest: &str,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Pulled, String> {
        let name = self.name(rest);
        let pulled = self.fixture.store().pull(&name, &self.repository(&name), options, progress);
        pulled.map_err(|error| error.to_string())
    }

    fn count(&self, what: &str) -> usize {
        self.server.lines().iter().filter(|line| line.contains(what)).count()
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.fixture.path("store/layers")).unwrap().count()
    }
}

/// Remembers what was told, in the order it was.
#[derive(Default)]
struct Told(Mutex<Vec<(Sha256, &'static str, u64)>>);

impl Progress for Told {
    fn exists(&self, layer: &Sha256) {
        self.0.lock().unwrap().push((*layer, "exists", 0));
    }
    fn begin(&self, layer: &Sha256, size: u64) {
        self.0.lock().unwrap().push((*layer, "begin", size));
    }
    fn bytes(&self, layer: &Sha256, bytes: u64) {
        self.0.lock().unwrap().push((*layer, "bytes", bytes));
    }
    fn done(&self, layer: &Sha256) {
        self.0.lock().unwrap().push((*layer, "done", 0));
    }
}

#[test]
fn a_pull_chooses_the_platform_and_reads_each_layer_once() {
    let world = World::new();
    let entries = [
        world.registry.add("app", "arm64", &["arm"]),
        world.registry.add("app", "amd64", &["base", "one", "base"]),
    ];
    let index = world.registry.add_index("app", "v1", &entries);
    let told = Told::default();
    let options = PullOptions { platform: support::amd64(), ..PullOptions::default() };
    let pulled = world.pull_with("app:v1", &options, &told).unwrap();
    assert_eq!(pulled.digest.to_string(), index);
    assert_eq!(pulled.image.manifest().digest().to_string(), entries[1]["digest"].as_str().unwrap());
    assert_eq!(pulled.image.names(), [world.name("app:v1")]);
    assert_eq!(pulled.image.digests(), [world.name(&format!("app@{index}"))]);
    assert!(pulled.is_new);
    let store = world.fixture.store();
    assert_eq!(store.find(&format!("{}/app@{index}", world.server.host)).unwrap().id(), pulled.image.id());
    store.disk(&pulled.image, &Limits::default()).unwrap();
    store.verify().unwrap();
    // The configuration and two layers, each once.
    assert_eq!(world.count("/blobs/"), 3);
    let told = told.0.into_inner().unwrap();
    for layer in &pulled.image.layers()[..2] {
        let of_layer: Vec<_> = told.iter().filter(|(other, ..)| *other == layer.digest).collect();
        assert_eq!(of_layer.first().map(|told| (told.1, told.2)), Some(("begin", layer.size)));
        assert_eq!(of_layer.iter().rev().nth(1).map(|told| (told.1, told.2)), Some(("bytes", layer.size)));
        assert_eq!(of_layer.last().map(|told| told.1), Some("done"));
    }
    // What is here is not asked for again.
    let told = Told::default();
    assert!(!world.pull_with("app:v1", &options, &told).unwrap().is_new);
    assert_eq!(world.count("/blobs/"), 3);
    assert!(told.0.into_inner().unwrap().iter().all(|told| told.1 == "exists"));
    // An image with a layer more costs that layer.
    let more = world.registry.add("app", "amd64", &["base", "one", "two"]);
    world.registry.add_index("app", "v2", &[more]);
    world.pull("app:v2").unwrap();
    assert_eq!((world.count("/blobs/"), world.layers()), (5, 3));
}

#[test]
fn another_platform_is_pulled_when_asked_for() {
    let world = World::new();
    let entries =
        [world.registry.add("app", "arm64", &["arm"]), world.registry.add("app", "amd64", &["intel"])];
    world.registry.add_index("app", "latest", &entries);
    let options = PullOptions { platform: "linux/arm64".parse().unwrap(), ..PullOptions::default() };
    let pulled = world.pull_with("app", &options, &()).unwrap();
    assert_eq!(pulled.image.platform().to_string(), "linux/arm64");
    let options = PullOptions { platform: Platform { variant: None, ..options.platform }, ..options };
    world.pull_with("app", &options, &()).unwrap();
    let none = PullOptions { platform: "linux/riscv64".parse().unwrap(), ..options };
    let error = world.pull_with("app", &none, &()).unwrap_err();
    assert!(error.contains("linux/riscv64") && error.contains("linux/amd64, linux/arm64"), "{error}");
}

#[test]
fn a_tag_that_moved_leaves_its_old_image_dangling() {
    let world = World::new();
    let add = |files: &[&str]| {
        let entry = world.registry.add("app", "amd64", files);
        world.registry.add_index("app", "latest", &[entry]);
        world.pull("app").unwrap()
    };
    let (old, new) = (add(&["old"]), add(&["new"]));
    assert!(new.is_new);
    let store = world.fixture.store();
    assert_eq!(store.find(&world.name("app").to_string()).unwrap().id(), new.image.id());
    assert!(store.find(&old.image.id().to_string()).unwrap().names().is_empty());
    assert_eq!(store.list().unwrap().len(), 2);
}

#[test]
fn a_registry_that_lies_leaves_nothing_behind() {
    let world = World::new();
    let honest = world.registry.add("app", "amd64", &["base", "one"]);
    world.registry.add_index("app", "v1", std::slice::from_ref(&honest));
    let layers: Vec<(String, String)> = world.registry.blobs.lock().unwrap().keys().cloned().collect();
    let lies: [fn(&mut Vec<u8>); 3] = [
        |blob| blob.iter_mut().for_each(|byte| *byte ^= 1),
        |blob| blob[20] ^= 1,
        |blob| *blob = gzip(b"something else that is about as long as the layer").repeat(20),
    ];
    for lie in lies {
        for key in &layers {
            let truth = world.registry.blobs.lock().unwrap()[key].clone();
            let size = truth.len();
            let mut blob = truth.clone();
            lie(&mut blob);
            blob.resize(size, 0);
            world.registry.blobs.lock().unwrap().insert(key.clone(), blob);
            let error = world.pull("app:v1").unwrap_err();
            assert!(error.contains("digest"), "{error}");
            world.registry.blobs.lock().unwrap().insert(key.clone(), truth);
            let store = world.fixture.store();
            assert!(store.list().unwrap().is_empty());
            store.verify().unwrap();
            store.collect(&|_| true, &|_| None).unwrap();
            assert_eq!(world.layers(), 0);
        }
    }
    world.pull("app:v1").unwrap();
}

#[test]
fn a_digest_decides_whatever_the_tag_says() {
    let world = World::new();
    let entry = world.registry.add("app", "amd64", &["one"]);
    let digest = entry["digest"].as_str().unwrap();
    let pulled = world.pull(&format!("app:nothing@{digest}")).unwrap();
    assert_eq!(pulled.digest.to_string(), digest);
    assert!(pulled.image.names().is_empty());
    let name = world.name(&format!("app@{digest}"));
    assert_eq!(pulled.image.digests(), std::slice::from_ref(&name));
    let store = world.fixture.store();
    assert_eq!(store.find(&name.to_string()).unwrap().id(), pulled.image.id());
    assert_eq!(store.remove(&name.to_string(), false, &|_| None).unwrap().len(), 2);
}

#[test]
fn a_push_sends_what_is_missing_byte_for_byte() {
    let world = World::new();
    let entries =
        [world.registry.add("app", "amd64", &["base", "one"]), world.registry.add("app", "arm64", &["arm"])];
    let index = world.registry.add_index("app", "v1", &entries);
    world.pull("app:v1").unwrap();
    let store = world.fixture.store();
    let copy = world.name("team/copy:v1");
    store.tag(&world.name("app:v1").to_string(), &copy).unwrap();
    let pushed = store.push(&copy, &world.repository(&copy), &()).unwrap();
    // The other platform's image is not here, so the index cannot go.
    assert_eq!(pushed.digest.to_string(), entries[0]["digest"].as_str().unwrap());
    assert_eq!(pushed.left_out.map(|digest| digest.to_string()), Some(index));
    // All blobs are in another repository of the same registry.
    assert_eq!(world.count("PUT /v2/team/copy/blobs"), 0);
    let manifests = world.registry.manifests.lock().unwrap().clone();
    let at =
        |repository: &str, reference: &str| manifests[&(repository.to_owned(), reference.to_owned())].clone();
    assert_eq!(at("team/copy", "v1"), at("app", &pushed.digest.to_string()));

    // To a registry that has none of it, everything goes, and comes back the same.
    let other = World::new();
    let name = other.name("app:v1");
    store.tag(&copy.to_string(), &name).unwrap();
    let told = Told::default();
    let again = store.push(&name, &other.repository(&name), &told).unwrap();
    assert_eq!(again.digest, pushed.digest);
    assert_eq!(told.0.into_inner().unwrap().iter().filter(|told| told.1 == "done").count(), 3);
    let back = other.pull("app:v1").unwrap();
    assert_eq!(back.digest, pushed.digest);
    other.fixture.store().verify().unwrap();
    // And a second time, nothing does.
    let puts = other.count("PUT /v2/app/blobs");
    store.push(&name, &other.repository(&name), &()).unwrap();
    assert_eq!(other.count("PUT /v2/app/blobs"), puts);
    let unknown = world.name("unknown");
    assert!(store.push(&unknown, &world.repository(&unknown), &()).is_err());
}

#[test]
fn an_index_that_is_here_whole_is_pushed_whole() {
    let world = World::new();
    let entry = world.registry.add("app", "amd64", &["base"]);
    let index = world.registry.add_index("app", "v1", &[entry]);
    world.pull("app:v1").unwrap();
    let (store, copy) = (world.fixture.store(), world.name("copy:v1"));
    store.tag(&world.name("app:v1").to_string(), &copy).unwrap();
    let pushed = store.push(&copy, &world.repository(&copy), &()).unwrap();
    assert_eq!((pushed.digest.to_string(), pushed.left_out), (index, None));
}
