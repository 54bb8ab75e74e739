//! What CRI says of a pod, where the Sandbox API hands it over: `runtime.v1.PodSandboxConfig` of Kubernetes' cri-api, of which
//! a sandbox needs a few fields.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use protobuf::Error;

use crate::fields::each_field;

/// As containerd calls the type.
pub(crate) const TYPE: &str = "runtime.v1.PodSandboxConfig";

/// What containerd's CRI puts between a slice and a container's id.
const SYSTEMD_PREFIX: &str = "cri-containerd";

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PodConfig {
    pub(crate) hostname: String,
    cgroup_parent: String,
    pub(crate) sysctls: HashMap<String, String>,
    pub(crate) resources: Resources,
}

/// `LinuxContainerResources`: what the pod's containers come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) cpu_period: Option<u64>,
    /// 0 is no limit.
    pub(crate) cpu_quota: i64,
    pub(crate) cpu_shares: Option<u64>,
    /// In bytes; 0 is no limit.
    pub(crate) memory_limit: i64,
}

impl PodConfig {
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Error> {
        let mut config = Self::default();
        each_field(message, |field, input| {
            match field {
                2 => config.hostname = input.read_string()?,
                8 => config.take_linux(&input.read_bytes()?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(config)
    }

    /// `LinuxPodSandboxConfig`.
    fn take_linux(&mut self, message: &[u8]) -> Result<(), Error> {
        each_field(message, |field, input| {
            match field {
                1 => self.cgroup_parent = input.read_string()?,
                3 => self.sysctls.extend([entry(&input.read_bytes()?)?]),
                5 => self.resources = Resources::parse(&input.read_bytes()?)?,
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// The cgroup of the sandbox `id` in the words of the OCI runtime specification, as containerd forms them.
    pub(crate) fn cgroups_path(&self, id: &str) -> Option<PathBuf> {
        let parent = Path::new(&self.cgroup_parent);
        let name = parent.file_name()?.to_str()?;
        Some(match name.ends_with(".slice") {
            true => PathBuf::from(format!("{name}:{SYSTEMD_PREFIX}:{id}")),
            false => parent.join(id),
        })
    }
}

impl Resources {
    fn parse(message: &[u8]) -> Result<Self, Error> {
        let mut resources = Self::default();
        each_field(message, |field, input| {
            match field {
                1 => resources.cpu_period = Some(input.read_uint64()?),
                2 => resources.cpu_quota = input.read_int64()?,
                3 => resources.cpu_shares = Some(input.read_uint64()?),
                4 => resources.memory_limit = input.read_int64()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(resources)
    }
}

/// One of a map of strings.
fn entry(message: &[u8]) -> Result<(String, String), Error> {
    let mut entry = <(String, String)>::default();
    each_field(message, |field, input| {
        match field {
            1 => entry.0 = input.read_string()?,
            2 => entry.1 = input.read_string()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::message;

    fn pod(cgroup_parent: &str) -> Vec<u8> {
        let sysctl = message(|out| {
            out.write_string(1, "net.core.somaxconn")?;
            out.write_string(2, "100")
        });
        let resources = message(|out| {
            out.write_int64(1, 100_000)?;
            out.write_int64(2, 50_000)?;
            out.write_int64(4, 1 << 28)?;
            out.write_int64(5, -998)
        });
        let linux = message(|out| {
            out.write_string(1, cgroup_parent)?;
            out.write_bytes(2, b"\x08\x01")?;
            out.write_bytes(3, &sysctl)?;
            out.write_bytes(5, &resources)
        });
        message(|out| {
            out.write_bytes(1, b"\x0a\x01p")?;
            out.write_string(2, "web")?;
            out.write_string(3, "/var/log/pods/p")?;
            out.write_bytes(8, &linux)
        })
    }

    #[test]
    fn what_a_sandbox_needs_is_read_and_the_rest_left() {
        let config = PodConfig::parse(&pod("/kubepods/pod1")).unwrap();
        assert_eq!(config.hostname, "web");
        assert_eq!(config.sysctls["net.core.somaxconn"], "100");
        let resources = Resources {
            cpu_period: Some(100_000),
            cpu_quota: 50_000,
            cpu_shares: None,
            memory_limit: 1 << 28,
        };
        assert_eq!(config.resources, resources);
        assert_eq!(PodConfig::parse(&[]).unwrap(), PodConfig::default());
    }

    #[test]
    fn the_cgroup_is_where_containerd_has_it() {
        let path = |parent: &str| PodConfig::parse(&pod(parent)).unwrap().cgroups_path("id");
        assert_eq!(path("/kubepods/pod1"), Some(PathBuf::from("/kubepods/pod1/id")));
        let slice = "/kubepods.slice/kubepods-pod1.slice";
        assert_eq!(path(slice), Some(PathBuf::from("kubepods-pod1.slice:cri-containerd:id")));
        assert_eq!(path(""), None);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let whole = pod("/p");
        assert!(PodConfig::parse(&whole[..whole.len() - 1]).is_err());
        assert!(PodConfig::parse(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
