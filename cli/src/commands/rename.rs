//! Gives a container another name.

use containers::{Containers, ContainersError};

use crate::args::RenameArgs;

pub(crate) fn rename(containers: &Containers, args: &RenameArgs) -> Result<(), ContainersError> {
    containers.rename(&containers.find(&args.container)?, &args.name)
}
