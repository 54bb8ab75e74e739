//! How far a pull, push or load is: a line for each layer, moving on a terminal, plain elsewhere. Docker's words.

use std::collections::HashMap;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::sync::{Mutex, PoisonError};

use images::Sha256;
use images::store::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done to layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Pull,
    Push,
    Load,
}

/// Where it is told: standard output where it is what the user asked for, else standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

pub(crate) struct Layers {
    work: Work,
    stream: Stream,
    bars: Option<MultiProgress>,
    known: Mutex<HashMap<Sha256, ProgressBar>>,
}

impl Layers {
    pub(crate) fn new(work: Work, stream: Stream) -> Self {
        let target = match stream {
            Stream::Out => stdout().is_terminal().then(ProgressDrawTarget::stdout),
            Stream::Err => stderr().is_terminal().then(ProgressDrawTarget::stderr),
        };
        Self { work, stream, bars: target.map(MultiProgress::with_draw_target), known: Mutex::default() }
    }

    /// For work that goes on beside what the user asked for: told to people only.
    pub(crate) fn on_terminal(work: Work) -> Self {
        let target =
            if stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = Some(MultiProgress::with_draw_target(target));
        Self { work, stream: Stream::Err, bars, known: Mutex::default() }
    }

    /// A layer's state in a word, for the last time or not.
    fn say(&self, layer: &Sha256, word: &'static str, last: bool) {
        let Some(bars) = &self.bars else {
            // Without anybody to read it there is nothing to tell.
            let line = format!("{}: {word}\n", short(layer));
            let _ = match self.stream {
                Stream::Out => stdout().write_all(line.as_bytes()),
                Stream::Err => stderr().write_all(line.as_bytes()),
            };
            return;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = known.entry(*layer).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0));
            bar.set_style(style("{prefix}: {msg}"));
            bar.set_prefix(short(layer));
            bar
        });
        bar.set_message(word);
        if last {
            bar.set_style(style("{prefix}: {msg}"));
            bar.finish();
        }
    }
}

impl Progress for Layers {
    fn exists(&self, layer: &Sha256) {
        let word = if self.work == Work::Push { "Layer already exists" } else { "Already exists" };
        self.say(layer, word, true);
    }

    fn begin(&self, layer: &Sha256, size: u64) {
        let word = match self.work {
            Work::Pull => "Pulling fs layer",
            Work::Push => "Preparing",
            Work::Load => "Loading layer",
        };
        self.say(layer, word, false);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = known.get(layer) {
            bar.set_length(size);
        }
    }

    fn bytes(&self, layer: &Sha256, bytes: u64) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bar) = known.get(layer) else { return };
        if bar.position() == 0 {
            bar.set_message(match self.work {
                Work::Pull => "Downloading",
                Work::Push => "Pushing",
                Work::Load => "Loading layer",
            });
            bar.set_style(style("{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}").progress_chars("=> "));
        }
        bar.set_position(bytes);
    }

    fn done(&self, layer: &Sha256) {
        let word = match self.work {
            Work::Pull => "Pull complete",
            Work::Push => "Pushed",
            Work::Load => "Loaded",
        };
        self.say(layer, word, true);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn short(digest: &Sha256) -> String {
    digest.hex().to_string().chars().take(12).collect()
}
