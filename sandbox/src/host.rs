//! What this machine offers for running microVMs: what `bulkhead doctor` prints.

use std::fs;
use std::io;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

use crate::cgroup;

/// One thing a host must offer, and whether it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` when all is well.
    pub advice: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    Good,
    /// Sandboxes run, with a restriction that `found` names.
    Weak,
    /// Sandboxes cannot run.
    Bad,
}

/// The oldest kernel whose KVM the VMM is written for.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// KVM_GET_API_VERSION's answer since Linux 2.6.22 (Documentation/virt/kvm/api.rst §4.1).
const KVM_API: i32 = 12;

/// What the VMM asks of KVM, by its name in Documentation/virt/kvm/api.rst.
const CAPABILITIES: [(Cap, &str); 8] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::SignalMsi, "KVM_CAP_SIGNAL_MSI"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Looks at everything a sandbox needs of this machine.
pub fn check() -> Vec<Check> {
    let mut checks = vec![kernel(), vendor(Path::new("/sys/module"))];
    checks.extend(kvm());
    checks.push(jail());
    checks.push(limits(&cgroup::available()));
    checks
}

/// This machine's processor, in a line: guests that were saved on one go on on the same only.
pub fn processor() -> io::Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines
            .map(|(key, value)| (key.trim(), value.trim()))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    let [model, family, number, stepping, flags] = ["model name", "cpu family", "model", "stepping", "flags"]
        .map(|name| field(name).unwrap_or("unknown"));
    let digest = ring::digest::digest(&ring::digest::SHA256, flags.as_bytes());
    let features: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{model}, family {family} model {number} stepping {stepping}, features {features}"))
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: CheckState::Good, found: found.into(), advice: None }
}

fn bad(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { name, state: CheckState::Bad, found: found.into(), advice: Some(advice.into()) }
}

fn kernel() -> Check {
    kernel_release(&rustix::system::uname().release().to_string_lossy())
}

fn kernel_release(release: &str) -> Check {
    let name = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (oldest_major, oldest_minor) = OLDEST_KERNEL;
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => good(name, release),
        _ => bad(name, release, format!("needs Linux {oldest_major}.{oldest_minor} or later")),
    }
}

/// Which of KVM's back ends serves /dev/kvm.
fn vendor(modules: &Path) -> Check {
    let name = "KVM vendor";
    let loaded = |module: &str| modules.join(module).is_dir();
    if loaded("kvm_pvm") {
        return bad(
            name,
            "kvm_pvm, a software KVM: it cannot run an unmodified kernel",
            "use a machine with hardware virtualization (Intel VT-x or AMD-V), or the lab: `./dev lab`",
        );
    }
    match ["kvm_intel", "kvm_amd"].into_iter().find(|module| loaded(module)) {
        Some(module) => good(name, module),
        None => bad(
            name,
            "neither kvm_intel nor kvm_amd is loaded",
            "`modprobe kvm_intel` or `modprobe kvm_amd`; if that fails, switch virtualization on in the \
             firmware, or nested virtualization in the hypervisor this machine runs on",
        ),
    }
}

/// The device itself: there, usable, of the right version, with what the VMM asks of it.
fn kvm() -> Vec<Check> {
    let name = "/dev/kvm";
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => {
            let error = io::Error::from_raw_os_error(error.errno());
            return vec![bad(name, error.to_string(), open_advice(&error))];
        }
    };
    let mut checks = vec![good(name, "can be opened")];
    let version = kvm.get_api_version();
    checks.push(if version == KVM_API {
        good("KVM API", version.to_string())
    } else {
        bad("KVM API", version.to_string(), format!("needs {KVM_API}"))
    });
    checks.push(capabilities(|capability| kvm.check_extension(capability)));
    checks
}

fn open_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "load KVM (`modprobe kvm_intel` or `modprobe kvm_amd`); in a container, \
                                    pass the device in"
            .to_owned(),
        io::ErrorKind::PermissionDenied => {
            "become a member of the group kvm (`sudo usermod -aG kvm $USER`, then log in again), or run \
             as root"
                .to_owned()
        }
        _ => "look into the kernel's log".to_owned(),
    }
}

fn capabilities(has: impl Fn(Cap) -> bool) -> Check {
    let name = "KVM capabilities";
    let lacking: Vec<_> =
        CAPABILITIES.into_iter().filter(|(capability, _)| !has(*capability)).map(|(_, name)| name).collect();
    if lacking.is_empty() {
        good(name, "all that are needed")
    } else {
        bad(name, format!("lacks {}", lacking.join(", ")), "use a later kernel, or another hypervisor below")
    }
}

/// What the VMM's jail is made of: root changes its user; others need a user namespace.
fn jail() -> Check {
    let name = "jail";
    if rustix::process::geteuid().is_root() {
        return good(name, "root: every VMM gets a user of its own");
    }
    user_namespaces(|setting| fs::read_to_string(Path::new("/proc/sys").join(setting)).ok())
}

fn user_namespaces(setting: impl Fn(&str) -> Option<String>) -> Check {
    let off = [
        ("user/max_user_namespaces", "0"),
        // Debian's and Ubuntu's own switches.
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ]
    .into_iter()
    .find(|(name, off)| setting(name).is_some_and(|value| value.trim() == *off));
    match off {
        None => good("jail", "user namespaces for the VMM's empty root"),
        Some((name, value)) => Check {
            name: "jail",
            state: CheckState::Weak,
            found: format!("no user namespaces ({} = {value})", name.replace('/', ".")),
            advice: Some("allow them by that sysctl, or run as root".to_owned()),
        },
    }
}

/// Which limits the host can put on a VMM. The guest enforces those on processor time and memory without it.
fn limits(controllers: &Result<Vec<String>, String>) -> Check {
    let name = "limits";
    let weak = |found: String, advice: &str| Check {
        name,
        state: CheckState::Weak,
        found,
        advice: Some(advice.to_owned()),
    };
    let controllers = match controllers {
        Ok(controllers) => controllers,
        Err(why) => {
            return weak(format!("none on the host: {why}"), "without it, the guest alone limits itself");
        }
    };
    let works: Vec<_> = LIMITS.iter().filter(|(name, _)| controllers.iter().any(|had| had == name)).collect();
    let lacking: Vec<_> = LIMITS.iter().filter(|limit| !works.contains(limit)).collect();
    let list =
        |limits: &[&(&str, &str)]| limits.iter().map(|(_, options)| *options).collect::<Vec<_>>().join(", ");
    if lacking.is_empty() {
        return good(name, format!("cgroup v2 enforces {}", list(&works)));
    }
    weak(
        format!("cgroup v2 enforces {} here, and not {}", list(&works), list(&lacking)),
        "have the missing controllers delegated (systemd: Delegate=yes in user@.service), or run as root",
    )
}

/// The controllers of cgroup v2, and the options that need them.
const LIMITS: [(&str, &str); 4] = [
    ("cpu", "--cpus and --cpu-shares"),
    ("memory", "--memory"),
    ("io", "--blkio-weight and --device-read-bps …"),
    ("pids", "a bound of processes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_do_not_work_are_named() {
        let had = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(limits(&had(&["cpu", "io", "memory", "pids"])).state, CheckState::Good);
        let check = limits(&had(&["memory", "pids"]));
        assert!(check.state == CheckState::Weak && check.found.contains("not --cpus"), "{}", check.found);
        assert!(limits(&Err("no cgroup v2".to_owned())).found.contains("no cgroup v2"));
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(kernel_release("6.12.48+deb13-amd64").state, CheckState::Good);
        assert_eq!(kernel_release("5.10.0").state, CheckState::Good);
        assert_eq!(kernel_release("5.4.0-generic").state, CheckState::Bad);
        assert_eq!(kernel_release("nonsense").state, CheckState::Bad);
    }

    #[test]
    fn the_vendor_behind_kvm_is_told() {
        let modules = tempfile::tempdir().unwrap();
        assert_eq!(vendor(modules.path()).state, CheckState::Bad);
        fs::create_dir(modules.path().join("kvm_amd")).unwrap();
        assert_eq!(vendor(modules.path()).found, "kvm_amd");
        fs::create_dir(modules.path().join("kvm_pvm")).unwrap();
        let pvm = vendor(modules.path());
        assert!(pvm.state == CheckState::Bad && pvm.found.contains("kvm_pvm"));
    }

    #[test]
    fn what_kvm_lacks_is_named() {
        assert_eq!(capabilities(|_| true).state, CheckState::Good);
        let found = capabilities(|capability| !matches!(capability, Cap::Irqfd)).found;
        assert_eq!(found, "lacks KVM_CAP_IRQFD");
    }

    #[test]
    fn forbidden_user_namespaces_are_told_with_the_switch_that_forbids_them() {
        let ubuntu = |name: &str| (name.contains("apparmor")).then(|| "1\n".to_owned());
        let check = user_namespaces(ubuntu);
        assert!(check.state == CheckState::Weak && check.found.contains("apparmor_restrict"));
        assert_eq!(user_namespaces(|_| None).state, CheckState::Good);
    }
}
