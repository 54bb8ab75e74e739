//! Programs are run as the kernel runs them, over system calls made up here.

use oci_spec::runtime::LinuxSeccomp;

use super::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

// SECCOMP_RET_* of linux/seccomp.h
const KILL_THREAD: u32 = 0;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What the program answers to a call: classic BPF (Linux Documentation/networking/filter.rst), as far as libseccomp
/// writes it.
fn answer(program: &[u8], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = [number.to_le_bytes(), architecture.to_le_bytes(), [0; 4], [0; 4]].concat();
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let instruction = &program[at * INSTRUCTION..][..INSTRUCTION];
        let code = u16::from_le_bytes([instruction[0], instruction[1]]);
        let constant = u32::from_le_bytes(instruction[4..].try_into().unwrap());
        let [then, otherwise] = [instruction[2], instruction[3]].map(usize::from);
        at += 1;
        let branch = |holds: bool| if holds { then } else { otherwise };
        match code {
            0x20 => {
                let offset = constant as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => accumulator &= constant,
            0x05 => at += constant as usize,
            0x15 => at += branch(accumulator == constant),
            0x25 => at += branch(accumulator > constant),
            0x35 => at += branch(accumulator >= constant),
            0x06 => return constant,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn compiled(json: &str) -> Vec<u8> {
    let profile: LinuxSeccomp = serde_json::from_str(json).unwrap();
    compile(&profile).unwrap().program
}

fn refusal(json: &str) -> String {
    compile(&serde_json::from_str(json).unwrap()).unwrap_err().to_string()
}

// Numbers of asm/unistd_64.h.
const READ: u32 = 0;
const WRITE: u32 = 1;
const PERSONALITY: u32 = 135;
const CLONE: u32 = 56;
const GETPID: u32 = 39;

#[test]
fn each_rule_has_its_answer() {
    let program = compiled(
        r#"{ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            { "names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["write"], "action": "SCMP_ACT_ERRNO" },
            { "names": ["getpid"], "action": "SCMP_ACT_KILL" },
            { "names": ["getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 } ] }"#,
    );
    let plain = |number| answer(&program, X86_64, number, [0; 6]);
    assert_eq!(plain(READ), ALLOW);
    assert_eq!(plain(WRITE), ERRNO | 1);
    assert_eq!(plain(GETPID), KILL_THREAD);
    assert_eq!(plain(102), ERRNO | 38);
    assert_eq!(plain(9999), ERRNO | 38);
    assert_eq!(answer(&program, I386, 3, [0; 6]), KILL_THREAD, "not its architecture");
}

#[test]
fn masks_come_first_and_a_condition_is_met_as_a_whole() {
    let program = compiled(
        r#"{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" } ] },
            { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 3, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 10, "op": "SCMP_CMP_LT" } ] } ] }"#,
    );
    let clone = |flags| answer(&program, X86_64, CLONE, [flags, 0, 0, 0, 0, 0]);
    assert_eq!(clone(0x11), ALLOW);
    assert_eq!(clone(0x1000_0000), ERRNO | 1, "CLONE_NEWUSER");
    let read = |descriptor, length| answer(&program, X86_64, READ, [descriptor, 0, length, 0, 0, 0]);
    assert_eq!([read(3, 9), read(3, 10), read(4, 9)], [ALLOW, ERRNO | 1, ERRNO | 1]);
    assert_eq!(read(3 | 1 << 40, 9), ERRNO | 1, "all 64 bits count");
}

#[test]
fn of_conditions_on_one_argument_any_is_to_hold() {
    let program = compiled(
        r#"{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                { "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 8, "op": "SCMP_CMP_EQ" } ] } ] }"#,
    );
    let personality = |value| answer(&program, X86_64, PERSONALITY, [value, 0, 0, 0, 0, 0]);
    assert_eq!([personality(0), personality(8), personality(4)], [ALLOW, ALLOW, ERRNO | 1]);
}

#[test]
fn calls_of_other_architectures_are_those_the_profile_names() {
    let program = compiled(
        r#"{ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_S390X"],
            "syscalls": [ { "names": ["read"], "action": "SCMP_ACT_ALLOW" } ] }"#,
    );
    assert_eq!(answer(&program, X86_64, READ, [0; 6]), ALLOW);
    assert_eq!(answer(&program, I386, 3, [0; 6]), ALLOW);
    assert_eq!(answer(&program, I386, 4, [0; 6]), ERRNO | 1);
}

#[test]
fn what_cannot_be_said_to_a_guests_kernel_is_refused() {
    let action = |action: &str| {
        refusal(&format!(
            r#"{{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [ {{ "names": ["read"], {action} }} ] }}"#
        ))
    };
    assert!(action(r#""action": "SCMP_ACT_NOTIFY""#).contains("listener"));
    assert!(action(r#""action": "SCMP_ACT_ERRNO", "errnoRet": 70000"#).contains("70000"));
    let seventh =
        r#""action": "SCMP_ACT_ERRNO", "args": [ { "index": 6, "value": 0, "op": "SCMP_CMP_EQ" } ]"#;
    assert!(action(seventh).contains("rule for read"));
}

#[test]
fn among_many_calls_each_is_found() {
    let names = |wanted: fn(&i32) -> bool| -> Vec<String> {
        let known = (0..462).filter(wanted).filter_map(|number| ScmpSyscall::from(number).get_name().ok());
        known.collect()
    };
    let (allowed, missing) = (names(|number| number % 3 == 0), names(|number| number % 3 == 1));
    assert!(allowed.len() > 100 && missing.len() > 100);
    let program = compiled(
        &serde_json::json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                { "names": allowed, "action": "SCMP_ACT_ALLOW" },
                { "names": missing, "action": "SCMP_ACT_ERRNO", "errnoRet": 38 } ] })
        .to_string(),
    );
    for number in 0..500 {
        let name = ScmpSyscall::from(number).get_name().unwrap_or_default();
        let expected = match name {
            name if allowed.contains(&name) => ALLOW,
            name if missing.contains(&name) => ERRNO | 38,
            _ => ERRNO | 1,
        };
        assert_eq!(answer(&program, X86_64, number.unsigned_abs(), [0; 6]), expected, "{number}");
    }
}
