//! The ioctls no library wraps.

use std::ffi::c_void;
use std::os::fd::AsFd;

use rustix::io;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

/// Bytes handed over by one RNDADDENTROPY.
pub(crate) const ENTROPY_LEN: usize = 64;

/// struct rand_pool_info (include/uapi/linux/random.h) with room for its flexible array.
#[repr(C)]
struct RandPoolInfo {
    entropy_count: i32,
    buf_size: i32,
    buf: [u8; ENTROPY_LEN],
}

/// random(4): mixes the first `len` of these bytes in and credits all their bits.
pub(crate) fn add_entropy(random: impl AsFd, bytes: &[u8; ENTROPY_LEN], len: usize) -> io::Result<()> {
    let len = i32::try_from(len.min(ENTROPY_LEN)).unwrap_or_default();
    let info = RandPoolInfo { entropy_count: len * 8, buf_size: len, buf: *bytes };
    // The kernel declares it as _IOW('R', 0x03, int[2]), whatever the length of what follows.
    const RNDADDENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 0x03);
    // SAFETY: RNDADDENTROPY reads a struct rand_pool_info and buf_size bytes behind it, which `info` holds.
    unsafe { ioctl(random, Argument { opcode: RNDADDENTROPY, value: info }) }
}

/// random(4): has the kernel's generator take up what was mixed in.
pub(crate) fn reseed(random: impl AsFd) -> io::Result<()> {
    const RNDRESEEDCRNG: Opcode = opcode::none(b'R', 0x07);
    // SAFETY: RNDRESEEDCRNG takes no argument and ignores the one it gets.
    unsafe { ioctl(random, Argument { opcode: RNDRESEEDCRNG, value: 0_u64 }) }
}

/// struct ifreq with ifr_flags in use (netdevice(7)).
#[repr(C)]
struct InterfaceFlags {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    padding: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceFlags>() == size_of::<libc::ifreq>());

/// netdevice(7): brings the loopback interface up.
pub(crate) fn loopback_up(socket: impl AsFd) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    name[..2].copy_from_slice(b"lo");
    let flags = libc::IFF_UP as i16;
    let value = InterfaceFlags { name, flags, padding: [0; 22] };
    // SAFETY: SIOCSIFFLAGS reads a struct ifreq, whose size and layout InterfaceFlags has.
    unsafe { ioctl(socket, Argument { opcode: libc::SIOCSIFFLAGS as Opcode, value }) }
}

/// An ioctl that reads a `T` and gives nothing back.
struct Argument<T> {
    opcode: Opcode,
    value: T,
}

// SAFETY: as_ptr points to the value, which lives as long as the call, and IS_MUTATING is false for calls that
// only read. Whether T is what the opcode reads is for each use above.
unsafe impl<T> Ioctl for Argument<T> {
    type Output = ();

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.value).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> io::Result<()> {
        Ok(())
    }
}
