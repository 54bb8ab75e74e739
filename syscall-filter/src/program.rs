//! Filters as BPF programs, short to run and short to install.
//!
//! A binary search over the system calls' numbers. Installing a filter has the kernel run it once for every
//! system call there is, to learn which are allowed whatever their arguments: a list that is searched from
//! its start, as seccompiler's are, takes a millisecond a thread to install, most of a VMM's start.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use crate::{Answer, Argument, Call};

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

// linux/seccomp.h
const ALLOW: u32 = 0x7fff_0000;
const TRAP: u32 = 0x0003_0000;
const NOT_THERE: u32 = 0x0005_0000 | ENOSYS;
const ENOSYS: u32 = 38;

/// The program that answers these calls as they say and traps all others.
pub(crate) fn compile<'c>(calls: impl Iterator<Item = &'c Call>) -> BpfProgram {
    let mut by_number: BTreeMap<u32, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        // No system call has a number that a filter can't see.
        if let Ok(number) = u32::try_from(call.number) {
            by_number.entry(number).or_default().push(call);
        }
    }
    let leaves: Vec<_> =
        by_number.iter().map(|(number, alternatives)| (*number, leaf(*number, alternatives))).collect();
    let mut program = vec![
        instruction(LOAD_WORD, ARCHITECTURE),
        // Calls by another ABI have other numbers; nobody here makes them.
        branch(JUMP_IF_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        instruction(RETURN, TRAP),
        instruction(LOAD_WORD, NUMBER),
    ];
    program.extend(search(&leaves));
    program
}

/// Finds the number's leaf among those in order.
fn search(leaves: &[(u32, BpfProgram)]) -> BpfProgram {
    let (lower, upper) = leaves.split_at(leaves.len() / 2);
    let Some((pivot, first)) = upper.first() else { return vec![instruction(RETURN, TRAP)] };
    if lower.is_empty() {
        return first.clone();
    }
    let (lower, upper) = (search(lower), search(upper));
    let mut program = match u8::try_from(lower.len()) {
        Ok(near) => vec![branch(JUMP_IF_AT_LEAST, *pivot, near, 0)],
        Err(_) => vec![branch(JUMP_IF_AT_LEAST, *pivot, 0, 1), instruction(JUMP, length(&lower))],
    };
    program.extend(lower);
    program.extend(upper);
    program
}

/// Compares the number, then the arguments of each alternative.
fn leaf(number: u32, alternatives: &[&Call]) -> BpfProgram {
    let mut program = vec![branch(JUMP_IF_EQUAL, number, 1, 0), instruction(RETURN, TRAP)];
    if let Some(call) = alternatives.iter().find(|call| call.arguments.is_empty()) {
        program.push(answer(call.answer));
        return program;
    }
    for call in alternatives {
        program.extend(alternative(call));
    }
    program.push(instruction(RETURN, TRAP));
    program
}

/// Answers if all arguments are as they have to be, and goes on behind itself if not.
fn alternative(call: &Call) -> BpfProgram {
    let mut program = vec![answer(call.answer)];
    for argument in call.arguments.iter().rev() {
        for (offset, mask, value) in conditions(argument).into_iter().rev() {
            program = condition(offset, mask, value, program);
        }
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
    match u8::try_from(rest.len()) {
        Ok(near) => program.push(branch(JUMP_IF_EQUAL, value, 0, near)),
        Err(_) => {
            program.push(branch(JUMP_IF_EQUAL, value, 1, 0));
            program.push(instruction(JUMP, length(&rest)));
        }
    }
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

fn answer(answer: Answer) -> sock_filter {
    let value = match answer {
        Answer::Allow => ALLOW,
        Answer::NotThere => NOT_THERE,
    };
    instruction(RETURN, value)
}

fn length(program: &BpfProgram) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::Argument::{Is, Lacks, Null};
    use super::*;
    use crate::{call, not_there, when};

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
            ALLOW => true,
            TRAP => false,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn calls_without_arguments_are_found_and_others_are_not() {
        // So many that the program has jumps longer than a byte tells.
        let calls: Vec<_> = (0..300).filter(|number| number % 3 != 0).map(call).collect();
        let program = compile(calls.iter());
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
        let program = compile(calls.iter());
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
    fn another_abi_is_trapped_and_a_call_can_be_missing() {
        const AUDIT_ARCH_I386: u32 = 0x4000_0003;
        let program = compile([call(1), not_there(2)].iter());
        assert_eq!(run(&program, AUDIT_ARCH_I386, 1, [0; 6]), TRAP);
        assert_eq!(run(&program, AUDIT_ARCH_X86_64, 2, [0; 6]), NOT_THERE);
        assert_eq!(NOT_THERE & 0xffff, libc::ENOSYS.unsigned_abs());
    }
}
