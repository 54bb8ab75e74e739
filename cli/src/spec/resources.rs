//! What a container's cgroup allows it: memory, processor time and devices.

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemory,
    LinuxPidsBuilder, LinuxResources,
};

use crate::args::{Memory, PERIOD_US};
use crate::container::Container;

/// Character devices any container may use, as Docker has it: major, minor (`None`: all) and name.
const ALLOWED: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

/// The guest has no swap, so a memory limit limits all there is.
pub(super) fn resources(container: &Container) -> Result<LinuxResources, OciSpecError> {
    let mut resources = LinuxResources::default();
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let Container { memory, memory_reservation, cpus, pids, .. } = container;
    if memory.is_some() || memory_reservation.is_some() {
        let mut limits = LinuxMemory::default();
        limits.set_limit(memory.map(|Memory(bytes)| signed(bytes)));
        limits.set_reservation(memory_reservation.map(signed));
        resources.set_memory(Some(limits));
    }
    if let Some(cpus) = cpus {
        let quota = signed(cpus.quota_us());
        resources.set_cpu(Some(LinuxCpuBuilder::default().quota(quota).period(PERIOD_US).build()?));
    }
    if let Some(most) = pids {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(*most).build()?));
    }
    resources.set_devices(Some(devices()?));
    Ok(resources)
}

/// Nothing but the above; of any device, making its node.
fn devices() -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let nothing = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
    let make = |typ| LinuxDeviceCgroupBuilder::default().allow(true).typ(typ).access("m").build();
    let mut rules = vec![nothing, make(LinuxDeviceType::C)?, make(LinuxDeviceType::B)?];
    for (major, minor) in ALLOWED {
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(major)
            .access("rwm");
        let rule = match minor {
            Some(minor) => rule.minor(minor),
            None => rule,
        };
        rules.push(rule.build()?);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn resources_of(options: &[&str]) -> LinuxResources {
        let arguments = [&["bulkhead", "run"], options, &["image", "x"]].concat();
        let Command::Run(args) = Cli::try_parse_from(arguments).unwrap().command else { panic!("not run") };
        let image = oci_spec::image::Config::default();
        resources(&Container::new(&args.container, &image, None, "0123456789abcdef").unwrap()).unwrap()
    }

    #[test]
    fn limits_become_the_cgroups_values() {
        let resources = resources_of(&["-m", "256m", "--cpus", "1.5", "--pids-limit", "20"]);
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(256 << 20));
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.quota(), cpu.period()), (Some(150_000), Some(100_000)));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 20);
    }

    #[test]
    fn without_limits_only_devices_are_restricted() {
        let resources = resources_of(&["--pids-limit", "-1"]);
        assert!(resources.memory().is_none() && resources.cpu().is_none() && resources.pids().is_none());
        let devices = resources.devices().as_ref().unwrap();
        assert!(!devices.first().unwrap().allow());
        assert!(devices.iter().skip(1).all(|rule| rule.allow()));
    }
}
