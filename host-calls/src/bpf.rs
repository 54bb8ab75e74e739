//! What it takes to have a BPF program choose the listeners of a network namespace's connections (bpf(2), Linux
//! Documentation/bpf/prog_sk_lookup.rst). What such a program may do, the kernel's verifier sees to.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What a program calls itself to the kernel: the licence of this one.
const LICENSE: &CStr = c"Apache-2.0";

// Commands, kinds and the place of attachment, as in linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PROG_TYPE_SK_LOOKUP: u32 = 30;
const SK_LOOKUP: u32 = 36;

/// One instruction of a program (Linux Documentation/bpf/standardization/instruction-set.rst). Of the registers' numbers, four
/// bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    pub destination: u8,
    pub source: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
struct Encoded {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Sockets by their index, for a program to choose from. One that is closed leaves it.
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

/// A program that is attached to a network namespace for as long as this is.
#[derive(Debug)]
pub struct AttachedProgram {
    _link: OwnedFd,
}

impl Instruction {
    fn encode(self) -> Encoded {
        let Self { code, destination, source, offset, immediate } = self;
        // Bit fields, in the machine's order.
        let (low, high) =
            if cfg!(target_endian = "little") { (destination, source) } else { (source, destination) };
        Encoded { code, registers: high << 4 | (low & 0xf), offset, immediate }
    }
}

impl SocketMap {
    pub fn new(entries: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Create {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
        }
        let create = Create { map_type: MAP_TYPE_SOCKMAP, key_size: 4, value_size: 4, max_entries: entries };
        // SAFETY: there are no pointers in it, and the command makes a descriptor.
        unsafe { make(MAP_CREATE, &create) }.map(Self)
    }

    /// Has a listening socket at `index`.
    pub fn put(&self, index: u32, socket: impl AsFd) -> io::Result<()> {
        #[repr(C)]
        struct Update {
            map_fd: RawFd,
            padding: u32,
            key: *const u32,
            value: *const RawFd,
            flags: u64,
        }
        let socket = socket.as_fd().as_raw_fd();
        let update = Update {
            map_fd: self.0.as_raw_fd(),
            padding: 0,
            key: &raw const index,
            value: &raw const socket,
            flags: 0,
        };
        // SAFETY: key and value live through the call and are as long as the map was made for, which copies them.
        unsafe { call(MAP_UPDATE_ELEM, &update) }.map(drop)
    }
}

impl AsRawFd for SocketMap {
    /// As a program names it, which from then on keeps it.
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Has a program choose, before the kernel does, who gets the connections and datagrams that reach a network namespace.
pub fn attach_socket_lookup(program: &[Instruction], namespace: impl AsFd) -> io::Result<AttachedProgram> {
    #[repr(C)]
    struct Create {
        prog_fd: RawFd,
        target_fd: RawFd,
        attach_type: u32,
        flags: u32,
    }
    let program = load_socket_lookup(program)?;
    let create = Create {
        prog_fd: program.as_raw_fd(),
        target_fd: namespace.as_fd().as_raw_fd(),
        attach_type: SK_LOOKUP,
        flags: 0,
    };
    // SAFETY: there are no pointers in it, and the command makes a descriptor.
    Ok(AttachedProgram { _link: unsafe { make(LINK_CREATE, &create) }? })
}

fn load_socket_lookup(program: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: *const Encoded,
        license: *const libc::c_char,
        log: [u64; 2],
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    let instructions: Vec<_> = program.iter().map(|instruction| instruction.encode()).collect();
    let load = Load {
        prog_type: PROG_TYPE_SK_LOOKUP,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr(),
        license: LICENSE.as_ptr(),
        log: [0; 2],
        kern_version: 0,
        prog_flags: 0,
        prog_name: [0; 16],
        prog_ifindex: 0,
        expected_attach_type: SK_LOOKUP,
    };
    // SAFETY: the instructions are as many as is said, the licence ends with a NUL, and the call copies both. The command
    // makes a descriptor.
    unsafe { make(PROG_LOAD, &load) }
}

/// # Safety
///
/// As for [`call`]; and the command gives a new descriptor.
unsafe fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller says.
    let descriptor = unsafe { call(command, attributes) }?;
    // SAFETY: it is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// # Safety
///
/// The attributes are the command's, whole or a beginning without padding, and what they point to is what it reads.
unsafe fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    let length = mem::size_of::<T>();
    // SAFETY: the attributes live through the call, and their length is told right; the rest is the caller's to see to.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), length) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}
