//! Devices: those any Linux has under the same numbers are the guest's; a block device of the host can be a disk of the
//! guest's, which has another number there; others are the host's, and stay there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespaceType, Spec};
use rustix::fs::{major, minor};
use sandbox::DeviceNumber;

use super::{Refusal, namespaces};

/// Character devices of the guest's kernel (Linux Documentation/admin-guide/devices.txt): null, zero, full, random, urandom,
/// tty, console, ptmx, fuse, tun.
const OF_ANY_KERNEL: [(i64, i64); 10] =
    [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 229), (10, 200)];

/// Below which alone the agent makes devices.
const DIRECTORY: &str = "/dev";

/// A block device of the host that the container is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockDevice {
    /// Among the spec's devices.
    index: usize,
    /// Where the host has it.
    pub(crate) source: PathBuf,
    access: Access,
}

/// What rules let a container do with a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Access {
    read: bool,
    write: bool,
    make: bool,
}

/// Gives the devices that need one of the host's. Rules that name numbers of the host alone go; for block devices they
/// come back with the guest's by [`BlockDevice::settle_as`].
pub(super) fn settle(linux: &mut Linux) -> Result<Vec<BlockDevice>, Refusal> {
    let rules = linux.resources().as_ref().and_then(|resources| resources.devices().clone());
    let rules = rules.unwrap_or_default();
    let in_user_namespace = namespaces::has(linux, LinuxNamespaceType::User);
    let mut given = Vec::new();
    for (index, device) in linux.devices().iter().flatten().enumerate() {
        match device.typ() {
            LinuxDeviceType::P => {}
            LinuxDeviceType::C | LinuxDeviceType::U
                if OF_ANY_KERNEL.contains(&(device.major(), device.minor())) => {}
            // There it would be the agent's device of the same path, bound.
            LinuxDeviceType::B if in_user_namespace => {
                return Err(Refusal::DeviceInUserNamespace(device.path().clone()));
            }
            LinuxDeviceType::B => given.push(block_device(index, device, &rules)?),
            _ => return Err(Refusal::Device(device.path().clone())),
        }
    }
    if let Some(resources) = linux.resources_mut()
        && resources.devices().is_some()
    {
        let kept = rules.into_iter().filter(|rule| !names_devices_of_the_host(rule)).collect();
        resources.set_devices(Some(kept));
    }
    Ok(given)
}

fn block_device(
    index: usize,
    device: &LinuxDevice,
    rules: &[LinuxDeviceCgroup],
) -> Result<BlockDevice, Refusal> {
    let path = device.path().clone();
    if !path.starts_with(DIRECTORY) {
        return Err(Refusal::DevicePath(path));
    }
    let access = Access::by(rules, device);
    if !access.read {
        return Err(Refusal::DeviceRule(path));
    }
    let (major, minor) = (device.major(), device.minor());
    let Some(source) = find(device) else { return Err(Refusal::NoBlockDevice { path, major, minor }) };
    Ok(BlockDevice { index, source, access })
}

/// Where the host has the device of this number: by the same name as the container, or by its kernel's.
fn find(device: &LinuxDevice) -> Option<PathBuf> {
    let number = (device.major(), device.minor());
    let known_as = || {
        let told = fs::read_to_string(format!("/sys/dev/block/{}:{}/uevent", number.0, number.1)).ok()?;
        let name = told.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
        Some(Path::new(DIRECTORY).join(name))
    };
    let has_number = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| {
            let of_path = (i64::from(major(found.rdev())), i64::from(minor(found.rdev())));
            found.file_type().is_block_device() && of_path == number
        })
    };
    Some(device.path().clone()).filter(has_number).or_else(|| known_as().filter(has_number))
}

impl BlockDevice {
    pub(crate) fn is_read_only(&self) -> bool {
        !self.access.write
    }

    pub(crate) fn open(&self) -> io::Result<File> {
        File::options().read(true).write(!self.is_read_only()).open(&self.source)
    }

    /// Has the spec, and its rules, name it as the guest's kernel does.
    pub(crate) fn settle_as(&self, number: DeviceNumber, spec: &mut Spec) {
        let Some(linux) = spec.linux_mut() else { return };
        let (major, minor) = (i64::from(number.major), i64::from(number.minor));
        let devices = linux.devices_mut().as_mut();
        if let Some(device) = devices.and_then(|devices| devices.get_mut(self.index)) {
            device.set_major(major);
            device.set_minor(minor);
        }
        let resources = linux.resources_mut().get_or_insert_default();
        let rules = resources.devices_mut().get_or_insert_default();
        for (allow, access) in [(false, Access::ALL), (true, self.access)] {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(allow);
            rule.set_typ(Some(LinuxDeviceType::B));
            rule.set_major(Some(major));
            rule.set_minor(Some(minor));
            rule.set_access(Some(access.letters()));
            rules.push(rule);
        }
    }
}

impl Access {
    const ALL: Self = Self { read: true, write: true, make: true };

    /// As the kernel has it: nothing is allowed until a rule does, and the last that speaks of it counts.
    fn by(rules: &[LinuxDeviceCgroup], device: &LinuxDevice) -> Self {
        let mut access = Self::default();
        for rule in rules.iter().filter(|rule| speaks_of(rule, device)) {
            let letters = match rule.access().as_deref() {
                Some(letters) if !is_of_all_kinds(rule) => letters,
                _ => "rwm",
            };
            for letter in letters.chars() {
                match letter {
                    'r' => access.read = rule.allow(),
                    'w' => access.write = rule.allow(),
                    'm' => access.make = rule.allow(),
                    _ => {}
                }
            }
        }
        access
    }

    fn letters(self) -> String {
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.make, 'm')];
        letters.into_iter().filter(|(is, _)| *is).map(|(_, letter)| letter).collect()
    }
}

fn is_of_all_kinds(rule: &LinuxDeviceCgroup) -> bool {
    matches!(rule.typ(), None | Some(LinuxDeviceType::A))
}

fn speaks_of(rule: &LinuxDeviceCgroup, device: &LinuxDevice) -> bool {
    let is_any_or =
        |of_rule: Option<i64>, number| of_rule.is_none_or(|wanted| wanted < 0 || wanted == number);
    is_of_all_kinds(rule)
        || rule.typ() == Some(LinuxDeviceType::B)
            && is_any_or(rule.major(), device.major())
            && is_any_or(rule.minor(), device.minor())
}

/// Whether its numbers are other devices in the guest, or none.
fn names_devices_of_the_host(rule: &LinuxDeviceCgroup) -> bool {
    let Some(major) = rule.major().filter(|major| *major >= 0) else { return false };
    match rule.typ() {
        Some(LinuxDeviceType::B) => true,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => is_given_to_who_comes(major, rule.minor()),
        _ => false,
    }
}

/// Whether a kernel gives a character device's number to whichever driver comes first: Linux
/// Documentation/admin-guide/devices.txt, and for those of misc (10) drivers/char/misc.c.
fn is_given_to_who_comes(major: i64, minor: Option<i64>) -> bool {
    const MISC: i64 = 10;
    match major {
        234..=254 | 384..=511 => true,
        MISC => minor.is_some_and(|minor| minor >= 0 && !(128..=255).contains(&minor)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(device: &str, rules: &str) -> Result<(Linux, Vec<BlockDevice>), Refusal> {
        let text = format!(r#"{{"devices":[{device}],"resources":{{"devices":[{rules}]}}}}"#);
        let mut linux: Linux = serde_json::from_str(&text).unwrap();
        settle(&mut linux).map(|given| (linux, given))
    }

    fn device(typ: &str, path: &str, major: i64, minor: i64) -> String {
        format!(r#"{{"path":"{path}","type":"{typ}","major":{major},"minor":{minor}}}"#)
    }

    fn access(rules: &str) -> String {
        let device = serde_json::from_str(&device("b", "/dev/x", 7, 1)).unwrap();
        let rules: Vec<LinuxDeviceCgroup> = serde_json::from_str(&format!("[{rules}]")).unwrap();
        Access::by(&rules, &device).letters()
    }

    #[test]
    fn only_character_devices_that_every_kernel_has_are_given() {
        assert_eq!(settled(&device("c", "/dev/x", 1, 3), "").unwrap().1, []);
        assert!(matches!(settled(&device("c", "/dev/kvm", 10, 232), ""), Err(Refusal::Device(_))));
    }

    #[test]
    fn a_block_device_wants_a_rule_a_path_and_a_device() {
        const ALL: &str = r#"{"allow":true,"access":"rwm"}"#;
        let refused = |path: &str, rules: &str| settled(&device("b", path, 0, 0), rules).unwrap_err();
        assert!(matches!(refused("/dev/x", ""), Refusal::DeviceRule(_)));
        assert!(matches!(refused("/x", ALL), Refusal::DevicePath(_)));
        assert!(matches!(refused("/dev/x", ALL), Refusal::NoBlockDevice { .. }));
    }

    #[test]
    fn a_user_namespace_gets_no_block_device() {
        let text = format!(
            r#"{{"devices":[{}],"namespaces":[{{"type":"user"}}],"resources":{{"devices":[{{"allow":true}}]}}}}"#,
            device("b", "/dev/x", 7, 1)
        );
        let mut linux: Linux = serde_json::from_str(&text).unwrap();
        assert!(matches!(settle(&mut linux), Err(Refusal::DeviceInUserNamespace(_))));
    }

    #[test]
    fn the_last_rule_that_speaks_of_a_device_counts() {
        let none = r#"{"allow":false,"access":"rwm"}"#;
        let ours = r#"{"allow":true,"type":"b","major":7,"minor":1,"access":"rm"}"#;
        assert_eq!(access(""), "");
        assert_eq!(access(&format!("{none},{ours}")), "rm");
        assert_eq!(access(&format!("{ours},{none}")), "");
        assert_eq!(
            access(r#"{"allow":true,"type":"a"},{"allow":false,"type":"b","major":7,"access":"w"}"#),
            "rm"
        );
        assert_eq!(access(r#"{"allow":true,"type":"c","major":7,"minor":1,"access":"rwm"}"#), "");
        assert_eq!(access(r#"{"allow":true,"type":"b","major":-1,"minor":-1,"access":"m"}"#), "m");
    }

    #[test]
    fn rules_keep_the_numbers_that_any_kernel_has() {
        let kept = |rule: &str| {
            let rule = format!(r#"{{"allow":true,{rule},"access":"rwm"}}"#);
            let (linux, _) = settled(&device("c", "/dev/x", 1, 3), &rule).unwrap();
            linux.resources().as_ref().unwrap().devices().as_ref().unwrap().len() == 1
        };
        for rule in ["1,\"minor\":11", "10,\"minor\":200", "10", "10,\"minor\":-1", "195", "-1"] {
            assert!(kept(&format!(r#""type":"c","major":{rule}"#)), "{rule}");
        }
        for rule in ["250,\"minor\":0", "510", "10,\"minor\":60", "10,\"minor\":256"] {
            assert!(!kept(&format!(r#""type":"c","major":{rule}"#)), "{rule}");
        }
        assert!(kept(r#""type":"b""#));
        assert!(!kept(r#""type":"b","major":8"#));
        assert!(kept(r#""type":"a","major":250,"minor":0"#));
    }

    #[test]
    fn the_spec_names_the_device_by_the_guests_number_and_no_other_of_the_hosts() {
        let text = format!(
            r#"{{"ociVersion":"1.2.0","linux":{{"devices":[{}],"resources":{{"devices":[
                {{"allow":false,"access":"rwm"}},{{"allow":true,"type":"b","access":"m"}},
                {{"allow":true,"type":"b","major":7,"minor":1,"access":"r"}}]}}}}}}"#,
            device("c", "/dev/null", 1, 3)
        );
        let mut spec: Spec = serde_json::from_str(&text).unwrap();
        settle(spec.linux_mut().as_mut().unwrap()).unwrap();
        let access = Access { read: true, ..Access::default() };
        let device = BlockDevice { index: 0, source: "/dev/loop1".into(), access };
        assert!(device.is_read_only());
        device.settle_as(DeviceNumber { major: 254, minor: 16 }, &mut spec);
        let linux = spec.linux().as_ref().unwrap();
        let named = &linux.devices().as_ref().unwrap()[0];
        assert_eq!((named.major(), named.minor()), (254, 16));
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        let rules: Vec<_> = rules.iter().map(|rule| (rule.allow(), rule.to_string())).collect();
        let expected =
            [(false, "* *:* rwm"), (true, "b *:* m"), (false, "b 254:16 rwm"), (true, "b 254:16 r")];
        assert_eq!(rules.len(), expected.len());
        for (rule, expected) in rules.iter().zip(expected).skip(1) {
            assert_eq!((rule.0, rule.1.as_str()), expected);
        }
    }
}
