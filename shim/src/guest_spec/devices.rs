//! Devices: those any Linux has under the same numbers are the guest's; others are the host's, and stay there.

use oci_spec::runtime::{Linux, LinuxDeviceType};

use super::Refusal;

/// Character devices of the guest's kernel (Linux Documentation/admin-guide/devices.txt): null, zero, full, random, urandom,
/// tty, console, ptmx, fuse, tun.
const OF_ANY_KERNEL: [(i64, i64); 10] =
    [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (10, 229), (10, 200)];

pub(super) fn check(linux: &Linux) -> Result<(), Refusal> {
    for device in linux.devices().iter().flatten() {
        let is_known = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => {
                OF_ANY_KERNEL.contains(&(device.major(), device.minor()))
            }
            LinuxDeviceType::P => true,
            _ => false,
        };
        if !is_known {
            return Err(Refusal::Device(device.path().clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_every_kernel_has_are_given() {
        let checked = |typ: &str, major: i64, minor: i64| {
            let device = format!(r#"{{"path":"/dev/x","type":"{typ}","major":{major},"minor":{minor}}}"#);
            check(&serde_json::from_str(&format!("{{\"devices\":[{device}]}}")).unwrap())
        };
        assert!(checked("c", 1, 3).is_ok());
        assert!(matches!(checked("c", 10, 232), Err(Refusal::Device(_))));
        assert!(matches!(checked("b", 8, 0), Err(Refusal::Device(_))));
    }
}
