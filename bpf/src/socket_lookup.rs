//! Programs that choose the listeners of a network namespace's connections (Linux Documentation/bpf/prog_sk_lookup.rst).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::call::{call, make};
use crate::instruction::Instruction;
use crate::program::{Purpose, load};

// As in linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_SOCKMAP: u32 = 15;
const PURPOSE: Purpose = Purpose { program_type: 30, attach_type: 36 };

/// Sockets by their index, for a program to choose from. One that is closed leaves it.
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

/// A program that is attached to a network namespace for as long as this is.
#[derive(Debug)]
pub struct AttachedProgram {
    _link: OwnedFd,
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
pub fn attach(program: &[Instruction], namespace: impl AsFd) -> io::Result<AttachedProgram> {
    #[repr(C)]
    struct Create {
        prog_fd: RawFd,
        target_fd: RawFd,
        attach_type: u32,
        flags: u32,
    }
    let program = load(program, &PURPOSE)?;
    let create = Create {
        prog_fd: program.as_raw_fd(),
        target_fd: namespace.as_fd().as_raw_fd(),
        attach_type: PURPOSE.attach_type,
        flags: 0,
    };
    // SAFETY: there are no pointers in it, and the command makes a descriptor.
    Ok(AttachedProgram { _link: unsafe { make(LINK_CREATE, &create) }? })
}
