//! vhost-net (Linux include/uapi/linux/vhost.h): the host's kernel serves a pair of rings, on a thread of its own that is
//! this process's.
//!
//! It checks all that the guest writes to the rings by itself, and reaches guest memory as this process could: of the room to
//! grow into, no more than what is open. A ring that makes no sense it serves no more, and says so to nobody.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::bypass::{Bypass, BypassedRing};
use super::features::MRG_RXBUF;
use crate::memory::Memory;

/// Feature bits that are the kernel's concern (virtio 1.3 §6); those of offloads are the tap's.
const INDIRECT_DESC: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
const ITS_CONCERN: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1 | MRG_RXBUF;

/// The number of a request, and its argument.
struct Request<T>(u32, PhantomData<T>);

impl<T> Request<T> {
    const fn new(number: u32) -> Self {
        Self(number, PhantomData)
    }
}

const GET_FEATURES: Request<u64> = Request::new(0x8008_af00);
const SET_FEATURES: Request<u64> = Request::new(0x4008_af00);
const SET_OWNER: Request<()> = Request::new(0xaf01);
const SET_MEM_TABLE: Request<Table> = Request::new(0x4008_af03);
const SET_VRING_NUM: Request<Number> = Request::new(0x4008_af10);
const SET_VRING_ADDR: Request<Addresses> = Request::new(0x4028_af11);
const SET_VRING_BASE: Request<Number> = Request::new(0x4008_af12);
const GET_VRING_BASE: Request<Number> = Request::new(0xc008_af12);
const SET_VRING_KICK: Request<Descriptor> = Request::new(0x4008_af20);
const SET_VRING_CALL: Request<Descriptor> = Request::new(0x4008_af21);
const NET_SET_BACKEND: Request<Descriptor> = Request::new(0x4008_af30);

/// struct vhost_vring_state.
#[repr(C)]
struct Number {
    ring: u32,
    value: u32,
}

/// struct vhost_vring_file, and vhost_net's.
#[repr(C)]
struct Descriptor {
    ring: u32,
    descriptor: RawFd,
}

/// As a descriptor: none.
const NONE: RawFd = -1;

/// struct vhost_vring_addr: where in this process a ring's parts lie.
#[repr(C)]
struct Addresses {
    ring: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    available: u64,
    log: u64,
}

/// struct vhost_memory, as long as it is ever needed.
#[repr(C)]
#[derive(Default)]
struct Table {
    count: u32,
    padding: u32,
    regions: [TableRegion; MOST_REGIONS],
}

/// More than a guest has: RAM below and above the hole for devices, and the room.
const MOST_REGIONS: usize = 8;

/// struct vhost_memory_region.
#[repr(C)]
#[derive(Default)]
struct TableRegion {
    guest: u64,
    size: u64,
    here: u64,
    flags: u64,
}

/// What rings have beside their entries: flags, an index, and the event of the other side (virtio 1.3 §2.7.6, §2.7.8).
const BESIDE_ENTRIES: usize = 6;

#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    #[error("the descriptor is no vhost-net")]
    NoVhost(#[source] io::Error),
    #[error("the kernel's vhost-net does not serve drivers of virtio 1")]
    Features,
}

/// An open /dev/vhost-net.
#[derive(Debug)]
pub struct Vhost {
    device: OwnedFd,
    /// The kernel's thread is there.
    has_thread: bool,
}

impl Vhost {
    pub fn new(device: OwnedFd) -> Result<Self, VhostError> {
        let vhost = Self { device, has_thread: false };
        let mut features = 0;
        vhost.request(GET_FEATURES, &mut features).map_err(VhostError::NoVhost)?;
        if features & ITS_CONCERN == ITS_CONCERN { Ok(vhost) } else { Err(VhostError::Features) }
    }

    fn set_up(
        &mut self,
        carrier: BorrowedFd<'_>,
        memory: &Memory,
        features: u64,
        rings: &[BypassedRing; 2],
    ) -> io::Result<()> {
        if !self.has_thread {
            self.request(SET_OWNER, &mut ())?;
            self.has_thread = true;
        }
        self.request(SET_FEATURES, &mut (features & ITS_CONCERN))?;
        self.request(SET_MEM_TABLE, &mut Table::of(memory)?)?;
        for (ring, place) in (0..).zip(rings) {
            self.set_up_ring(ring, place, memory)?;
        }
        self.set_carrier(carrier.as_raw_fd())
    }

    fn set_up_ring(&self, ring: u32, place: &BypassedRing, memory: &Memory) -> io::Result<()> {
        let BypassedRing { size, next, descriptors, available, used, doorbell, call } = place;
        let entries = usize::from(*size);
        let mut addresses = Addresses {
            ring,
            flags: 0,
            descriptors: here(memory, *descriptors, 16 * entries)?,
            used: here(memory, *used, BESIDE_ENTRIES + 8 * entries)?,
            available: here(memory, *available, BESIDE_ENTRIES + 2 * entries)?,
            log: 0,
        };
        self.request(SET_VRING_NUM, &mut Number { ring, value: (*size).into() })?;
        self.request(SET_VRING_BASE, &mut Number { ring, value: (*next).into() })?;
        self.request(SET_VRING_ADDR, &mut addresses)?;
        let call = call.as_ref().map_or(NONE, |call| call.as_raw_fd());
        self.request(SET_VRING_CALL, &mut Descriptor { ring, descriptor: call })?;
        self.request(SET_VRING_KICK, &mut Descriptor { ring, descriptor: *doorbell })
    }

    /// Begins to serve both rings, or ends it.
    fn set_carrier(&self, descriptor: RawFd) -> io::Result<()> {
        (0..2).try_for_each(|ring| self.request(NET_SET_BACKEND, &mut Descriptor { ring, descriptor }))
    }

    fn request<T>(&self, request: Request<T>, argument: &mut T) -> io::Result<()> {
        // SAFETY: the argument is the struct of this request, by `Request`'s type, which the kernel reads and writes within
        // the call. The addresses it may hold are of guest memory, mapped for as long as there are devices, to which there are
        // no Rust references; what the kernel cannot reach there is an error of its own.
        let done = unsafe {
            libc::ioctl(self.device.as_raw_fd(), libc::Ioctl::from(request.0), std::ptr::from_mut(argument))
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Bypass for Vhost {
    fn start(
        &mut self,
        carrier: BorrowedFd<'_>,
        memory: &Memory,
        features: u64,
        rings: [BypassedRing; 2],
    ) -> io::Result<()> {
        let started = self.set_up(carrier, memory, features, &rings);
        if started.is_err() {
            // What was not begun cannot be ended, which is as good.
            let _ = self.stop();
        }
        started
    }

    fn stop(&mut self) -> io::Result<[u16; 2]> {
        self.set_carrier(NONE)?;
        let mut progress = [0; 2];
        for (ring, progress) in (0..).zip(&mut progress) {
            for request in [SET_VRING_KICK, SET_VRING_CALL] {
                self.request(request, &mut Descriptor { ring, descriptor: NONE })?;
            }
            let mut next = Number { ring, value: 0 };
            self.request(GET_VRING_BASE, &mut next)?;
            *progress = u16::try_from(next.value).map_err(|_| io::ErrorKind::InvalidData)?;
        }
        Ok(progress)
    }
}

impl Table {
    /// All of a guest's memory, and the room with what is not open of it: that is no memory of this process, and so none of
    /// the kernel's thread.
    fn of(memory: &Memory) -> io::Result<Self> {
        let mut table = Self::default();
        let mut places = table.regions.iter_mut();
        for region in memory.iter() {
            *places.next().ok_or(io::ErrorKind::InvalidInput)? = TableRegion {
                guest: region.start_addr().raw_value(),
                size: region.size(),
                here: region.as_ptr() as u64,
                flags: 0,
            };
            table.count += 1;
        }
        Ok(table)
    }
}

/// Where in this process so many bytes of guest memory lie, in a row.
fn here(memory: &Memory, address: GuestAddress, length: usize) -> io::Result<u64> {
    let slice = memory.get_slice(address, length).map_err(io::Error::other)?;
    Ok(slice.ptr_guard_mut().as_ptr() as u64)
}
