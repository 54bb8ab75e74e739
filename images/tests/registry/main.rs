//! The registry client against a registry that does not wish it well.
#![allow(clippy::unwrap_used, reason = "a test fails so")]

#[path = "../support/server.rs"]
#[allow(dead_code, unreachable_pub, reason = "as the other suites' support")]
mod server;

mod connections;
mod documents;
mod downloads;
mod elsewhere;
mod failures;
mod logins;
mod uploads;

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use images::registry::{
    Configuration, Credential, CredentialStores, LoginError, Patience, Proxies, Registries, RegistryCause,
    RegistryError, Repository, Stored, Wait,
};
use images::{Name, Sha256};
use server::{Answer, Asked, Identity, Server, Stop};

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Waits for nothing, and remembers for what.
#[derive(Default)]
struct Hasty(Mutex<Vec<Wait>>);

impl Patience for Hasty {
    fn wait(&self, wait: &Wait) {
        self.0.lock().unwrap().push(wait.clone());
    }
}

/// One user's registries.
struct User {
    directory: tempfile::TempDir,
    configuration: Configuration,
    hasty: Arc<Hasty>,
}

impl User {
    fn new() -> User {
        let mut configuration = Configuration::default();
        configuration.certificates.clear();
        // On a busy machine, a server's thread may have to wait for its turn.
        configuration.timeout = Duration::from_secs(60);
        User { directory: tempfile::tempdir().unwrap(), configuration, hasty: Arc::default() }
    }

    /// Who does not wait long for a stalled connection, but longer than a server's thread has to for its turn.
    fn hurried() -> User {
        let mut user = User::new();
        user.configuration.timeout = Duration::from_secs(3);
        user
    }

    fn configured(text: &str) -> User {
        let mut user = User::new();
        user.configuration.add(Path::new("test"), text).unwrap();
        user
    }

    /// Who trusts this identity at this host.
    fn trusting(identity: &Identity, host: &str) -> User {
        let mut user = User::new();
        let file = user.directory.path().join("ca.pem");
        std::fs::write(&file, &identity.authority).unwrap();
        let text = format!("[registry.'{host}']\nca = '{}'", file.display());
        user.configuration.add(Path::new("test"), &text).unwrap();
        user
    }

    /// Who reaches all but this machine by this server.
    fn behind(mut self, proxy: &Server) -> User {
        let address = format!("http://{}", proxy.host);
        self.configuration.proxies =
            Proxies::read(|name| matches!(name, "HTTP_PROXY" | "HTTPS_PROXY").then(|| address.clone()));
        self
    }

    fn auth_file(&self) -> std::path::PathBuf {
        self.directory.path().join("config.json")
    }

    /// Who has a password for these registries.
    fn with_password(self, hosts: &[&str]) -> User {
        let entries: Vec<_> =
            hosts.iter().map(|host| format!("\"{host}\": {{\"auth\": \"dTpodW50ZXIy\"}}")).collect();
        std::fs::write(self.auth_file(), format!("{{\"auths\": {{{}}}}}", entries.join(","))).unwrap();
        self
    }

    fn registries(&self) -> Registries {
        let stores = CredentialStores::new([Some(self.auth_file())]);
        Registries::open(self.configuration.clone(), stores, self.hasty.clone())
    }

    fn repository(&self, server: &Server) -> Repository {
        self.registries().repository(&Name::parse(&format!("{}/team/app", server.host)).unwrap())
    }

    fn waits(&self) -> Vec<u64> {
        self.hasty.0.lock().unwrap().iter().map(|wait| wait.duration.as_secs()).collect()
    }
}

fn digest(bytes: &[u8]) -> Sha256 {
    ring::digest::digest(&ring::digest::SHA256, bytes).into()
}

/// Bytes that a shift of one would show in.
fn blob(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn read_blob(repository: &Repository, digest: &Sha256, size: u64) -> Result<Vec<u8>, String> {
    let mut stream = repository.blob(digest, size).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string())
}

fn manifest() -> Answer {
    Answer::ok(MANIFEST).header("content-type", MANIFEST_TYPE)
}

fn refused(error: &RegistryError) -> String {
    error.to_string()
}

/// Answers by the number of the request.
fn by_turn(turns: Vec<Answer>) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let turn = AtomicUsize::new(0);
    move |_| turns[turn.fetch_add(1, Ordering::SeqCst).min(turns.len() - 1)].clone()
}
