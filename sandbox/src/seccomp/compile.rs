//! Has libseccomp compile a profile (OCI runtime-spec, config-linux.md, "Seccomp"), with runc's reading of it.

use std::fs::File;
use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{SeccompError, SeccompFilter};

/// The longest program a kernel takes, in bytes: BPF_MAXINSNS of linux/bpf_common.h.
pub(super) const MAX_PROGRAM: usize = 4096 * INSTRUCTION;

/// The length of a `struct sock_filter`, in bytes.
pub(super) const INSTRUCTION: usize = 8;

/// What libseccomp may assume of the kernel that loads the program, a guest's: what Linux 5.7 can (seccomp_api_get(3)).
const API_LEVEL: u32 = 6;

/// Calls are found by a binary search over their numbers (seccomp_attr_set(3)): the kernel runs a program once for each
/// call there is when it loads it.
const BINARY_TREE: u32 = 2;

pub(super) fn compile(profile: &LinuxSeccomp) -> Result<SeccompFilter, SeccompError> {
    // What this host's kernel can is of no matter; a libseccomp that does not know the level has less to offer anyway.
    let _ = libseccomp::set_api(API_LEVEL);
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let refused = |what: &str| {
        let what = what.to_owned();
        move |source| SeccompError::Refused { what, source }
    };
    let mut context = ScmpFilterContext::new(default).map_err(refused("default action"))?;
    context.set_ctl_optimize(BINARY_TREE).map_err(refused("size"))?;
    for wanted in profile.architectures().iter().flatten().copied().filter_map(architecture) {
        context.add_arch(wanted).map_err(refused("architectures"))?;
    }
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        // libseccomp refuses rules that say what holds anyway.
        if action != default {
            add(&mut context, rule, action)?;
        }
    }
    let program = export(&context)?;
    Ok(SeccompFilter { program, flags: flags(profile) })
}

fn add(context: &mut ScmpFilterContext, rule: &LinuxSyscall, action: ScmpAction) -> Result<(), SeccompError> {
    let conditions: Vec<_> = rule.args().iter().flatten().map(condition).collect();
    for name in rule.names() {
        // A profile names calls of all kernels; those libseccomp does not know are answered by the default.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        let added = if compares_an_argument_twice(rule) {
            // As with runc: libseccomp takes one condition per argument, and either is to do.
            conditions.iter().try_for_each(|condition| {
                context.add_rule_conditional(action, call, std::slice::from_ref(condition)).map(drop)
            })
        } else {
            context.add_rule_conditional(action, call, &conditions).map(drop)
        };
        added.map_err(|source| SeccompError::Refused { what: format!("rule for {name}"), source })?;
    }
    Ok(())
}

fn compares_an_argument_twice(rule: &LinuxSyscall) -> bool {
    let mut indexes: Vec<_> = rule.args().iter().flatten().map(LinuxSeccompArg::index).collect();
    indexes.sort_unstable();
    indexes.windows(2).any(|pair| pair.first() == pair.last())
}

fn condition(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    // One beyond the sixth is refused when the rule is added.
    let index = u32::try_from(argument.index()).unwrap_or(u32::MAX);
    let (operator, value) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, argument.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, argument.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, argument.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, argument.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, argument.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, argument.value()),
        // As in libseccomp's SCMP_A macros, the mask comes first.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(argument.value()), argument.value_two().unwrap_or_default())
        }
    };
    ScmpArgCompare::new(index, operator, value)
}

fn action(action: LinuxSeccompAction, error_number: Option<u32>) -> Result<ScmpAction, SeccompError> {
    const MAX_ERRNO: u32 = 4095;
    const EPERM: u16 = 1;
    let number = || match error_number {
        None => Ok(EPERM),
        Some(number) => u16::try_from(number)
            .ok()
            .filter(|_| number <= MAX_ERRNO)
            .ok_or(SeccompError::ErrorNumber(number)),
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(number()?.into()),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(number()?),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => return Err(SeccompError::Listener),
    })
}

/// Those whose calls an x86 kernel takes; what a profile says of others' has no effect.
fn architecture(architecture: Arch) -> Option<ScmpArch> {
    match architecture {
        Arch::ScmpArchNative => Some(ScmpArch::Native),
        Arch::ScmpArchX86 => Some(ScmpArch::X86),
        Arch::ScmpArchX86_64 => Some(ScmpArch::X8664),
        Arch::ScmpArchX32 => Some(ScmpArch::X32),
        _ => None,
    }
}

fn flags(profile: &LinuxSeccomp) -> u32 {
    // linux/seccomp.h
    const TSYNC: u32 = 1 << 0;
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    profile.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                // Of listeners, which are refused.
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            }
    })
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    let memory =
        memfd_create("seccomp", MemfdFlags::CLOEXEC).map_err(|error| SeccompError::Export(error.into()))?;
    let mut memory = File::from(memory);
    context
        .export_bpf(&memory)
        .map_err(|source| SeccompError::Refused { what: "rules together".to_owned(), source })?;
    let mut program = Vec::new();
    memory.rewind().and_then(|()| memory.read_to_end(&mut program)).map_err(SeccompError::Export)?;
    if program.len() > MAX_PROGRAM {
        return Err(SeccompError::TooLong(program.len()));
    }
    Ok(program)
}

#[cfg(test)]
mod tests;
