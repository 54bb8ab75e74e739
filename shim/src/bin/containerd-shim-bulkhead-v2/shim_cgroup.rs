//! The cgroup a client of containerd's wants a shim in (`WithShimCgroup`), which it says among the options of runc's shim,
//! whatever the runtime.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use protobuf::well_known_types::any::Any;
use shim::CGROUP_MOUNT;

use crate::fields::each_field;

/// The messages with such options, and the number of their field `shim_cgroup`: containerd's api/types/runc/options/oci.proto,
/// which its clients from version 2 on send, and runtime/linux/runctypes/runc.proto, which those before it send to a runtime
/// that is not runc.
const MESSAGES: [(&str, u32); 2] =
    [("containerd.runc.v1.Options", 3), ("containerd.linux.runc.CreateOptions", 9)];

#[derive(Debug, thiserror::Error)]
#[error("cannot join the shim's cgroup {}", path.display())]
pub(crate) struct ShimCgroupError {
    path: PathBuf,
    source: io::Error,
}

/// The path that options name, from the top of the hierarchy.
pub(crate) fn named(options: &Any) -> Option<PathBuf> {
    let (_, shim_cgroup) = MESSAGES.into_iter().find(|(message, _)| *message == options.type_url)?;
    let mut path = String::new();
    each_field(&options.value, |field, input| {
        let wanted = field == shim_cgroup;
        if wanted {
            path = input.read_string()?;
        }
        Ok(wanted)
    })
    .ok()?;
    (!path.is_empty()).then(|| path.into())
}

/// A cgroup that is there already, for a process to be put into.
#[derive(Debug)]
pub(crate) struct ShimCgroup {
    path: PathBuf,
    processes: File,
}

impl ShimCgroup {
    pub(crate) fn open(path: PathBuf) -> Result<Self, ShimCgroupError> {
        match open_below(Path::new(CGROUP_MOUNT), &path) {
            Ok(processes) => Ok(Self { path, processes }),
            Err(source) => Err(ShimCgroupError { path, source }),
        }
    }

    pub(crate) fn take_in(mut self, pid: u32) -> Result<(), ShimCgroupError> {
        let written = self.processes.write_all(pid.to_string().as_bytes());
        written.map_err(|source| ShimCgroupError { path: self.path, source })
    }
}

fn open_below(mount: &Path, path: &Path) -> io::Result<File> {
    let below = path.strip_prefix("/").unwrap_or(path);
    if below.components().any(|component| component == Component::ParentDir) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    OpenOptions::new().write(true).open(mount.join(below).join("cgroup.procs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::message;

    fn options(type_url: &str, number: u32, path: &str) -> Any {
        let value = message(|out| {
            out.write_bool(1, true)?;
            out.write_string(number, path)?;
            out.write_uint32(10, 1000)
        });
        Any { type_url: type_url.to_owned(), value, ..Default::default() }
    }

    #[test]
    fn clients_of_each_version_can_name_one() {
        for (message, number) in MESSAGES {
            let named = named(&options(message, number, "/containerd/shim"));
            assert_eq!(named, Some(PathBuf::from("/containerd/shim")), "{message}");
        }
    }

    #[test]
    fn most_name_none() {
        let (message, number) = MESSAGES[0];
        assert_eq!(named(&Any::new()), None);
        assert_eq!(named(&options(message, number, "")), None);
        assert_eq!(named(&options(message, number + 3, "runc-fp")), None);
        assert_eq!(named(&options("runtimeoptions.v1.Options", number, "/containerd/shim")), None);
        let broken = Any { value: b"no message".to_vec(), ..options(message, number, "") };
        assert_eq!(named(&broken), None);
    }

    #[test]
    fn a_process_is_put_into_one_that_is_there() {
        let mount = tempfile::tempdir().unwrap();
        let cgroup = mount.path().join("a/b");
        std::fs::create_dir_all(&cgroup).unwrap();
        std::fs::write(cgroup.join("cgroup.procs"), "").unwrap();
        let path = PathBuf::from("/a/b");
        let processes = open_below(mount.path(), &path).unwrap();
        ShimCgroup { path, processes }.take_in(42).unwrap();
        assert_eq!(std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap(), "42");
        for elsewhere in ["/a/c", "/a/../../x"] {
            assert!(open_below(mount.path(), Path::new(elsewhere)).is_err(), "{elsewhere}");
        }
    }
}
