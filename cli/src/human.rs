//! Sizes and ages as Docker words them for people.

use jiff::Timestamp;

/// Bytes in powers of 1000, to three digits: `72.8MB`.
pub(crate) fn size(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Bytes in powers of 1024, to four digits: `1.953MiB`.
pub(crate) fn binary_size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut number = bytes as f64;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What would be rounded up to the next unit is that.
    let mut shown = significant(number, digits);
    while shown.parse::<f64>().is_ok_and(|shown| shown >= base) {
        let Some(next) = units.next() else { break };
        (number, unit) = (number / base, next);
        shown = significant(number, digits);
    }
    shown + unit
}

/// To so many digits, without zeros at the end of a fraction.
fn significant(number: f64, digits: usize) -> String {
    let whole = format!("{number:.0}").len();
    let text = format!("{number:.*}", digits.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// How long something took or is ago, in its largest unit: `3 hours`.
pub(crate) fn duration(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let hours = (seconds + HOUR / 2) / HOUR;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        _ if seconds < MINUTE => format!("{seconds} seconds"),
        _ if seconds < 2 * MINUTE => "About a minute".to_owned(),
        _ if seconds < HOUR => format!("{} minutes", seconds / MINUTE),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if seconds < 14 * DAY => format!("{} days", seconds / DAY),
        _ if seconds < 60 * DAY => format!("{} weeks", seconds / DAY / 7),
        _ if seconds < 730 * DAY => format!("{} months", seconds / DAY / 30),
        _ => format!("{} years", seconds / DAY / 365),
    }
}

/// `3 hours ago`.
pub(crate) fn ago(seconds: u64) -> String {
    format!("{} ago", duration(seconds))
}

/// How long ago something was, by now.
pub(crate) fn since(then: Timestamp) -> String {
    let seconds = Timestamp::now().as_second().saturating_sub(then.as_second());
    ago(u64::try_from(seconds).unwrap_or(0))
}

/// A time as Docker's lists have it.
pub(crate) fn time(then: Timestamp) -> String {
    then.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// The beginning of a text that is longer than `most` characters, with a mark that it goes on.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_docker_s() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_261_550, "4.26MB"),
            (72_830_000, "72.8MB"),
            (999_999, "1MB"),
            (133_000_000, "133MB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
        for (bytes, expected) in
            [(2_048_000, "1.953MiB"), (512 << 20, "512MiB"), (8_192_000_000, "7.629GiB"), (1023, "1023B")]
        {
            assert_eq!(binary_size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn ages_are_in_the_largest_unit() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (200_000, "2 days"),
            (1_500_000, "2 weeks"),
            (10_000_000, "3 months"),
            (100_000_000, "3 years"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        assert_eq!(ago(120), "2 minutes ago");
    }

    #[test]
    fn what_is_cut_is_marked() {
        assert_eq!((shortened("äöü", 3), shortened("äöüx", 3)), ("äöü".to_owned(), "äö…".to_owned()));
    }
}
