//! `bulkhead-oci create`.

use crate::args::CreateArgs;
use crate::log::Log;
use crate::make::{MakeError, make};
use crate::state::Root;

pub(super) fn create(root: &Root, args: &CreateArgs, log: &Log) -> Result<(), MakeError> {
    make(root, &args.id, &args.starting, true, log).map(drop)
}
