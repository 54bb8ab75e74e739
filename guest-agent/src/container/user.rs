//! Whom a process runs as: an image's User, looked up in its /etc/passwd and /etc/group.
//!
//! The forms are those of the OCI image specification ("user", "uid", "user:group" and their mixtures). A
//! numeric id needs no entry anywhere; nothing at all means root. The files are an image's, so they are read
//! with bounds, and lines that make no sense are passed over.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::in_root::InRoot;

const MAX_FILE_LEN: u64 = 4 * 1024 * 1024;

/// The kernel's own bound (NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// A process's credentials and where it is at home.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub home: String,
}

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("no user {0:?} in the image's /etc/passwd")]
    UnknownUser(String),
    #[error("no group {0:?} in the image's /etc/group")]
    UnknownGroup(String),
    #[error("cannot read the image's {path}")]
    Unreadable { path: &'static str, source: io::Error },
}

/// The identity `user` names in this root file system.
pub(super) fn look_up(root: &InRoot, user: &str) -> Result<Identity, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    let group = read(root, "/etc/group")?;
    resolve(user, &passwd, &group)
}

/// Where the user with this id is at home, for a HOME nobody set.
pub(super) fn home_of(root: &InRoot, uid: u32) -> Result<String, UserError> {
    let passwd = read(root, "/etc/passwd")?;
    let account = accounts(&passwd).find(|account| account.uid == uid);
    Ok(account.map_or_else(|| default_home(uid), |account| account.home.to_owned()))
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn resolve(user: &str, passwd: &[String], group: &[String]) -> Result<Identity, UserError> {
    let (user_part, group_part) = user.split_once(':').unwrap_or((user, ""));
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    // A name of digits is tried as a name first, as Docker does.
    let numeric = user_part.parse().ok();
    let account = accounts(passwd)
        .find(|account| account.name == user_part)
        .or_else(|| accounts(passwd).find(|account| Some(account.uid) == numeric));
    let (uid, primary_gid, home) = match (&account, numeric) {
        (Some(account), _) => (account.uid, account.gid, account.home.to_owned()),
        (None, Some(uid)) => (uid, 0, default_home(uid)),
        (None, None) => return Err(UserError::UnknownUser(user_part.to_owned())),
    };
    if group_part.is_empty() {
        let name = account.map(|account| account.name);
        let additional_gids = memberships(group, name, primary_gid);
        return Ok(Identity { uid, gid: primary_gid, additional_gids, home });
    }
    let gid = groups(group)
        .find(|entry| entry.name == group_part)
        .map(|entry| entry.gid)
        .or_else(|| group_part.parse().ok())
        .ok_or_else(|| UserError::UnknownGroup(group_part.to_owned()))?;
    // A group that is asked for stands alone, as in Docker.
    Ok(Identity { uid, gid, additional_gids: vec![gid], home })
}

/// The supplementary groups: the primary one among them, without which a file could deny its group and still be
/// read through another (CVE-2022-36109).
fn memberships(group: &[String], name: Option<&str>, primary_gid: u32) -> Vec<u32> {
    let is_member = |entry: &Group<'_>| name.is_some_and(|name| entry.members.split(',').any(|m| m == name));
    let mut gids: Vec<u32> =
        groups(group).filter(is_member).map(|entry| entry.gid).chain([primary_gid]).collect();
    gids.sort_unstable();
    gids.dedup();
    gids.truncate(MAX_GROUPS);
    gids
}

fn accounts(passwd: &[String]) -> impl Iterator<Item = Account<'_>> {
    passwd.iter().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Account { name, uid, gid, home })
    })
}

fn groups(group: &[String]) -> impl Iterator<Item = Group<'_>> {
    group.iter().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default().trim();
        Some(Group { name, gid, members })
    })
}

fn default_home(uid: u32) -> String {
    if uid == 0 { "/root" } else { "/" }.to_owned()
}

/// The lines of a file; none if the image has no such file.
fn read(root: &InRoot, path: &'static str) -> Result<Vec<String>, UserError> {
    let unreadable = |source| UserError::Unreadable { path, source };
    let file = match root.file(Path::new(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    BufReader::new(file.take(MAX_FILE_LEN))
        .split(b'\n')
        .map(|line| line.map(|line| String::from_utf8_lossy(&line).into_owned()))
        .collect::<io::Result<_>>()
        .map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    fn look_up(user: &str) -> Result<Identity, UserError> {
        let passwd = lines(
            "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34::/var/www:/bin/sh\n7:x:70:71::/seven:",
        );
        let group = lines("root:x:0:\nwww:x:34:\nadm:x:4:web,root\nlog:x:5:nobody,web\nagain:x:4:web");
        resolve(user, &passwd, &group)
    }

    fn identity(uid: u32, gid: u32, additional_gids: &[u32], home: &str) -> Identity {
        Identity { uid, gid, additional_gids: additional_gids.to_vec(), home: home.to_owned() }
    }

    #[test]
    fn the_forms_of_an_image_user() {
        assert_eq!(look_up("").unwrap(), identity(0, 0, &[0, 4], "/root"));
        assert_eq!(look_up("web").unwrap(), identity(33, 34, &[4, 5, 34], "/var/www"));
        assert_eq!(look_up("33").unwrap(), identity(33, 34, &[4, 5, 34], "/var/www"));
        assert_eq!(look_up("web:adm").unwrap(), identity(33, 4, &[4], "/var/www"));
        assert_eq!(look_up("web:1234").unwrap(), identity(33, 1234, &[1234], "/var/www"));
        assert_eq!(look_up("99999").unwrap(), identity(99999, 0, &[0], "/"));
        assert_eq!(look_up("7").unwrap(), identity(70, 71, &[71], "/seven"));
    }

    #[test]
    fn unknown_names_are_told() {
        assert!(matches!(look_up("nobody"), Err(UserError::UnknownUser(name)) if name == "nobody"));
        assert!(matches!(look_up("web:none"), Err(UserError::UnknownGroup(name)) if name == "none"));
        assert!(matches!(look_up("4294967296"), Err(UserError::UnknownUser(_))));
    }

    #[test]
    fn an_image_without_files_still_has_root_and_numbers() {
        assert_eq!(resolve("", &[], &[]).unwrap(), identity(0, 0, &[0], "/root"));
        assert_eq!(resolve("1000:1000", &[], &[]).unwrap(), identity(1000, 1000, &[1000], "/"));
    }

    proptest! {
        #[test]
        fn any_files_and_any_user_are_answered(
            user in ".{0,20}",
            passwd in prop::collection::vec("[a-z0-9:]{0,30}", 0..10),
            group in prop::collection::vec("[a-z0-9:,]{0,30}", 0..10),
        ) {
            let _ = resolve(&user, &passwd, &group);
        }

        #[test]
        fn every_account_is_found_by_name_with_its_groups(
            names in prop::collection::hash_set("[a-z]{1,8}", 1..10),
        ) {
            let passwd: Vec<_> = names.iter().enumerate()
                .map(|(i, name)| format!("{name}:x:{0}:{0}::/home/{name}:/bin/sh", 1000 + i)).collect();
            let everyone = names.iter().cloned().collect::<Vec<_>>().join(",");
            let group = vec![format!("all:x:100:{everyone}")];
            for (i, name) in names.iter().enumerate() {
                let id = 1000 + u32::try_from(i).unwrap();
                let home = format!("/home/{name}");
                prop_assert_eq!(resolve(name, &passwd, &group).unwrap(), identity(id, id, &[100, id], &home));
            }
        }
    }
}
