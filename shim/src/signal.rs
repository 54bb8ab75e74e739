//! Signals by name or number, as runc's callers write them.

use std::fmt;
use std::str::FromStr;

/// x86_64's numbers (signal(7)).
const NAMES: [(&str, u32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and last real-time signal that glibc leaves to programs.
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// A signal of the guest, 1 to 64; or 0, which only asks whether there is somebody to signal (kill(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u32);

/// In runc's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown signal {0:?}")]
pub struct SignalError(String);

impl Signal {
    pub const KILL: Self = Self(9);
    pub const TERM: Self = Self(15);

    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        parse(text).filter(|number| *number <= RTMAX).map(Self).ok_or_else(|| SignalError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u32> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    match name {
        "RTMIN" => return Some(RTMIN),
        "RTMAX" => return Some(RTMAX),
        _ => {}
    }
    if let Some(above) = name.strip_prefix("RTMIN+") {
        return RTMIN.checked_add(above.parse().ok()?);
    }
    if let Some(below) = name.strip_prefix("RTMAX-") {
        return RTMAX.checked_sub(below.parse().ok()?).filter(|number| *number >= RTMIN);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(out, "SIG{name}"),
            None => write!(out, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("0", 0),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMIN", 34),
            ("RTMAX", 64),
        ] {
            assert_eq!(text.parse().map(Signal::number), Ok(number), "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_told_as_runc_does() {
        for text in ["", "65", "SIG", "FOO", "-9", "RTMIN+99", "RTMIN+-1", "RTMAX-70"] {
            assert_eq!(text.parse::<Signal>(), Err(SignalError(text.to_owned())), "{text}");
        }
        assert_eq!("FOO".parse::<Signal>().unwrap_err().to_string(), "unknown signal \"FOO\"");
    }
}
