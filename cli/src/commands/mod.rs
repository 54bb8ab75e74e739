//! What each command does.

pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod kill;
pub(crate) mod man;
pub(crate) mod ps;
pub(crate) mod run;
