//! The device over a tap of this kernel, confined as in its jail. Only who may make a network of their own can see it.

#![allow(clippy::cast_possible_truncation, reason = "a test panics where it is wrong")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::features::{CTRL_VQ, MQ};
use super::rig::*;
use super::{Bypass, Carrier, FarSide, Tap, TapError, Vhost, VhostError};
use crate::hold::Hold;
use crate::jail::{open_no_files, seccomp};

const NAME: &[u8] = b"tap0";
/// For experiments on one's own network (IEEE 802).
const ETHER_TYPE: u16 = 0x88b5;
const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Runs in a network of its own, where that may be made.
fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: only this thread leaves the network it was in.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 && File::open("/dev/net/tun").is_ok() {
            test();
        }
    });
    thread.join().unwrap();
}

fn request(flags: libc::c_int) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    request
}

fn open_tap(flags: libc::c_int) -> OwnedFd {
    let tun = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    let mut request = request(flags);
    // SAFETY: TUNSETIFF reads and writes a struct ifreq.
    let made = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
    tun.into()
}

/// Brings the interface up, and gives a socket to it.
fn network() -> OwnedFd {
    let protocol = ETHER_TYPE.to_be();
    // SAFETY: plain system calls on new descriptors, with structs that live meanwhile.
    unsafe {
        let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol.into()));
        let up = request(libc::IFF_UP);
        let done = libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const up);
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = libc::if_nametoindex(c"tap0".as_ptr()).cast_signed();
        let length = size_of::<libc::sockaddr_ll>() as u32;
        let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
        assert_eq!(bound, 0, "{}", io::Error::last_os_error());
        socket
    }
}

fn ethernet_frame(seed: u8) -> Vec<u8> {
    let mut frame = frame(seed, 1000);
    frame[12..18].copy_from_slice(&[0xff; 6]);
    frame[24..26].copy_from_slice(&ETHER_TYPE.to_be_bytes());
    frame
}

/// A guest on these queues, in threads confined as the VMM's; the kernel may have for each a way past them.
fn guest(taps: Vec<OwnedFd>, vhosts: Vec<OwnedFd>) {
    open_no_files();
    seccomp::confine(seccomp::Thread::Main).unwrap();
    let bypasses =
        vhosts.into_iter().map(|vhost| Box::new(Vhost::new(vhost).unwrap()) as Box<dyn Bypass>).collect();
    let carriers: Vec<_> =
        taps.into_iter().map(|tap| Box::new(Tap::new(tap).unwrap()) as Box<dyn Carrier>).collect();
    let pairs = carriers.len() as u8;
    let rig = rig(pairs);
    rig.handle.fill(FarSide { carriers, bypasses, transmit: None, receive: None }).unwrap();
    let control = 4;
    let mut driver = match pairs {
        1 => rig.driver(USUAL, &[16, 16]),
        _ => rig.driver(USUAL | CTRL_VQ | MQ, &[16, 16, 16, 16, 16]),
    };
    if pairs > 1 {
        driver.write_memory(OUT, &[4, 0, 2, 0]);
        driver.push(control, &[(OUT, 4, false), (OUT + 4, 1, true)]);
        driver.ring(control);
        driver.wait_used(control);
        assert_eq!(driver.read_memory(OUT + 4, 1), [0]);
    }
    let buffer = |queue: u16| IN + u64::from(queue) * 0x1000;
    for queue in 0..u16::from(pairs) {
        driver.push(2 * queue, &[(buffer(queue), 2048, true)]);
        driver.ring(2 * queue);
    }
    for seed in 0..10 {
        if seed == 5 {
            let (_, holds) = rig.machine.pci.save();
            holds.into_iter().for_each(Hold::go_on);
        }
        transmit(&mut driver, &ethernet_frame(seed));
        let answer = in_buffers(1, ethernet_frame(seed + 100));
        // The kernel chooses the queue, and may have frames of its own.
        let mut look = |queue: u16| {
            while let Some((_, length)) = driver.take_used(2 * queue) {
                let received = driver.read_memory(buffer(queue), length as usize);
                driver.push(2 * queue, &[(buffer(queue), 2048, true)]);
                driver.ring(2 * queue);
                if received == answer {
                    return Some(());
                }
            }
            None
        };
        rig.machine.hypervisor.wait(|| (0..u16::from(pairs)).find_map(&mut look));
    }
}

/// As the supervisor opens it; `None` where the kernel has none.
fn open_vhost() -> Option<OwnedFd> {
    File::options().read(true).write(true).open("/dev/vhost-net").ok().map(OwnedFd::from)
}

/// Whether one of the threads of this process is vhost-net's.
fn kernel_has_thread() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.into_iter().any(|name| name.starts_with("vhost-"))
}

#[test]
fn frames_go_both_ways_through_a_tap_by_one_queue_and_by_two() {
    for (queues, vhost) in [(1, false), (2, false), (1, true), (2, true)] {
        in_own_network(move || {
            let flags = if queues > 1 { FLAGS | libc::IFF_MULTI_QUEUE } else { FLAGS };
            let taps: Vec<_> = (0..queues).map(|_| open_tap(flags)).collect();
            let vhosts: Vec<_> = (0..queues).filter(|_| vhost).filter_map(|_| open_vhost()).collect();
            let is_bypassed = !vhosts.is_empty();
            let network = network();
            let guest = std::thread::spawn(|| guest(taps, vhosts));
            for seed in 0..10 {
                let mut frame = [0; 2000];
                let (length, _) =
                    rustix::net::recv(&network, &mut frame, rustix::net::RecvFlags::empty()).unwrap();
                assert!(!is_bypassed || kernel_has_thread());
                assert_eq!(frame[..length], ethernet_frame(seed)[12..]);
                let answer = &ethernet_frame(seed + 100)[12..];
                rustix::net::send(&network, answer, rustix::net::SendFlags::empty()).unwrap();
            }
            guest.join().unwrap();
        });
    }
}

#[test]
fn what_is_no_vhost_is_refused() {
    let null = File::open("/dev/null").unwrap();
    assert!(matches!(Vhost::new(null.into()), Err(VhostError::NoVhost(_))));
}

#[test]
fn a_tap_of_another_kind_is_refused() {
    in_own_network(|| {
        for flags in [libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR, libc::IFF_TAP | libc::IFF_NO_PI] {
            assert!(matches!(Tap::new(open_tap(flags)), Err(TapError::Flags)));
        }
        let unbound = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        assert!(matches!(Tap::new(unbound.into()), Err(TapError::NoTap(_))));
    });
}
