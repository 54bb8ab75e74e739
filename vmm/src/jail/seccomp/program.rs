//! Filters as BPF programs, short to run and short to install.
//!
//! A binary search over the system calls' numbers. Installing a filter has the kernel run it once for every
//! system call there is, to learn which are allowed whatever their arguments: a list that is searched from
//! its start, as seccompiler's are, takes a millisecond a thread to install, most of a VMM's start.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use super::allowed::{Argument, Call};

// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// linux/audit.h
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

// struct seccomp_data of linux/seccomp.h: nr, arch, instruction_pointer, args[6]
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What a filter says to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Trap,
    NotThere,
}

impl Verdict {
    /// linux/seccomp.h
    fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Trap => 0x0003_0000,
            Self::NotThere => 0x0005_0000 | libc::ENOSYS.unsigned_abs(),
        }
    }
}

/// What holds for calls of one number: any of these lists of arguments, or any arguments at all.
type Alternatives = Vec<&'static [Argument]>;

/// The program that says `matched` to these calls and `otherwise` to all others.
pub(super) fn compile<'c>(
    calls: impl Iterator<Item = &'c Call>,
    matched: Verdict,
    otherwise: Verdict,
) -> BpfProgram {
    let mut by_number: BTreeMap<u32, Alternatives> = BTreeMap::new();
    for Call { number, arguments } in calls {
        // No system call has a number that a filter can't see.
        if let Ok(number) = u32::try_from(*number) {
            by_number.entry(number).or_default().push(arguments);
        }
    }
    let leaves: Vec<_> = by_number
        .iter()
        .map(|(number, alternatives)| (*number, leaf(*number, alternatives, matched, otherwise)))
        .collect();
    let mut program = vec![
        instruction(LOAD_WORD, ARCHITECTURE),
        // Calls by another ABI have other numbers; nobody here makes them.
        branch(JUMP_IF_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        finish(Verdict::Trap),
        instruction(LOAD_WORD, NUMBER),
    ];
    program.extend(search(&leaves));
    program
}

/// Finds the number's leaf among those in order.
fn search(leaves: &[(u32, BpfProgram)]) -> BpfProgram {
    let (lower, upper) = leaves.split_at(leaves.len() / 2);
    let Some((pivot, first)) = upper.first() else { return Vec::new() };
    if lower.is_empty() {
        return first.clone();
    }
    let (lower, upper) = (search(lower), search(upper));
    // A conditional jump reaches 255 instructions; this one skips a jump that reaches all.
    let mut program = vec![branch(JUMP_IF_AT_LEAST, *pivot, 0, 1), instruction(JUMP, length(&lower))];
    program.extend(lower);
    program.extend(upper);
    program
}

/// Compares the number, then the arguments of each alternative.
fn leaf(number: u32, alternatives: &Alternatives, matched: Verdict, otherwise: Verdict) -> BpfProgram {
    let mut program = vec![branch(JUMP_IF_EQUAL, number, 1, 0), finish(otherwise)];
    if alternatives.iter().any(|arguments| arguments.is_empty()) {
        program.push(finish(matched));
        return program;
    }
    for arguments in alternatives {
        program.extend(alternative(arguments, matched));
    }
    program.push(finish(otherwise));
    program
}

/// Ends with `matched` if all arguments are as they have to be, and goes on behind itself if not.
fn alternative(arguments: &[Argument], matched: Verdict) -> BpfProgram {
    let mut program = vec![finish(matched)];
    for argument in arguments.iter().rev() {
        program = conditions(argument)
            .into_iter()
            .rev()
            .fold(program, |rest, (offset, mask, value)| condition(offset, mask, value, rest));
    }
    program
}

/// The words of a call's arguments to look at: where, which bits, and their value.
fn conditions(argument: &Argument) -> Vec<(u32, u32, u32)> {
    // Little-endian: the lower half comes first.
    let lower = |index: u8| ARGUMENTS + 8 * u32::from(index);
    match *argument {
        Argument::Is(index, value) => vec![(lower(index), u32::MAX, value)],
        Argument::Lacks(index, bits) => vec![(lower(index), bits, 0)],
        Argument::Null(index) => vec![(lower(index), u32::MAX, 0), (lower(index) + 4, u32::MAX, 0)],
    }
}

/// `rest` if the condition holds; behind `rest` if not.
fn condition(offset: u32, mask: u32, value: u32, rest: BpfProgram) -> BpfProgram {
    let mut program = vec![instruction(LOAD_WORD, offset)];
    if mask != u32::MAX {
        program.push(instruction(AND, mask));
    }
    program.push(branch(JUMP_IF_EQUAL, value, 1, 0));
    program.push(instruction(JUMP, length(&rest)));
    program.extend(rest);
    program
}

fn instruction(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

/// Skips `jt` instructions if the comparison holds, `jf` if not.
fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn finish(verdict: Verdict) -> sock_filter {
    instruction(RETURN, verdict.value())
}

fn length(program: &BpfProgram) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::allowed::{call, when};
    use super::Argument::{Is, Lacks, Null};
    use super::*;

    /// Runs a program as the kernel does.
    fn run(program: &BpfProgram, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = number.to_le_bytes().to_vec();
        data.extend(architecture.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            let skip = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match code {
                LOAD_WORD => {
                    let place = k as usize;
                    accumulator = u32::from_le_bytes(data[place..place + 4].try_into().unwrap());
                }
                AND => accumulator &= k,
                JUMP => at += k as usize,
                JUMP_IF_EQUAL => at += skip(accumulator == k),
                JUMP_IF_AT_LEAST => at += skip(accumulator >= k),
                RETURN => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn says(program: &BpfProgram, number: u32, arguments: [u64; 6]) -> bool {
        match run(program, AUDIT_ARCH_X86_64, number, arguments) {
            allow if allow == Verdict::Allow.value() => true,
            trap if trap == Verdict::Trap.value() => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn calls_without_arguments_are_found_and_others_are_not() {
        // So many that the program has jumps longer than a byte tells.
        let calls: Vec<_> = (0..300).filter(|number| number % 3 != 0).map(call).collect();
        let program = compile(calls.iter(), Verdict::Allow, Verdict::Trap);
        for number in 0..600 {
            assert_eq!(says(&program, number, [0; 6]), number < 300 && number % 3 != 0, "{number}");
        }
        // The x32 ABI's numbers.
        assert!(!says(&program, 0x4000_0001, [0; 6]));
    }

    #[test]
    fn any_of_the_alternatives_will_do_and_all_of_its_arguments_count() {
        let calls = [
            when(16, &[Is(1, 7)]),
            when(16, &[Is(1, 9), Lacks(2, 4)]),
            when(44, &[Is(0, 3), Null(4)]),
            call(60),
        ];
        let program = compile(calls.iter(), Verdict::Allow, Verdict::Trap);
        assert!(says(&program, 16, [0, 7, 4, 0, 0, 0]));
        assert!(says(&program, 16, [0, 9, 3, 0, 0, 0]));
        assert!(!says(&program, 16, [0, 9, 4, 0, 0, 0]));
        assert!(!says(&program, 16, [0, 8, 0, 0, 0, 0]));
        assert!(says(&program, 44, [3, 1, 1, 1, 0, 1]));
        assert!(!says(&program, 44, [3, 0, 0, 0, 1, 0]));
        assert!(!says(&program, 44, [3, 0, 0, 0, 1 << 32, 0]));
        assert!(says(&program, 60, [u64::MAX; 6]));
        assert!(!says(&program, 61, [0; 6]));
    }

    #[test]
    fn another_abi_is_trapped_whatever_the_filter_is_for() {
        let program = compile([call(1)].iter(), Verdict::NotThere, Verdict::Allow);
        const AUDIT_ARCH_I386: u32 = 0x4000_0003;
        assert_eq!(run(&program, AUDIT_ARCH_I386, 1, [0; 6]), Verdict::Trap.value());
        assert_eq!(run(&program, AUDIT_ARCH_X86_64, 1, [0; 6]), Verdict::NotThere.value());
        assert_eq!(run(&program, AUDIT_ARCH_X86_64, 2, [0; 6]), Verdict::Allow.value());
    }
}
