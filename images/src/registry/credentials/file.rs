//! One file of credentials: Docker's config.json, or containers-auth.json(5), which has the same form.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::helper::Helper;
use super::{Credential, CredentialError, Stored, key};
use crate::registry::configuration::bounded;

const AUTHS: &str = "auths";

/// A file that may or may not be there.
#[derive(Clone, Debug)]
pub(super) struct AuthFile {
    path: PathBuf,
}

/// What of it concerns us.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Contents {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

impl AuthFile {
    pub(super) fn new(path: PathBuf) -> AuthFile {
        AuthFile { path }
    }

    /// The credential for the repository: with the helper the file names, or in the file itself.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let contents: Contents = self.parse(&self.read()?)?;
        if let Some(helper) = contents.helper(registry)?
            && let Some(credential) = helper.get(key::of(registry))?
        {
            return Ok(Some(credential));
        }
        let entries = contents.auths.iter().flatten();
        let fitting = entries.filter_map(|(key, entry)| {
            let entry = entry.as_ref().filter(|entry| !entry.is_empty())?;
            Some((key::fits(key, registry, repository)?, key, entry))
        });
        let Some((_, key, entry)) = fitting.max_by_key(|(fit, ..)| *fit) else { return Ok(None) };
        let credential = entry.credential();
        let malformed = || CredentialError::Entry { path: self.path.clone(), key: key.clone() };
        credential.map(Some).ok_or_else(malformed)
    }

    /// Keeps the credential with the helper the file names, or in the file itself; all else in it stays.
    pub(super) fn keep(&self, registry: &str, credential: &Credential) -> Result<Stored, CredentialError> {
        let contents: Contents = self.parse(&self.read()?)?;
        if let Some((name, helper)) = contents.helper_name(registry).map(|name| (name, Helper::named(name))) {
            helper?.store(key::of(registry), credential)?;
            return Ok(Stored::Helper(name.to_owned()));
        }
        self.change(|document| {
            let auths = document.entry(AUTHS).or_insert_with(|| json!({}));
            if !auths.is_object() {
                *auths = json!({});
            }
            if let Some(auths) = auths.as_object_mut() {
                auths.retain(|key, _| !key::is_whole(key, registry));
                auths.insert(key::of(registry).to_owned(), entry_for(credential));
            }
            true
        })?;
        Ok(Stored::File(self.path.clone()))
    }

    /// Forgets the registry's credential; tells where it was.
    pub(super) fn erase(&self, registry: &str) -> Result<Vec<Stored>, CredentialError> {
        let contents: Contents = self.parse(&self.read()?)?;
        let mut erased = Vec::new();
        if let Some(name) = contents.helper_name(registry) {
            let helper = Helper::named(name)?;
            if helper.get(key::of(registry))?.is_some() {
                helper.erase(key::of(registry))?;
                erased.push(Stored::Helper(name.to_owned()));
            }
        }
        let is_kept = |key: &String| key::is_whole(key, registry);
        if contents.auths.iter().flat_map(BTreeMap::keys).any(is_kept) {
            self.change(|document| {
                let Some(auths) = document.get_mut(AUTHS).and_then(Value::as_object_mut) else {
                    return false;
                };
                auths.retain(|key, _| !is_kept(key));
                true
            })?;
            erased.push(Stored::File(self.path.clone()));
        }
        Ok(erased)
    }

    /// Its bytes; those of an empty document if it is not there, or has none.
    fn read(&self) -> Result<Vec<u8>, CredentialError> {
        match bounded(&self.path) {
            Ok(bytes) if !bytes.trim_ascii().is_empty() => Ok(bytes),
            Ok(_) => Ok(b"{}".to_vec()),
            Err(source)
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(b"{}".to_vec())
            }
            Err(source) => Err(self.error(source)),
        }
    }

    fn parse<'a, T: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<T, CredentialError> {
        serde_json::from_slice(bytes).map_err(|error| CredentialError::Malformed {
            path: self.path.clone(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// Replaces the file by a changed one, unless `change` returns false. Two who do so at once wait for each other.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<(), CredentialError> {
        let error = |source| self.error(source);
        // A link to the file (into a repository of settings, say) stays one.
        let target = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let directory =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(error)?;
        let lock = File::open(directory).map_err(error)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| error(errno.into()))?;
        let mut document: Map<String, Value> = self.parse(&self.read()?)?;
        if !change(&mut document) {
            return Ok(());
        }
        let mut text = serde_json::to_vec_pretty(&document).map_err(|source| error(source.into()))?;
        text.push(b'\n');
        replace(&target, &text).and_then(|()| lock.sync_all()).map_err(error)
    }

    fn error(&self, source: io::Error) -> CredentialError {
        CredentialError::File { path: self.path.clone(), source }
    }
}

/// Writes a file for the user alone beside the old one, and puts it in its place.
fn replace(target: &Path, text: &[u8]) -> io::Result<()> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let unfinished = target.with_extension(format!("{:016x}", u64::from_ne_bytes(random)));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        if let Ok(old) = target.metadata() {
            // Under sudo, a user's file stays the user's. Others cannot give files away, nor need they.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        }
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, target)
    };
    write().inspect_err(|_| {
        // The reason why it failed is the one to tell.
        let _ = std::fs::remove_file(&unfinished);
    })
}

impl Contents {
    fn helper_name(&self, registry: &str) -> Option<&str> {
        let helpers = self.cred_helpers.iter().flatten();
        let own = helpers.filter(|(key, _)| key::is_whole(key, registry)).map(|(_, name)| name);
        own.chain(&self.creds_store).find(|name| !name.is_empty()).map(String::as_str)
    }

    fn helper(&self, registry: &str) -> Result<Option<Helper>, CredentialError> {
        self.helper_name(registry).map(Helper::named).transpose()
    }
}

impl Entry {
    /// What Docker leaves behind for a credential that a helper keeps.
    fn is_empty(&self) -> bool {
        [&self.auth, &self.identitytoken].into_iter().flatten().all(String::is_empty)
    }

    fn credential(&self) -> Option<Credential> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Some(Credential::IdentityToken(token.clone()));
        }
        let decoded = BASE64_STANDARD.decode(self.auth.as_ref()?.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        // Docker has written such ends.
        let password = password.trim_end_matches('\0');
        Some(Credential::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

fn entry_for(credential: &Credential) -> Value {
    match credential {
        Credential::Password { user, password } => {
            json!({ "auth": BASE64_STANDARD.encode(format!("{user}:{password}")) })
        }
        Credential::IdentityToken(token) => json!({ "identitytoken": token }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.into(), password: password.into() }
    }

    fn written(directory: &Path, text: &str) -> AuthFile {
        let path = directory.join("config.json");
        std::fs::write(&path, text).unwrap();
        AuthFile::new(path)
    }

    #[test]
    fn the_entry_that_fits_best_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = written(
            directory.path(),
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "r.example": {"auth": "YWxsOnB3OndpdGg6Y29sb25z"},
                "r.example/team": {"auth": "dGVhbTpwdw=="},
                "t.example": {"auth": "dTpw", "identitytoken": "token"},
                "empty.example": {}, "null.example": null
            }}"#,
        );
        let find = |registry, repository| file.find(registry, repository).unwrap();
        assert_eq!(find("docker.io", "library/busybox"), Some(password("hub", "pw")));
        assert_eq!(find("r.example", "other/app"), Some(password("all", "pw:with:colons")));
        assert_eq!(find("r.example", "team/app"), Some(password("team", "pw")));
        assert_eq!(find("t.example", "a"), Some(Credential::IdentityToken("token".into())));
        for none in ["empty.example", "null.example", "unknown.example"] {
            assert_eq!(find(none, "a"), None);
        }
    }

    #[test]
    fn keeping_and_erasing_leaves_the_rest_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let other = r#"{"auths": {"other": {"auth": "dTpw"}, "index.docker.io": {"auth": "b2xkOm9sZA=="}}, "psFormat": "x"}"#;
        let file = written(directory.path(), other);
        assert_eq!(file.keep("docker.io", &password("u", "p")).unwrap(), Stored::File(file.path.clone()));
        let document: Value = serde_json::from_slice(&std::fs::read(&file.path).unwrap()).unwrap();
        assert_eq!(
            document,
            json!({"auths": {"other": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "dTpw"}}, "psFormat": "x"})
        );
        assert_eq!(file.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(file.erase("docker.io").unwrap(), [Stored::File(file.path.clone())]);
        assert_eq!(file.erase("docker.io").unwrap(), []);
        assert_eq!(file.find("docker.io", "a").unwrap(), None);
        assert_eq!(file.find("other", "a").unwrap(), Some(password("u", "p")));
        assert_eq!(directory.path().read_dir().unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_file_is_made_where_there_is_none_and_a_link_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("settings/docker.json");
        let file = AuthFile::new(directory.path().join("home/.docker/config.json"));
        file.keep("r.example", &password("u", "p")).unwrap();
        std::fs::create_dir(directory.path().join("settings")).unwrap();
        std::fs::rename(&file.path, &real).unwrap();
        std::os::unix::fs::symlink(&real, &file.path).unwrap();
        file.keep("s.example", &Credential::IdentityToken("t".into())).unwrap();
        assert!(file.path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(file.find("s.example", "a").unwrap(), Some(Credential::IdentityToken("t".into())));
        assert_eq!(file.find("r.example", "a").unwrap(), Some(password("u", "p")));
    }

    #[test]
    fn what_is_malformed_is_told_without_secrets_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        for wrong in [
            "{\"auths\": \"hunter2\"}",
            "{\"auths\": {\"r.example\": {\"auth\": 7, \"x\": \"hunter2\"}}}",
            "hunter2",
            "[]",
        ] {
            let file = written(directory.path(), wrong);
            let error = file.keep("r.example", &password("u", "p")).unwrap_err().to_string();
            assert!(
                error.contains("config.json is malformed at line 1") && !error.contains("hunter2"),
                "{error}"
            );
            assert_eq!(std::fs::read_to_string(&file.path).unwrap(), wrong);
        }
        let file = written(directory.path(), "{\"auths\": {\"r.example\": {\"auth\": \"hunter2\"}}}");
        let error = file.find("r.example", "a").unwrap_err().to_string();
        assert!(error.contains("r.example") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn logins_at_once_are_all_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = AuthFile::new(directory.path().join("config.json"));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || file.keep(&format!("r{number}.example"), &password("u", "p")).unwrap());
            }
        });
        for number in 0..8 {
            assert!(file.find(&format!("r{number}.example"), "a").unwrap().is_some());
        }
    }
}
