//! Which devices a container may open, and make nodes of: the rules of the OCI runtime spec, and those runc adds to any,
//! as a program for the container's cgroup.
//!
//! The last rule that speaks of a device and an access counts, and one of all devices makes those before it void.

use std::io;
use std::sync::OnceLock;

use bpf::cgroup_devices::{DeviceProgram, context};
use bpf::instruction::{
    Instruction, and, and_with, copy, exit, jump_if, jump_unless, jump_unless_same, load_word, or_with, set,
    set_wide, shift_left, shift_right,
};
use libcontainer::oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Spec};

use super::cgroup::{Cgroup, CgroupError};

/// Whatever the spec says, as runc has it (`AllowedDevices` of its libcontainer/specconv): nodes of all devices may be made,
/// and these be used: null, zero, full, random, urandom, tty, ptmx, tun, those of terminals.
const DEFAULTS: [Rule; 11] = [
    Rule { access: context::MAKE, ..Rule::allow(Kind::Character, None, None) },
    Rule { access: context::MAKE, ..Rule::allow(Kind::Block, None, None) },
    Rule::allow(Kind::Character, Some(1), Some(3)),
    Rule::allow(Kind::Character, Some(1), Some(5)),
    Rule::allow(Kind::Character, Some(1), Some(7)),
    Rule::allow(Kind::Character, Some(1), Some(8)),
    Rule::allow(Kind::Character, Some(1), Some(9)),
    Rule::allow(Kind::Character, Some(5), Some(0)),
    Rule::allow(Kind::Character, Some(5), Some(2)),
    Rule::allow(Kind::Character, Some(10), Some(200)),
    Rule::allow(Kind::Character, Some(136), None),
];

const ANY_ACCESS: i32 = context::READ | context::WRITE | context::MAKE;

/// What engines allow any container beside: the console.
const CONSOLE: Rule = Rule::allow(Kind::Character, Some(5), Some(1));

/// The program of the policy that nearly all specs come to.
static USUAL: OnceLock<DeviceProgram> = OnceLock::new();

#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    #[error("the kernel does not take a program of rules for devices")]
    Load(#[source] io::Error),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Has the usual program be there before there is a template: loading one takes longer than all else about it.
pub fn load_usual() -> Result<(), DevicesError> {
    let program = Policy::usual().load()?;
    // Once is enough.
    let _ = USUAL.set(program);
    Ok(())
}

/// Has the kernel hold the cgroup's processes to what the spec allows.
pub(super) fn restrict(cgroup: &Cgroup, spec: &Spec) -> Result<(), DevicesError> {
    let policy = Policy::of(spec);
    match USUAL.get().filter(|_| policy == Policy::usual()) {
        Some(usual) => cgroup.restrict_devices(usual)?,
        None => cgroup.restrict_devices(&policy.load()?)?,
    }
    Ok(())
}

/// What is allowed, and denied, of devices of a kind; of all numbers where none is given.
#[derive(Clone, Copy, PartialEq)]
struct Rule {
    allow: bool,
    kind: Kind,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Block,
    Character,
}

/// The rules in their order, and what becomes of what none speaks of.
#[derive(PartialEq)]
struct Policy {
    otherwise: bool,
    rules: Vec<Rule>,
}

impl Policy {
    fn of(spec: &Spec) -> Self {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let mut policy = Self { otherwise: false, rules: Vec::new() };
        for rule in resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default() {
            policy.add(rule);
        }
        // Most specs repeat them, and what comes last counts.
        policy.rules.retain(|rule| !DEFAULTS.contains(rule));
        policy.rules.extend(DEFAULTS);
        policy
    }

    fn usual() -> Self {
        Self { otherwise: false, rules: [CONSOLE].into_iter().chain(DEFAULTS).collect() }
    }

    fn load(&self) -> Result<DeviceProgram, DevicesError> {
        DeviceProgram::load(&self.program()).map_err(DevicesError::Load)
    }

    fn add(&mut self, rule: &LinuxDeviceCgroup) {
        match rule.typ() {
            None | Some(LinuxDeviceType::A) => {
                *self = Self { otherwise: rule.allow(), rules: Vec::new() };
            }
            Some(LinuxDeviceType::B) => self.rules.extend(Rule::of(rule, Kind::Block)),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => {
                self.rules.extend(Rule::of(rule, Kind::Character));
            }
            // A pipe is no device.
            Some(LinuxDeviceType::P) => {}
        }
    }

    /// Asks the rules from the last to the first, and each for what is not allowed yet.
    fn program(&self) -> Vec<Instruction> {
        let mut program = vec![
            load_word(DEVICE, CONTEXT, context::ACCESS_TYPE),
            copy(ASKED, DEVICE),
            shift_right(ASKED, context::ACCESS_SHIFT),
            and(DEVICE, (1 << context::ACCESS_SHIFT) - 1),
            shift_left(DEVICE, HALF),
            load_word(PART, CONTEXT, context::MAJOR),
            shift_left(PART, MINOR_BITS),
            or_with(DEVICE, PART),
            load_word(PART, CONTEXT, context::MINOR),
            or_with(DEVICE, PART),
        ];
        program.extend(self.rules.iter().rev().flat_map(Rule::instructions));
        program.extend([set(RESULT, self.otherwise.into()), exit()]);
        program
    }
}

// Registers (Linux Documentation/bpf/standardization/abi.rst).
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
/// The kind above, and below the number as the kernel has it (MKDEV of include/linux/kdev_t.h).
const DEVICE: u8 = 2;
const ASKED: u8 = 3;
const PART: u8 = 4;
const WANTED: u8 = 5;

const HALF: i32 = 32;
const MINOR_BITS: i32 = 20;
const MAJOR_MAX: i32 = (1 << (HALF - MINOR_BITS)) - 1;
const MINOR_MASK: i32 = (1 << MINOR_BITS) - 1;

impl Rule {
    const fn allow(kind: Kind, major: Option<i32>, minor: Option<i32>) -> Self {
        Self { allow: true, kind, major, minor, access: ANY_ACCESS }
    }

    /// None for a number that no device has.
    fn of(rule: &LinuxDeviceCgroup, kind: Kind) -> Option<Self> {
        let number = |number: Option<i64>, most: i32| match number {
            Some(number) if number >= 0 => i32::try_from(number).ok().filter(|it| *it <= most).map(Some),
            _ => Some(None),
        };
        let (major, minor) = (number(rule.major(), MAJOR_MAX)?, number(rule.minor(), MINOR_MASK)?);
        let access = rule.access().as_deref().map_or(ANY_ACCESS, access);
        Some(Self { allow: rule.allow(), kind, major, minor, access })
    }

    /// Ends the program if the rule decides, and goes on behind these instructions if not. They jump as little as can be:
    /// the kernel's verifier follows each jump both ways while the container waits to be made.
    fn instructions(&self) -> Vec<Instruction> {
        let decision = self.decision();
        // Five instructions at most.
        let over = i16::try_from(decision.len()).unwrap_or(i16::MAX);
        let (mask, wanted) = self.device();
        let mut instructions = Vec::new();
        instructions.extend(set_wide(PART, mask));
        instructions.push(and_with(PART, DEVICE));
        instructions.extend(set_wide(WANTED, wanted));
        instructions.push(jump_unless_same(PART, WANTED, over));
        instructions.extend(decision);
        instructions
    }

    /// What of [`DEVICE`] the rule looks at, and what it is to be, each as two halves.
    fn device(&self) -> ([i32; 2], [i32; 2]) {
        let kind = match self.kind {
            Kind::Block => context::BLOCK,
            Kind::Character => context::CHARACTER,
        };
        let (major_mask, major) = self.major.map_or((0, 0), |major| (-1 << MINOR_BITS, major << MINOR_BITS));
        let (minor_mask, minor) = self.minor.map_or((0, 0), |minor| (MINOR_MASK, minor));
        ([-1, major_mask | minor_mask], [kind, major | minor])
    }

    /// No as soon as a part of what is asked is denied, yes once nothing is left to ask for.
    fn decision(&self) -> Vec<Instruction> {
        let mut decision = match self {
            Self { access: ANY_ACCESS, .. } => Vec::new(),
            Self { allow: true, access, .. } => vec![and(ASKED, !access), jump_unless(ASKED, 0, 2)],
            Self { allow: false, access, .. } => {
                vec![copy(PART, ASKED), and(PART, *access), jump_if(PART, 0, 2)]
            }
        };
        decision.extend([set(RESULT, self.allow.into()), exit()]);
        decision
    }
}

fn access(letters: &str) -> i32 {
    letters.chars().fold(0, |access, letter| {
        access
            | match letter {
                'r' => context::READ,
                'w' => context::WRITE,
                'm' => context::MAKE,
                _ => 0,
            }
    })
}

#[cfg(test)]
mod tests {
    use bpf::instruction::code;

    use super::*;

    const ORDINARY: &str = r#"{"allow":false,"access":"rwm"}"#;
    const PRIVILEGED: &str = r#"{"allow":true,"access":"rwm"}"#;

    fn program(rules: &str) -> Vec<Instruction> {
        let spec = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"/"}},"linux":{{"resources":{{"devices":[{rules}]}}}}}}"#
        );
        Policy::of(&serde_json::from_str(&spec).unwrap()).program()
    }

    /// As the kernel runs a program: its words, and the answer.
    fn run(program: &[Instruction], words: [u32; 3]) -> bool {
        let mut registers = [0_u64; 6];
        let mut at = 0_usize;
        loop {
            let Instruction { code, destination, source, offset, immediate } = program[at];
            let (to, from) = (usize::from(destination), registers[usize::from(source)]);
            let value = i64::from(immediate).cast_unsigned();
            let mut next = at + 1;
            let mut jump_when =
                |is_so: bool| next += if is_so { usize::try_from(offset).unwrap() } else { 0 };
            match code {
                code::JUMP_IF => jump_when(registers[to] == value),
                code::JUMP_UNLESS => jump_when(registers[to] != value),
                code::JUMP_UNLESS_SAME => jump_when(registers[to] != from),
                code::LOAD_WORD => registers[to] = words[usize::try_from(offset).unwrap() / 4].into(),
                code::LOAD_WIDE => {
                    let halves = [program[at + 1].immediate, immediate].map(i32::cast_unsigned);
                    registers[to] = halves.into_iter().fold(0, |value, half| value << 32 | u64::from(half));
                    next += 1;
                }
                code::COPY => registers[to] = from,
                code::SET => registers[to] = value,
                code::AND => registers[to] &= value,
                code::AND_WITH => registers[to] &= from,
                code::OR_WITH => registers[to] |= from,
                code::SHIFT_LEFT => registers[to] <<= value,
                code::SHIFT_RIGHT => registers[to] >>= value,
                code::EXIT => return registers[0] != 0,
                unknown => panic!("{unknown:#x}"),
            }
            at = next;
        }
    }

    /// Which of these accesses, each by itself and all together, a program allows to a device.
    fn allowed(program: &[Instruction], device: &str) -> String {
        let (kind, number) = device.split_once(' ').unwrap();
        let (major, minor) = number.split_once(':').unwrap();
        let kind = if kind == "b" { context::BLOCK } else { context::CHARACTER };
        let may = |letters: &&str| {
            let access_type = access(letters) << context::ACCESS_SHIFT | kind;
            run(program, [access_type.cast_unsigned(), major.parse().unwrap(), minor.parse().unwrap()])
        };
        let one_by_one: String = ["r", "w", "m"].into_iter().filter(may).collect();
        assert_eq!(may(&"rwm"), one_by_one == "rwm");
        assert_eq!(may(&"rw"), one_by_one.starts_with("rw"));
        one_by_one
    }

    #[test]
    fn what_engines_ask_for_is_the_usual() {
        let rules = ["1:3", "1:8", "1:7", "5:0", "1:5", "1:9", "5:1", "5:2", "10:200"].map(|number| {
            let (major, minor) = number.split_once(':').unwrap();
            format!(r#"{{"allow":true,"type":"c","major":{major},"minor":{minor},"access":"rwm"}}"#)
        });
        let nodes = r#"{"allow":true,"type":"c","access":"m"},{"allow":true,"type":"b","access":"m"}"#;
        let terminals = r#"{"allow":true,"type":"c","major":136,"access":"rwm"}"#;
        let usual = Policy::usual().program();
        assert_eq!(program(&format!("{ORDINARY},{terminals},{}", rules.join(","))), usual);
        assert_eq!(program(&format!("{ORDINARY},{nodes},{},{terminals}", rules.join(","))), usual);
        assert_ne!(program(ORDINARY), usual);
    }

    #[test]
    fn without_rules_there_are_the_defaults_and_nodes_of_all() {
        for rules in ["", ORDINARY] {
            let program = program(rules);
            for device in ["c 1:3", "c 1:9", "c 5:0", "c 5:2", "c 10:200", "c 136:7"] {
                assert_eq!(allowed(&program, device), "rwm", "{device}");
            }
            for device in ["c 1:1", "c 1:11", "c 5:1", "c 10:229", "b 1:3", "b 254:0", "b 259:0"] {
                assert_eq!(allowed(&program, device), "m", "{device}");
            }
        }
    }

    #[test]
    fn what_is_not_even_read_is_looked_at_as_runc_has_it() {
        // access(2) with F_OK asks for nothing.
        assert!(run(&program(ORDINARY), [context::BLOCK.cast_unsigned(), 254, 0]));
    }

    #[test]
    fn who_may_all_may_all() {
        let program = program(PRIVILEGED);
        for device in ["c 1:1", "c 10:229", "b 254:0"] {
            assert_eq!(allowed(&program, device), "rwm");
        }
    }

    #[test]
    fn the_last_rule_that_speaks_of_an_access_counts() {
        let read = r#"{"allow":true,"type":"b","major":254,"minor":16,"access":"r"}"#;
        let none = r#"{"allow":false,"type":"b","major":254,"access":"rw"}"#;
        let write = r#"{"allow":true,"type":"b","major":254,"minor":16,"access":"w"}"#;
        let of = |rules: &[&str]| allowed(&program(&rules.join(",")), "b 254:16");
        assert_eq!(of(&[ORDINARY, read]), "rm");
        assert_eq!(of(&[ORDINARY, read, write]), "rwm");
        assert_eq!(of(&[read, none, write]), "wm");
        assert_eq!(of(&[read, write, none]), "m");
        assert_eq!(of(&[PRIVILEGED, none]), "m");
        assert_eq!(of(&[PRIVILEGED, none, read]), "rm");
    }

    #[test]
    fn a_rule_of_all_devices_makes_those_before_it_void() {
        let disk = r#"{"allow":true,"type":"b","major":254,"minor":16}"#;
        let no_disk = disk.replace("true", "false");
        let all = r#"{"allow":true,"type":"a","major":1,"minor":1,"access":"r"}"#;
        let of = |rules: &[&str]| allowed(&program(&rules.join(",")), "b 254:16");
        assert_eq!(of(&[disk, ORDINARY]), "m");
        assert_eq!(of(&[&no_disk, all]), "rwm");
    }

    #[test]
    fn rules_speak_of_their_kind_and_numbers_alone() {
        let allows = |rule: &str, device: &str| {
            allowed(&program(&format!(r#"{ORDINARY},{{"allow":true,{rule}}}"#)), device) == "rwm"
        };
        assert!(allows(r#""type":"c","major":10,"minor":229"#, "c 10:229"));
        assert!(!allows(r#""type":"c","major":10,"minor":229"#, "c 10:228"));
        assert!(!allows(r#""type":"c","major":10,"minor":229"#, "b 10:229"));
        assert!(allows(r#""type":"b","minor":3"#, "b 8:3"));
        assert!(!allows(r#""type":"b","minor":3"#, "b 8:4"));
        assert!(allows(r#""type":"b","major":-1,"minor":-1"#, "b 8:4"));
        assert!(!allows(r#""type":"b","major":8589934600,"minor":4"#, "b 8:4"));
        assert!(!allows(r#""type":"c","major":8,"minor":1048580"#, "c 9:4"));
        assert!(allows(r#""type":"c","major":4095,"minor":1048575"#, "c 4095:1048575"));
        assert!(!allows(r#""type":"p""#, "c 10:229"));
    }
}
