//! Lists the images that are stored here.

use std::io::{self, Write};

use glob::{MatchOptions, Pattern, PatternError};
use images::store::{FindError, StoreError};
use images::{Name, Store, StoredImage};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::args::{Filter, ImagesArgs};
use crate::human;
use crate::labels::{LabelFilter, labels_of};
use crate::listing::{Format, Listing, ListingError};

const LISTING: Listing = Listing {
    headings: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
    ],
    row: r"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};

const ROW_WITH_DIGESTS: &str =
    r"{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// As Docker: `*` does not go past a slash.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImagesError {
    #[error("there is no filter {0:?}: reference, dangling, label, before and since are")]
    UnknownFilter(String),
    #[error("dangling is true or false, not {0:?}")]
    Dangling(String),
    #[error("{pattern:?} is no pattern")]
    Pattern { pattern: String, source: PatternError },
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print the list")]
    Print(#[from] io::Error),
}

/// Which images and which of their names are shown.
#[derive(Default)]
struct Shown {
    references: Vec<Pattern>,
    dangling: Option<bool>,
    labels: Vec<LabelFilter>,
    /// When the images that bound the list were made.
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

pub(crate) fn images(store: &Store, args: &ImagesArgs, out: &mut dyn Write) -> Result<(), ImagesError> {
    let shown = Shown::new(store, args)?;
    let images: Vec<StoredImage> = store.list()?.into_iter().filter(|image| shown.takes(image)).collect();
    let mut rows = Vec::new();
    for image in &images {
        let names: Vec<&Name> = image.names().iter().filter(|name| shown.takes_name(name)).collect();
        if names.is_empty() && !shown.references.is_empty() {
            continue;
        }
        if args.quiet {
            writeln!(out, "{}", shown_id(image, args.no_trunc))?;
            continue;
        }
        let size = store.layer_sizes(image)?.iter().sum();
        if names.is_empty() {
            rows.push(row(image, None, size, args.no_trunc));
        }
        rows.extend(names.into_iter().map(|name| row(image, Some(name), size, args.no_trunc)));
    }
    if args.quiet {
        return Ok(());
    }
    let row = if args.digests && args.format == Format::Table(None) { ROW_WITH_DIGESTS } else { LISTING.row };
    Ok(Listing { row, ..LISTING }.print(&args.format, &rows, out)?)
}

fn row(image: &StoredImage, name: Option<&Name>, size: u64, in_full: bool) -> Value {
    let none = || "<none>".to_owned();
    let created = created(image);
    let digest = name.and_then(|name| {
        let same =
            |digest: &&Name| (digest.registry(), digest.repository()) == (name.registry(), name.repository());
        image.digests().iter().find(same).and_then(Name::digest)
    });
    json!({
        "Containers": "N/A",
        "CreatedAt": created.map_or_else(|| "N/A".to_owned(), human::time),
        "CreatedSince": created.map_or_else(|| "N/A".to_owned(), human::since),
        "Digest": digest.map_or_else(none, |digest| digest.to_string()),
        "ID": shown_id(image, in_full),
        "Repository": name.map_or_else(none, repository),
        "SharedSize": "N/A",
        "Size": human::size(size),
        "Tag": name.and_then(Name::tag).map_or_else(none, str::to_owned),
        "UniqueSize": "N/A",
    })
}

/// A name as Docker shows it, without its tag and digest.
pub(super) fn repository(name: &Name) -> String {
    let familiar = name.familiar().to_string();
    let end = name.tag().map(|tag| familiar.len().saturating_sub(tag.len() + 1));
    end.and_then(|end| familiar.get(..end)).unwrap_or(&familiar).to_owned()
}

pub(super) fn shown_id(image: &StoredImage, in_full: bool) -> String {
    let id = image.id();
    if in_full { id.to_string() } else { id.hex().to_string().chars().take(12).collect() }
}

pub(super) fn created(image: &StoredImage) -> Option<Timestamp> {
    image.created()?.parse().ok()
}

impl Shown {
    fn new(store: &Store, args: &ImagesArgs) -> Result<Self, ImagesError> {
        let mut shown = Self::default();
        if let Some(reference) = &args.reference {
            shown.references.push(pattern(reference)?);
        }
        for Filter { key, value } in &args.filter {
            match key.as_str() {
                "reference" => shown.references.push(pattern(value)?),
                "dangling" => {
                    let yes = match value.as_str() {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(ImagesError::Dangling(value.clone())),
                    };
                    shown.dangling = Some(yes);
                }
                "label" => shown.labels.push(LabelFilter::has(value)),
                "before" => shown.before = created(&store.find(value)?),
                "since" => shown.since = created(&store.find(value)?),
                _ => return Err(ImagesError::UnknownFilter(key.clone())),
            }
        }
        Ok(shown)
    }

    fn takes(&self, image: &StoredImage) -> bool {
        let created = created(image);
        let labels = labels_of(image);
        self.dangling.is_none_or(|dangling| dangling == image.names().is_empty())
            && self.labels.iter().all(|label| label.holds(&labels))
            && self.before.is_none_or(|bound| created.is_some_and(|created| created < bound))
            && self.since.is_none_or(|bound| created.is_some_and(|created| created > bound))
    }

    /// A pattern is of a repository, or of a repository and a tag.
    fn takes_name(&self, name: &Name) -> bool {
        let familiar = name.familiar().to_string();
        let candidates = [familiar, repository(name), name.to_string()];
        let mut patterns = self.references.iter();
        self.references.is_empty()
            || patterns.any(|pattern| candidates.iter().any(|name| pattern.matches_with(name, MATCHING)))
    }
}

fn pattern(text: &str) -> Result<Pattern, ImagesError> {
    Pattern::new(text).map_err(|source| ImagesError::Pattern { pattern: text.to_owned(), source })
}
