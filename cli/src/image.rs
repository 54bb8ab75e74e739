//! The image the user named: its configuration, and its layers as files ready to be disks.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use images::{
    Image, ImageReference, ImportError, LayerCache, LayerDescriptor, Limits, OpenError, Platform, Progress,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use oci_spec::image::Config;
use tokio::task::{JoinError, spawn_blocking};

use crate::data_dir::DataDir;

/// An image whose layers are imported.
#[derive(Debug)]
pub(crate) struct ImportedImage {
    pub config: Config,
    /// Opened read-only, lowest first.
    pub layers: Vec<File>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Import(#[from] Box<ImportError>),
    #[error("cannot open the imported layer {}", path.display())]
    Layer { path: PathBuf, source: io::Error },
    #[error("the import broke off")]
    Task(#[from] JoinError),
}

/// Finds the image and imports the layers that were not yet. Cancelled, the work goes on in the background and
/// leaves whole layers or nothing.
pub(crate) async fn import(data: &DataDir, name: &str) -> Result<ImportedImage, ImageError> {
    let (cache, name) = (LayerCache::new(data.layers()), name.to_owned());
    spawn_blocking(move || import_now(&cache, &ImageReference::parse(&name))).await?
}

fn import_now(cache: &LayerCache, reference: &ImageReference) -> Result<ImportedImage, ImageError> {
    let limits = Limits::default();
    let image = Image::open(reference, &Platform::default(), &limits)?;
    let mut progress = Bar::default();
    let layers = cache.ensure(&image, &limits, &mut progress);
    progress.clear();
    let open = |path: PathBuf| File::open(&path).map_err(|source| ImageError::Layer { path, source });
    let layers =
        layers.map_err(Box::new)?.into_iter().map(|layer| open(layer.path)).collect::<Result<_, _>>()?;
    let config = image.configuration().config().clone().unwrap_or_default();
    Ok(ImportedImage { config, layers })
}

/// Shows on a terminal how far the import is; elsewhere, nothing.
#[derive(Default)]
struct Bar {
    bar: Option<ProgressBar>,
    /// Bytes of the layers before the one at hand.
    before: u64,
}

impl Bar {
    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn begin(&mut self, layer: &LayerDescriptor) {
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("importing {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.inc_length(layer.size);
    }

    fn read(&mut self, _layer: &LayerDescriptor, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(self.before + bytes);
        }
    }

    fn end(&mut self, layer: &LayerDescriptor) {
        self.before += layer.size;
    }
}
