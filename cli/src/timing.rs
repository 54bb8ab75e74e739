//! `--timing`: what a run spent its time on.

use std::collections::BTreeMap;
use std::fmt::Write;

use sandbox::Stamp;
use serde::Serialize;

use crate::args::TimingFormat;

/// The steps of a run, and how often its vCPUs left the guest.
#[derive(Debug, Serialize)]
pub(crate) struct Timing {
    total_ms: f64,
    steps: Vec<Step>,
    /// By kind; they cost the host's time.
    kvm_exits: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Step {
    step: String,
    /// Since the step before.
    took_ms: f64,
    /// Since the first step.
    at_ms: f64,
}

impl Timing {
    /// From stamps in order of time; the first is the beginning.
    pub(crate) fn new(stamps: &[Stamp], kvm_exits: BTreeMap<String, u64>) -> Self {
        let begin = stamps.first().map_or(0, |stamp| stamp.at);
        let end = stamps.last().map_or(0, |stamp| stamp.at);
        let steps = stamps.windows(2).filter_map(|pair| match pair {
            [before, stamp] => Some(Step {
                step: stamp.step.clone(),
                took_ms: milliseconds(before.at, stamp.at),
                at_ms: milliseconds(begin, stamp.at),
            }),
            _ => None,
        });
        Self { total_ms: milliseconds(begin, end), steps: steps.collect(), kvm_exits }
    }

    pub(crate) fn render(&self, format: TimingFormat) -> String {
        match format {
            TimingFormat::Table => self.table(),
            // Strings and numbers only: nothing that JSON cannot say.
            TimingFormat::Json => serde_json::to_string(self).unwrap_or_default() + "\n",
        }
    }

    fn table(&self) -> String {
        let mut out = format!("{:>10} {:>10}  step\n", "took ms", "at ms");
        for Step { step, took_ms, at_ms } in &self.steps {
            // Writing to a String does not fail.
            let _ = writeln!(out, "{took_ms:>10.2} {at_ms:>10.2}  {step}");
        }
        if !self.kvm_exits.is_empty() {
            let mut exits: Vec<_> = self.kvm_exits.iter().collect();
            exits.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let _ = writeln!(out, "{:>10}  KVM exits", self.kvm_exits.values().sum::<u64>());
            for (kind, count) in exits {
                let _ = writeln!(out, "{count:>10}  {kind}");
            }
        }
        out
    }
}

fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        let stamp = |step: &str, at| Stamp { step: step.to_owned(), at };
        let stamps = [stamp("begin", 5_000_000), stamp("one", 6_500_000), stamp("two", 10_000_000)];
        Timing::new(&stamps, BTreeMap::from([("io".to_owned(), 3), ("mmio".to_owned(), 40)]))
    }

    #[test]
    fn steps_are_told_by_how_long_they_took_and_when_they_were_done() {
        let json: serde_json::Value = serde_json::from_str(&timing().render(TimingFormat::Json)).unwrap();
        assert_eq!(json["total_ms"], 5.0);
        assert_eq!(json["steps"][1], serde_json::json!({"step": "two", "took_ms": 3.5, "at_ms": 5.0}));
        assert_eq!(json["kvm_exits"]["mmio"], 40);
    }

    #[test]
    fn the_table_has_the_most_frequent_exits_first() {
        let table = timing().render(TimingFormat::Table);
        assert!(table.contains("      1.50       1.50  one\n"), "{table}");
        assert!(table.contains("        43  KVM exits\n        40  mmio\n         3  io\n"), "{table}");
    }

    #[test]
    fn nothing_timed_is_no_error() {
        assert_eq!(Timing::new(&[], BTreeMap::new()).steps.len(), 0);
    }
}
