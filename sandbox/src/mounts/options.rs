//! Options of a mount as mount(8) has them: flags for the kernel, and what the file system itself is told.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

/// The most the file system may be told, in bytes: a page, its NUL included (mount(2)).
const MOST_DATA: usize = 4095;

/// Options, sorted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub(crate) flags: MountFlags,
    pub(crate) data: String,
}

pub(crate) fn parse(options: &[String]) -> MountOptions {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match flag(option) {
            Some((flag, true)) => flags |= flag,
            Some((flag, false)) => flags -= flag,
            None => data.push(option.as_str()),
        }
    }
    MountOptions { flags, data: data.join(",") }
}

/// A flag, and whether the option sets it.
fn flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "relatime" => (MountFlags::RELATIME, true),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "bind" => (MountFlags::BIND, true),
        "rbind" => (MountFlags::BIND.union(MountFlags::REC), true),
        "defaults" | "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => {
            (MountFlags::empty(), true)
        }
        _ => return None,
    })
}

impl MountOptions {
    pub(crate) fn is_read_only(&self) -> bool {
        self.flags.contains(MountFlags::RDONLY)
    }

    /// Whether a mount of this kind is of a part of the host's tree.
    pub(crate) fn is_bind(&self, kind: &str) -> bool {
        kind == "bind" || self.flags.contains(MountFlags::BIND)
    }

    /// Whether what is mounted below comes along.
    pub(crate) fn is_recursive(&self) -> bool {
        self.flags.contains(MountFlags::REC)
    }
}

/// An overlay of many layers, told in what fits: relative to the directory that holds its lower ones, where the kernel is to
/// look for them.
pub(crate) fn shortened(data: &str) -> (Option<PathBuf>, String) {
    const LOWER: &str = "lowerdir=";
    if data.len() <= MOST_DATA {
        return (None, data.to_owned());
    }
    let lower = data.split(',').find_map(|option| option.strip_prefix(LOWER)).unwrap_or_default();
    let lower: Vec<&Path> = lower.split(':').map(Path::new).collect();
    let Some(directory) = common_directory(&lower) else { return (None, data.to_owned()) };
    let relative = |layer: &&Path| Some(layer.strip_prefix(&directory).ok()?.to_str()?.to_owned());
    let names: Vec<_> = lower.iter().filter_map(relative).collect();
    let short = format!("{LOWER}{}", names.join(":"));
    let told = data.split(',').map(|option| if option.starts_with(LOWER) { short.as_str() } else { option });
    let told = told.collect::<Vec<_>>().join(",");
    (Some(directory), told)
}

/// The lowest directory that all the absolute paths lie in, and none of them is.
fn common_directory(paths: &[&Path]) -> Option<PathBuf> {
    let mut common = paths.first()?.parent()?;
    while !paths.iter().all(|path| path.parent().is_some_and(|parent| parent.starts_with(common))) {
        common = common.parent()?;
    }
    common.is_absolute().then(|| common.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_told_from_what_the_file_system_is_told() {
        let options = ["ro", "nosuid", "rw", "lowerdir=/a:/b", "index=off"].map(str::to_owned);
        let expected =
            MountOptions { flags: MountFlags::NOSUID, data: "lowerdir=/a:/b,index=off".to_owned() };
        assert_eq!(parse(&options), expected);
        assert!(parse(&["rbind".to_owned()]).is_recursive());
    }

    #[test]
    fn layers_are_named_by_what_sets_them_apart_where_their_paths_do_not_fit() {
        let path = |number: usize| format!("/var/lib/{}/{number}/fs", "x".repeat(100));
        let layers: Vec<_> = (0..50).map(path).collect();
        let data = format!("index=off,lowerdir={},upperdir=/u", layers.join(":"));
        let (directory, told) = shortened(&data);
        assert_eq!(directory.unwrap(), Path::new(&format!("/var/lib/{}", "x".repeat(100))));
        assert!(told.starts_with("index=off,lowerdir=0/fs:1/fs:2/fs:"), "{told}");
        assert!(told.ends_with("49/fs,upperdir=/u"), "{told}");
        assert_eq!(shortened("lowerdir=/a:/b"), (None, "lowerdir=/a:/b".to_owned()));
    }
}
