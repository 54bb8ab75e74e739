//! The BPF program that gives a network namespace's connections to 127.0.0.1 and ::1 to listeners of ours. The kernel asks it
//! before it looks who listens (Linux Documentation/bpf/prog_sk_lookup.rst), and has it for as long as its attachment's
//! descriptor is open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use bpf::instruction::{
    Instruction, add, call, code, copy, exit, jump_if, jump_unless, load_map, load_word, set, store_word,
};
use bpf::socket_lookup::{AttachedProgram, SocketMap, attach};

/// Where the map has the listeners.
const IPV4: u8 = 0;
const IPV6: u8 = 1;

/// Has `ipv4` take what is connected to 127.0.0.1 in the namespace, whatever the port, and `ipv6` what is to ::1.
pub(super) fn redirect(
    namespace: impl AsFd,
    ipv4: impl AsFd,
    ipv6: Option<impl AsFd>,
) -> io::Result<AttachedProgram> {
    let listeners = SocketMap::new(2)?;
    listeners.put(IPV4.into(), ipv4)?;
    if let Some(ipv6) = ipv6 {
        listeners.put(IPV6.into(), ipv6)?;
    }
    attach(&program(listeners.as_raw_fd()), namespace)
}

/// What the program is asked about, `struct bpf_sk_lookup` of linux/bpf.h: where its fields are.
mod context {
    pub(super) const PROTOCOL: i16 = 12;
    pub(super) const LOCAL_IPV4: i16 = 40;
    pub(super) const LOCAL_IPV6: [i16; 4] = [44, 48, 52, 56];
}

const TCP: i32 = 6;
/// Addresses are in the network's order, word by word; those of the other family are zero.
const LOOPBACK_IPV4: i32 = i32::from_ne_bytes([127, 0, 0, 1]);
const LOOPBACK_IPV6: [i32; 4] = [0, 0, 0, i32::from_ne_bytes([0, 0, 0, 1])];

// Registers (Linux Documentation/bpf/standardization/instruction-set.rst, "Calling convention" of abi.rst).
const RESULT: u8 = 0;
const ARGUMENTS: [u8; 3] = [1, 2, 3];
/// They outlive calls.
const CONTEXT: u8 = 6;
const LISTENER: u8 = 7;
const STACK: u8 = 10;
/// Where the stack has the listener's index.
const INDEX: i16 = -4;

// Helpers (bpf-helpers(7)), and what a program of this kind says of a packet.
const MAP_LOOKUP_ELEM: i32 = 1;
const SK_RELEASE: i32 = 86;
const SK_ASSIGN: i32 = 124;
const SK_PASS: i32 = 1;

/// Instructions that jumps go to, by number: the choice of a listener, and the end, where what was not chosen is as it was.
const CHOICE: i16 = 15;
const END: i16 = 28;

fn program(listeners: RawFd) -> [Instruction; 30] {
    let [first, second, third] = ARGUMENTS;
    let [a, b, c, d] = context::LOCAL_IPV6;
    let [is_a, is_b, is_c, is_d] = LOOPBACK_IPV6;
    let [map, rest_of_map] = load_map(first, listeners);
    let mut number = 0;
    [
        copy(CONTEXT, first),
        load_word(second, CONTEXT, context::PROTOCOL),
        jump_unless(second, TCP, END),
        store_word(STACK, INDEX, IPV4.into()),
        load_word(second, CONTEXT, context::LOCAL_IPV4),
        jump_if(second, LOOPBACK_IPV4, CHOICE),
        store_word(STACK, INDEX, IPV6.into()),
        load_word(second, CONTEXT, a),
        jump_unless(second, is_a, END),
        load_word(second, CONTEXT, b),
        jump_unless(second, is_b, END),
        load_word(second, CONTEXT, c),
        jump_unless(second, is_c, END),
        load_word(second, CONTEXT, d),
        jump_unless(second, is_d, END),
        // The choice.
        map,
        rest_of_map,
        copy(second, STACK),
        add(second, INDEX.into()),
        call(MAP_LOOKUP_ELEM),
        jump_if(RESULT, 0, END),
        copy(LISTENER, RESULT),
        copy(first, CONTEXT),
        copy(second, LISTENER),
        set(third, 0),
        // It fails where another program has chosen.
        call(SK_ASSIGN),
        copy(first, LISTENER),
        call(SK_RELEASE),
        // The end.
        set(RESULT, SK_PASS),
        exit(),
    ]
    .map(|instruction| {
        number += 1;
        match instruction.code {
            // Jumps are relative to the instruction behind them.
            code::JUMP_IF | code::JUMP_UNLESS => {
                Instruction { offset: instruction.offset - number, ..instruction }
            }
            _ => instruction,
        }
    })
}
