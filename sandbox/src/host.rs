//! What this machine offers for running microVMs.

/// One thing a host must offer, and whether it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` when all is well.
    pub advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    Good,
    /// Works, with a restriction.
    Weak,
    /// MicroVMs cannot run.
    Bad,
}

/// Looks at everything a sandbox needs of this machine.
pub fn check() -> Vec<Check> {
    Vec::new()
}
