//! What the user calls an image, turned into one of the store: loaded, found, or pulled.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containers::HealthCheck;
use images::registry::{ConfigurationError, Registries};
use images::store::{DiskError, FindError, LoadError, PullError, PullOptions};
use images::{ImageReference, Limits, Name, NameError, Platform, Store, StoredImage};
use serde::Deserialize;
use tokio::task::{JoinError, spawn_blocking};

use crate::args::Pull;
use crate::progress::{Layers, Stream, Work};

/// An image the user wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// A name, an id, or a path of an archive or a layout.
    pub name: String,
    pub platform: Option<Platform>,
    pub pull: Pull,
    /// Nothing is told of a pull.
    pub quiet: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{source}, and --pull never forbids to pull it; `bulkhead pull {name}` does")]
    Forbidden { name: String, source: FindError },
    #[error(transparent)]
    Find(FindError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot open the image's file {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the work on the image broke off")]
    Task(#[from] JoinError),
}

/// The image, with all of its layers here. Cancelled, the work goes on in the background and leaves whole layers or
/// nothing.
pub(crate) async fn resolve(store: &Store, wanted: Wanted) -> Result<StoredImage, ImageError> {
    let store = store.clone();
    spawn_blocking(move || resolve_now(&store, &wanted)).await?
}

/// What is written like a path is one. Else the store is asked, then the file system, then a registry.
fn resolve_now(store: &Store, wanted: &Wanted) -> Result<StoredImage, ImageError> {
    let name = wanted.name.as_str();
    if is_written_like_a_path(name) {
        return load(store, wanted);
    }
    let found = match store.find(name) {
        Ok(image) if wanted.pull != Pull::Always && fits(&image, wanted) => return Ok(image),
        found => found,
    };
    match found {
        Err(FindError::Unknown(_)) if names_a_file(name) => load(store, wanted),
        Err(source @ FindError::Unknown(_)) if wanted.pull == Pull::Never => {
            Err(ImageError::Forbidden { name: name.to_owned(), source })
        }
        Err(error @ (FindError::Ambiguous { .. } | FindError::Store(_))) => Err(ImageError::Find(error)),
        // An id is nothing a registry could be asked for.
        Ok(image) if Name::parse(name).is_err() || wanted.pull == Pull::Never => Ok(image),
        Ok(_) | Err(FindError::Unknown(_)) => pull(store, wanted),
    }
}

/// `./layout`, `/images/a.tar:tag`, `archive.tar.gz`: a missing one is not asked of a registry.
fn is_written_like_a_path(name: &str) -> bool {
    let file = name.rsplit_once(':').map_or(name, |(file, _tag)| file);
    let is_archive =
        |name: &str| [".tar", ".tgz", ".tar.gz", ".tar.zst"].iter().any(|end| name.ends_with(end));
    name.starts_with(['/', '.']) || is_archive(name) || is_archive(file)
}

fn fits(image: &StoredImage, wanted: &Wanted) -> bool {
    wanted.platform.as_ref().is_none_or(|platform| *platform == image.platform())
}

fn names_a_file(name: &str) -> bool {
    let path = ImageReference::parse(name);
    path.path().exists() || Path::new(name).exists()
}

fn load(store: &Store, wanted: &Wanted) -> Result<StoredImage, ImageError> {
    let reference = ImageReference::parse(&wanted.name);
    let platform = wanted.platform.clone().unwrap_or_default();
    let limits = Limits::default();
    if wanted.quiet {
        return Ok(store.load_unnamed(&reference, &platform, &limits, &())?);
    }
    Ok(store.load_unnamed(&reference, &platform, &limits, &Layers::on_terminal(Work::Load))?)
}

fn pull(store: &Store, wanted: &Wanted) -> Result<StoredImage, ImageError> {
    let name = Name::parse(&wanted.name)?;
    let repository = Registries::from_environment()?.repository(&name);
    let platform = wanted.platform.clone().unwrap_or_default();
    let options = PullOptions { platform, ..PullOptions::default() };
    if wanted.quiet {
        return Ok(store.pull(&name, &repository, &options, &())?.image);
    }
    if wanted.pull != Pull::Always {
        eprintln!("Unable to find image '{}' locally", name.familiar());
    }
    eprintln!("{}: Pulling from {}", name.reference(), name.repository());
    let pulled = store.pull(&name, &repository, &options, &Layers::new(Work::Pull, Stream::Err))?;
    eprintln!("Digest: {}\nStatus: {}", pulled.digest, status(&name, pulled.is_new));
    Ok(pulled.image)
}

/// Docker's last word on a pull.
pub(crate) fn status(name: &Name, is_new: bool) -> String {
    let what = if is_new { "Downloaded newer image for" } else { "Image is up to date for" };
    format!("{what} {}", name.familiar())
}

/// The image's one disk: its files, opened read-only, one after the other.
pub(crate) fn open(store: &Store, image: &StoredImage) -> Result<Vec<File>, ImageError> {
    let disk = store.disk(image, &Limits::default())?;
    let open = |path: PathBuf| File::open(&path).map_err(|source| ImageError::File { path, source });
    disk.files.into_iter().map(open).collect()
}

/// The image's health check. It is Docker's addition to what the OCI knows of configurations.
pub(crate) fn health_check(image: &StoredImage) -> Option<HealthCheck> {
    #[derive(Deserialize)]
    struct Document {
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        healthcheck: Option<Healthcheck>,
    }
    /// Times in nanoseconds; 0 or absent: Docker's own.
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Healthcheck {
        test: Option<Vec<String>>,
        interval: i64,
        timeout: i64,
        start_period: i64,
        start_interval: i64,
        retries: u32,
    }
    let document: Document = serde_json::from_slice(image.document()).ok()?;
    let check = document.config?.healthcheck?;
    let standard = HealthCheck::default();
    let time = |ns: i64, standard| match u64::try_from(ns) {
        Ok(0) | Err(_) => standard,
        Ok(ns) => Duration::from_nanos(ns),
    };
    Some(HealthCheck {
        test: check.test?,
        interval: time(check.interval, standard.interval),
        timeout: time(check.timeout, standard.timeout),
        start_period: time(check.start_period, standard.start_period),
        start_interval: time(check.start_interval, standard.start_interval),
        retries: if check.retries == 0 { standard.retries } else { check.retries },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        for path in [
            "./layout",
            "/images/a",
            "../a:tag",
            "a.tar",
            "dir/a.tar:1.2",
            "a.tgz",
            "a.tar.gz",
            "a.tar.zst:x",
        ] {
            assert!(is_written_like_a_path(path), "{path}");
        }
        for name in ["busybox", "localhost:5000/tar:1", "example.com/a/b@sha256:0", "tar"] {
            assert!(!is_written_like_a_path(name), "{name}");
        }
    }
}
