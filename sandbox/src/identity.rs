//! A user and group for each VMM alone, where its supervisor is root.

use vmm_api::Identity;

use crate::record::Record;

/// The first of the ids set aside for VMMs: above those of people (login.defs, SYS_UID_MAX and UID_MAX)
/// and of nobody, below the subordinate ids of subuid(5)'s later users.
const FIRST: u32 = 200_000;

/// How many there are: more than VMs fit on one machine.
const COUNT: u32 = 65_536;

/// One that no living sandbox has; `None` where this process has no privilege to give up.
pub(crate) fn free(living: &[Record]) -> Option<Identity> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    lowest_free(living)
}

fn lowest_free(living: &[Record]) -> Option<Identity> {
    let taken: Vec<u32> =
        living.iter().filter_map(|record| record.identity).map(|identity| identity.uid).collect();
    (FIRST..FIRST + COUNT).find(|id| !taken.contains(id)).map(|id| Identity { uid: id, gid: id })
}
