//! Labels of images and containers, and what filters say of them.

use std::collections::BTreeMap;

use images::StoredImage;

/// `label=NAME`, `label=NAME=VALUE`, or the opposite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelFilter {
    name: String,
    value: Option<String>,
    /// Whether such a label is to be there.
    wanted: bool,
}

impl LabelFilter {
    /// A filter for what has the label.
    pub(crate) fn has(text: &str) -> Self {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        Self { name: name.to_owned(), value, wanted: true }
    }

    /// A filter for what has it not.
    pub(crate) fn lacks(text: &str) -> Self {
        Self { wanted: false, ..Self::has(text) }
    }

    pub(crate) fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.name);
        let is_there = found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found));
        is_there == self.wanted
    }
}

pub(crate) fn labels_of(image: &StoredImage) -> BTreeMap<String, String> {
    let labels = image.configuration().config().as_ref().and_then(|config| config.labels().clone());
    labels.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_asked_for_by_name_or_value() {
        let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
        for (filter, holds) in [
            (LabelFilter::has("tier"), true),
            (LabelFilter::has("tier=front"), true),
            (LabelFilter::has("tier=back"), false),
            (LabelFilter::has("other"), false),
            (LabelFilter::lacks("tier"), false),
            (LabelFilter::lacks("tier=back"), true),
        ] {
            assert_eq!(filter.holds(&labels), holds, "{filter:?}");
        }
    }
}
