//! A user and group for each VMM alone, where its supervisor is root.

use std::collections::HashSet;

use vmm_api::Identity;

/// The first of the ids set aside for VMMs: above those of people (login.defs, SYS_UID_MAX and UID_MAX)
/// and of nobody, below the subordinate ids of subuid(5)'s later users.
const FIRST: u32 = 200_000;

/// How many there are: more than VMs fit on one machine.
const COUNT: u32 = 65_536;

/// One that no sandbox has, of those that are there; `None` where this process has no privilege to give up.
pub(crate) fn free(taken: &[Identity]) -> Option<Identity> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    lowest_free(taken)
}

fn lowest_free(taken: &[Identity]) -> Option<Identity> {
    let taken: HashSet<u32> = taken.iter().map(|identity| identity.uid).collect();
    (FIRST..FIRST + COUNT).find(|id| !taken.contains(id)).map(|id| Identity { uid: id, gid: id })
}
