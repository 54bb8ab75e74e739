//! A tap of the host (Linux Documentation/networking/tuntap.rst), by one of its queues: what carries the guest's frames.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::features;
use super::frame::HEADER;

/// What carries frames, each behind a header of [`HEADER`] bytes. It never blocks.
pub trait Carrier: AsFd + Send {
    /// The driver takes frames as these features allow: without checksums, or several in one.
    fn set_offload(&self, features: u64) -> io::Result<()>;

    /// Whether frames are to come by this queue.
    fn set_attached(&self, attached: bool) -> io::Result<()>;
}

#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("the descriptor is no tap")]
    NoTap(#[source] io::Error),
    #[error("the tap was not opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR")]
    Flags,
    #[error("the tap does not take headers of {HEADER} bytes")]
    Header(#[source] io::Error),
    #[error("the tap cannot be made not to block")]
    NonBlocking(#[source] io::Error),
}

/// One queue of a tap.
#[derive(Debug)]
pub struct Tap(OwnedFd);

impl Tap {
    pub fn new(descriptor: OwnedFd) -> Result<Self, TapError> {
        let tap = Self(descriptor);
        let wanted = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if libc::c_int::from(tap.flags().map_err(TapError::NoTap)?) & wanted != wanted {
            return Err(TapError::Flags);
        }
        tap.set_header_length().map_err(TapError::Header)?;
        rustix::io::ioctl_fionbio(&tap.0, true).map_err(|error| TapError::NonBlocking(error.into()))?;
        Ok(tap)
    }

    fn flags(&self) -> io::Result<libc::c_short> {
        let mut request = no_request();
        // SAFETY: TUNGETIFF fills a struct ifreq, and a descriptor of another kind refuses it.
        done(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
        // SAFETY: the kernel has filled in the flags.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }

    fn set_header_length(&self) -> io::Result<()> {
        let length = libc::c_int::try_from(HEADER).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: TUNSETVNETHDRSZ reads an int.
        done(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) })
    }
}

impl Carrier for Tap {
    fn set_offload(&self, features: u64) -> io::Result<()> {
        let offloads = libc::c_ulong::from(offloads(features));
        // SAFETY: TUNSETOFFLOAD takes its flags as they are.
        done(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) })
    }

    fn set_attached(&self, attached: bool) -> io::Result<()> {
        let mut request = no_request();
        let flag = if attached { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
        request.ifr_ifru.ifru_flags =
            libc::c_short::try_from(flag).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: TUNSETQUEUE reads a struct ifreq.
        done(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETQUEUE, &raw const request) })
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the tap may leave to the guest.
fn offloads(driver: u64) -> libc::c_uint {
    // Without it the others are refused (virtio 1.3 §5.1.3.1, and the kernel's tun).
    if driver & features::GUEST_CSUM == 0 {
        return 0;
    }
    let known = [
        (features::GUEST_TSO4, libc::TUN_F_TSO4),
        (features::GUEST_TSO6, libc::TUN_F_TSO6),
        (features::GUEST_ECN, libc::TUN_F_TSO_ECN),
    ];
    let taken = known.iter().filter(|(feature, _)| driver & feature != 0);
    taken.fold(libc::TUN_F_CSUM, |flags, (_, flag)| flags | flag)
}

fn no_request() -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq: an empty name and no flags.
    unsafe { std::mem::zeroed() }
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tap_is_refused_in_words() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Tap::new(null.into()).unwrap_err().to_string(), "the descriptor is no tap");
        let (socket, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert!(matches!(Tap::new(socket.into()), Err(TapError::NoTap(_))));
    }

    #[test]
    fn a_tap_leaves_to_the_guest_what_its_driver_takes() {
        use features::*;
        assert_eq!(offloads(0), 0);
        assert_eq!(offloads(GUEST_TSO4 | GUEST_TSO6), 0);
        assert_eq!(offloads(GUEST_CSUM), libc::TUN_F_CSUM);
        assert_eq!(
            offloads(GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | MRG_RXBUF),
            libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN
        );
    }
}
