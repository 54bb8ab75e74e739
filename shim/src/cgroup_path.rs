//! Where on this host the cgroup is that a configuration names (OCI runtime-spec, config-linux.md, "Control groups").

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;

/// Where cgroup v2 is mounted.
pub const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

/// The hierarchy's own cgroup, which is no container's.
const TOP: &str = "/";

/// Of units that name no slice, as runc has it.
const DEFAULT_SLICE: &str = "system.slice";

/// The cgroup that a container's processes of the host belong to, from the top of the hierarchy; `None` where the
/// configuration names none, or none that could be one. It may be told as a path, or in systemd's form, `slice:prefix:name`.
pub fn cgroup_path(spec: &Spec) -> Option<PathBuf> {
    let path = spec.linux().as_ref()?.cgroups_path().as_ref()?;
    let below = match path.to_str()?.split(':').collect::<Vec<_>>().as_slice() {
        [slice, prefix, name] => unit(slice, prefix, name)?,
        [_] => path.clone(),
        _ => return None,
    };
    let mut whole = PathBuf::from(TOP);
    for component in below.components() {
        match component {
            Component::Normal(name) => whole.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(whole).filter(|whole| whole != Path::new(TOP))
}

fn unit(slice: &str, prefix: &str, name: &str) -> Option<PathBuf> {
    let slice = expand(if slice.is_empty() { DEFAULT_SLICE } else { slice })?;
    if name.is_empty() {
        return None;
    }
    let unit = match (name.ends_with(".slice"), prefix) {
        (true, _) => name.to_owned(),
        (false, "") => format!("{name}.scope"),
        (false, prefix) => format!("{prefix}-{name}.scope"),
    };
    Some(slice.join(unit))
}

/// A slice is below those that its name begins with (systemd.slice(5)).
fn expand(slice: &str) -> Option<PathBuf> {
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty())?;
    let mut path = PathBuf::new();
    if name == "-" {
        return Some(path);
    }
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxBuilder;

    use super::*;

    fn path(named: &str) -> Option<String> {
        let mut spec = Spec::default();
        spec.set_linux(Some(LinuxBuilder::default().cgroups_path(named).build().unwrap()));
        cgroup_path(&spec).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn both_forms_name_a_directory() {
        for (named, directory) in [
            ("/docker/abc", "/docker/abc"),
            ("libpod_parent/libpod-abc", "/libpod_parent/libpod-abc"),
            ("machine.slice:libpod:abc", "/machine.slice/libpod-abc.scope"),
            (":docker:abc", "/system.slice/docker-abc.scope"),
            ("-.slice::abc", "/abc.scope"),
            (
                "kubepods-besteffort-pod1.slice:crio:abc",
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/crio-abc.scope",
            ),
        ] {
            assert_eq!(path(named).as_deref(), Some(directory), "{named}");
        }
    }

    #[test]
    fn what_would_be_elsewhere_is_none() {
        for named in
            ["", "/", "/a/../../b", "a:b", "x.slice:p:../../y", "a--b.slice:p:x", "slice:p:x", "x.slice:p:"]
        {
            assert_eq!(path(named), None, "{named}");
        }
    }
}
