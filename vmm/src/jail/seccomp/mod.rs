//! A seccomp filter for each kind of thread: an allow-list of system calls, with their arguments where these
//! matter. Anything else ends the process and is reported.

mod allowed;

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use vmm_api::EndReason;

use self::allowed::{Argument, Call};
use super::forbidden;

/// A kind of thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Serves the supervisor, and starts the threads of disks added to the running VM.
    Main,
    Vcpu,
    Blk,
    Rng,
    Vsock,
}

impl Thread {
    /// What a report of a forbidden system call says.
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Vcpu => "vcpu",
            Self::Blk => "blk",
            Self::Rng => "rng",
            Self::Vsock => "vsock",
        }
    }

    fn allowed(self) -> &'static [&'static [Call]] {
        match self {
            // A thread keeps the filters of the one that started it: what a disk's thread may do, the main
            // thread has to be allowed too.
            Self::Main => &[allowed::EVERY_THREAD, allowed::MAIN, allowed::BLK],
            Self::Vcpu => &[allowed::EVERY_THREAD, allowed::VCPU],
            Self::Blk => &[allowed::EVERY_THREAD, allowed::BLK],
            Self::Rng => &[allowed::EVERY_THREAD, allowed::RNG],
            Self::Vsock => &[allowed::EVERY_THREAD, allowed::VSOCK],
        }
    }
}

/// Confines the calling thread, and those it starts from now on.
pub fn confine(thread: Thread) -> Result<(), EndReason> {
    forbidden::name_thread(thread.name());
    install(thread).map_err(|error| EndReason::Internal {
        message: format!("cannot confine the system calls of the {} thread: {error}", thread.name()),
    })
}

fn install(thread: Thread) -> Result<(), seccompiler::Error> {
    if thread == Thread::Main {
        apply_filter(&without_clone3()?)?;
    }
    apply_filter(&compile(thread)?)
}

fn compile(thread: Thread) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    for Call { number, arguments } in thread.allowed().iter().copied().flatten() {
        let alternatives = rules.entry(*number).or_default();
        if arguments.is_empty() {
            unconditional.push(*number);
        } else {
            alternatives.push(rule(arguments)?);
        }
    }
    // A call without rules is allowed whatever its arguments.
    for number in unconditional {
        rules.insert(number, Vec::new());
    }
    filter(rules, SeccompAction::Trap, SeccompAction::Allow)
}

/// The flags of clone3 lie in memory, which a filter can't read. Told that it does not exist, libc takes
/// clone, whose flags are an argument.
fn without_clone3() -> Result<BpfProgram, BackendError> {
    let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    filter(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), SeccompAction::Allow, missing)
}

fn filter(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, TargetArch::x86_64)?.try_into()
}

fn rule(arguments: &[Argument]) -> Result<SeccompRule, BackendError> {
    let conditions = arguments
        .iter()
        .map(|argument| match *argument {
            Argument::Is(index, value) => {
                SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
            }
            Argument::Lacks(index, bits) => {
                SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), 0)
            }
            Argument::Null(index) => {
                SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
            }
        })
        .collect::<Result<_, _>>()?;
    SeccompRule::new(conditions)
}
