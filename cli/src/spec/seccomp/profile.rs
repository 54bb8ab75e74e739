//! A seccomp profile in Docker's format, which is the OCI's and conditions: rules that hold only with or
//! without certain capabilities, architectures or kernels. A plain OCI profile is one without conditions.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
pub(super) use oci_spec::runtime::{LinuxSeccompAction as Action, LinuxSeccompOperator as Operator};
use serde::{Deserialize, Deserializer};

/// This host's architecture, in seccomp's words and in Go's, which Docker's conditions use.
const SECCOMP_ARCHITECTURE: &str = "SCMP_ARCH_X86_64";
const GO_ARCHITECTURE: &str = "amd64";

/// The guest kernel's version, as far as conditions ask for it.
const KERNEL: (u32, u32) = (6, 12);

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    pub default_action: Action,
    pub default_errno_ret: Option<u32>,
    pub architectures: Option<Vec<String>>,
    pub arch_map: Option<Vec<ArchitectureFamily>>,
    pub flags: Option<Vec<LinuxSeccompFilterFlag>>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchitectureFamily {
    pub architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub sub_architectures: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    /// How a single call was named before there was `names`.
    pub name: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub names: Vec<String>,
    pub action: Action,
    pub errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub args: Vec<Condition>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub includes: Filter,
    #[serde(default, deserialize_with = "null_as_default")]
    pub excludes: Filter,
}

/// What an argument of the call must be.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    pub index: u32,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: Operator,
}

/// What a rule depends on.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(default, deserialize_with = "null_as_default")]
    pub caps: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub arches: Vec<String>,
    pub min_kernel: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("{0:?} is no architecture seccomp knows")]
    UnknownArchitecture(String),
    #[error("\"architectures\" and \"archMap\" exclude each other")]
    TwoArchitectureLists,
    #[error("{0:?} is no kernel version")]
    KernelVersion(String),
    #[error("a rule names no system call")]
    NoCall,
    #[error("a system call has six arguments; there is none with index {0}")]
    ArgumentIndex(u32),
    #[error("a condition cannot be put in the OCI's form")]
    Oci(#[from] OciSpecError),
}

/// Go writes an empty list or object as null.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Profile {
    /// What the profile comes to for a process with these capabilities.
    pub(super) fn resolve(self, capabilities: &Capabilities) -> Result<LinuxSeccomp, ProfileError> {
        let architectures = self.architectures()?;
        let mut syscalls = Vec::new();
        for rule in self.syscalls {
            if rule.applies(capabilities)? {
                syscalls.push(rule.without_conditions()?);
            }
        }
        let mut seccomp = LinuxSeccomp::default();
        seccomp.set_default_action(self.default_action);
        seccomp.set_default_errno_ret(self.default_errno_ret);
        seccomp.set_architectures(architectures);
        seccomp.set_flags(self.flags.filter(|flags| !flags.is_empty()));
        seccomp.set_syscalls(Some(syscalls));
        Ok(seccomp)
    }

    fn architectures(&self) -> Result<Option<Vec<Arch>>, ProfileError> {
        let listed = self.architectures.clone().unwrap_or_default();
        let families = self.arch_map.clone().unwrap_or_default();
        if !listed.is_empty() && !families.is_empty() {
            return Err(ProfileError::TwoArchitectureLists);
        }
        let own = families.into_iter().find(|family| family.architecture == SECCOMP_ARCHITECTURE);
        let own =
            own.into_iter().flat_map(|family| [vec![family.architecture], family.sub_architectures].concat());
        let all =
            listed.into_iter().chain(own).map(|name| architecture(&name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(all).filter(|all| !all.is_empty()))
    }
}

fn architecture(name: &str) -> Result<Arch, ProfileError> {
    // The names of the OCI runtime-spec, as its type reads them.
    serde_json::from_value(serde_json::Value::from(name))
        .map_err(|_| ProfileError::UnknownArchitecture(name.to_owned()))
}

impl Rule {
    /// Docker's rule: all that is included must hold, nothing that is excluded may.
    fn applies(&self, capabilities: &Capabilities) -> Result<bool, ProfileError> {
        let has = |name: &String| {
            capabilities.iter().any(|capability| name.strip_prefix("CAP_") == Some(&capability.to_string()))
        };
        let here = |name: &String| name == GO_ARCHITECTURE;
        let old_enough = |version: &Option<String>| version.as_deref().map(kernel_reaches).transpose();

        let included = self.includes.caps.iter().all(has)
            && (self.includes.arches.is_empty() || self.includes.arches.iter().any(here))
            && old_enough(&self.includes.min_kernel)?.unwrap_or(true);
        let excluded = self.excludes.caps.iter().any(has)
            || self.excludes.arches.iter().any(here)
            || old_enough(&self.excludes.min_kernel)?.unwrap_or(false);
        Ok(included && !excluded)
    }

    fn without_conditions(self) -> Result<LinuxSyscall, ProfileError> {
        let names: Vec<String> = self.name.into_iter().chain(self.names).collect();
        if names.is_empty() {
            return Err(ProfileError::NoCall);
        }
        let args = self.args.iter().map(Condition::to_oci).collect::<Result<Vec<_>, _>>()?;
        let mut call = LinuxSyscall::default();
        call.set_names(names);
        call.set_action(self.action);
        call.set_errno_ret(self.errno_ret);
        call.set_args(Some(args).filter(|args| !args.is_empty()));
        Ok(call)
    }
}

impl Condition {
    fn to_oci(&self) -> Result<LinuxSeccompArg, ProfileError> {
        let index = usize::try_from(self.index).ok().filter(|index| *index < 6);
        let argument = LinuxSeccompArgBuilder::default()
            .index(index.ok_or(ProfileError::ArgumentIndex(self.index))?)
            .value(self.value)
            .value_two(self.value_two)
            .op(self.op);
        Ok(argument.build()?)
    }
}

fn kernel_reaches(version: &str) -> Result<bool, ProfileError> {
    let malformed = || ProfileError::KernelVersion(version.to_owned());
    let (major, minor) = version.split_once('.').ok_or_else(malformed)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| malformed());
    Ok(KERNEL >= (number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    fn resolved(rules: &str, capabilities: &[Capability]) -> Result<Vec<String>, ProfileError> {
        let text = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#);
        let profile: Profile = serde_json::from_str(&text).unwrap();
        let seccomp = profile.resolve(&capabilities.iter().copied().collect())?;
        Ok(seccomp.syscalls().iter().flatten().flat_map(|call| call.names().clone()).collect())
    }

    #[test]
    fn conditions_on_capabilities_decide() {
        let rules = r#"
            {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
            {"name":"clone","action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_BPF","CAP_SYS_ADMIN"]}}"#;
        assert_eq!(resolved(rules, &[]).unwrap(), ["clone"]);
        assert_eq!(resolved(rules, &[Capability::Bpf]).unwrap(), ["bpf"]);
        assert!(resolved(rules, &[Capability::SysAdmin]).unwrap().is_empty());
    }

    #[test]
    fn conditions_on_architecture_and_kernel_decide() {
        let rules = r#"
            {"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["amd64","x32"]}},
            {"names":["b"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
            {"names":["c"],"action":"SCMP_ACT_ALLOW","excludes":{"arches":["amd64"]}},
            {"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"7.0"}}"#;
        assert_eq!(resolved(rules, &[]).unwrap(), ["a", "d"]);
    }

    #[test]
    fn a_family_of_architectures_is_that_of_this_host() {
        let profile: Profile = serde_json::from_str(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":null,"archMap":[
                {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]},
                {"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
                {"architecture":"SCMP_ARCH_RISCV64","subArchitectures":null}]}"#,
        )
        .unwrap();
        let seccomp = profile.resolve(&Capabilities::new()).unwrap();
        assert_eq!(seccomp.architectures(), &Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86]));
    }

    #[test]
    fn profiles_that_mean_nothing_are_refused() {
        let index =
            r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#;
        assert!(matches!(resolved(index, &[]), Err(ProfileError::ArgumentIndex(6))));
        let nameless = r#"{"names":[],"action":"SCMP_ACT_ALLOW"}"#;
        assert!(matches!(resolved(nameless, &[]), Err(ProfileError::NoCall)));
        let kernel = r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}"#;
        assert!(matches!(resolved(kernel, &[]), Err(ProfileError::KernelVersion(_))));
    }
}
