//! Shows how an image was made.

use std::io::{self, Write};

use images::store::{FindError, StoreError};
use images::{Store, StoredImage};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::images::shown_id;
use crate::args::HistoryArgs;
use crate::human;
use crate::listing::{Listing, ListingError};

/// The longest command shown in part.
const MAX_COMMAND: usize = 45;

const LISTING: Listing = Listing {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    row: r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Listing(#[from] ListingError),
    #[error("cannot print the history")]
    Print(#[from] io::Error),
}

pub(crate) fn history(store: &Store, args: &HistoryArgs, out: &mut dyn Write) -> Result<(), HistoryError> {
    let image = store.find(&args.image)?;
    let rows = rows(&image, &store.layer_sizes(&image)?, args);
    if args.quiet {
        for row in &rows {
            writeln!(out, "{}", row["ID"].as_str().unwrap_or_default())?;
        }
        return Ok(());
    }
    let row = match args.human {
        true => LISTING.row,
        false => r"{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    Ok(Listing { row, ..LISTING }.print(&args.format, &rows, out)?)
}

/// The newest step first, as it is the image itself.
fn rows(image: &StoredImage, sizes: &[u64], args: &HistoryArgs) -> Vec<Value> {
    let mut sizes = sizes.iter();
    let history = image.configuration().history().clone().unwrap_or_default();
    let steps: Vec<_> = history
        .iter()
        .map(|step| {
            let is_empty = step.empty_layer().unwrap_or(false);
            (step, if is_empty { 0 } else { sizes.next().copied().unwrap_or(0) })
        })
        .collect();
    let newest_first = steps.into_iter().rev().enumerate();
    newest_first
        .map(|(age, (step, size))| {
            let created: Option<Timestamp> = step.created().as_deref().and_then(|time| time.parse().ok());
            let command = step.created_by().clone().unwrap_or_default().replace('\t', " ");
            json!({
                "Comment": step.comment().clone().unwrap_or_default(),
                "CreatedAt": created.map_or_else(|| "N/A".to_owned(), |time| time.to_string()),
                "CreatedBy": if args.no_trunc { command } else { human::shortened(&command, MAX_COMMAND) },
                "CreatedSince": created.map_or_else(|| "N/A".to_owned(), human::since),
                "ID": if age == 0 { shown_id(image, args.no_trunc) } else { "<missing>".to_owned() },
                "Size": if args.human { human::size(size) } else { size.to_string() },
            })
        })
        .collect()
}
