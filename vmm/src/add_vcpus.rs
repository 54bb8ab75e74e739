//! vCPUs that a running VM gets beside those it was launched with: of those its guest's kernel was told of at boot, which
//! wait for that to wake them.

use crate::start::Running;
use crate::vcpu::{self, VcpuError};

#[derive(Debug, thiserror::Error)]
pub enum AddVcpusError {
    #[error("this VM can have {most} vCPUs, not {total}")]
    TooMany { total: u8, most: u8 },
    #[error("the VM runs no more")]
    Stopped,
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
}

/// Has the VM have so many vCPUs, unless it has more.
pub fn add_vcpus(running: &mut Running, total: u8) -> Result<(), AddVcpusError> {
    let Running { machine, vcpus, vm, cpuid, .. } = running;
    let most = cpuid.cpus();
    if total > most {
        return Err(AddVcpusError::TooMany { total, most });
    }
    let vcpus = vcpus.as_mut().ok_or(AddVcpusError::Stopped)?;
    for index in (0..total).skip(vcpus.count()) {
        machine.run_also(vcpu::create_late(vm, cpuid, index)?, vcpus)?;
    }
    Ok(())
}
