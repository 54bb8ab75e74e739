//! The disks of the guest, known by the serial the host gave each. Persistent memory has none, and is known by its
//! kernel's name.
//!
//! The bus has no hot-plug controller: the agent has the kernel look again, or let go (sysfs-bus-pci). A look costs some
//! hundred exits for each device it finds. So a template has devices already that are places of disks, without drivers;
//! where a disk took one, its driver is all that is missing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_api::agent::DeviceNumber;
use rustix::fs::{Mode, OFlags, major, minor, open};
use rustix::io::Errno;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::uevent::Uevents;

/// How long the kernel may take from finding a device to having its disk.
const PATIENCE: Duration = Duration::from_secs(10);

const BLOCK_DEVICES: &str = "/sys/block";

const VIRTIO_BUS: &str = "/sys/bus/virtio";

/// Types of virtio devices (virtio 1.3 §5).
const NETWORK: u32 = 1;
const BLOCK: u32 = 2;
const FILE_SYSTEM: u32 = 26;
const PMEM: u32 = 27;

/// What the kernel calls the first, and here only, disk that is persistent memory.
const PERSISTENT_MEMORY: &str = "pmem0";

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("no disk with the serial {serial:?} (there are: {})", known.join(", "))]
    Missing { serial: String, known: Vec<String> },
    #[error("cannot read {BLOCK_DEVICES}")]
    Sysfs(#[source] io::Error),
    #[error("cannot have the kernel look for devices")]
    Rescan(#[source] io::Error),
    #[error("cannot leave devices without a driver, or give them one")]
    Drivers(#[source] io::Error),
    #[error("cannot hear of the kernel's devices")]
    Uevents(#[source] io::Error),
    #[error("cannot have the kernel let go of disk {serial:?}")]
    Remove { serial: String, source: io::Error },
    #[error("something is still mounted from disk {serial:?}")]
    InUse { serial: String },
    #[error("cannot tell the number of disk {serial:?}")]
    Number { serial: String, source: io::Error },
}

/// Has the kernel find these disks, and waits until they are there.
pub(crate) async fn attach(serials: &[String]) -> Result<(), DiskError> {
    let Err(missing) = all_present(serials) else { return Ok(()) };
    let uevents = Uevents::subscribe().map_err(DiskError::Uevents)?;
    let wanted = serials.to_vec();
    let coming = blocking(move || bind_places(&wanted)).await.map_err(DiskError::Drivers)?;
    if !coming {
        rescan().await.map_err(DiskError::Rescan)?;
    }
    let appear = async {
        while all_present(serials).is_err() {
            uevents.next().await.map_err(DiskError::Uevents)?;
        }
        Ok(())
    };
    match timeout(PATIENCE, appear).await {
        Ok(result) => result,
        Err(_) => all_present(serials).and(Err(missing)),
    }
}

/// Has the kernel find the places there are. Those of block devices are left without a driver, which would ask what is on
/// them; the others are to the guest what they will be.
pub(crate) async fn prepare() -> Result<(), DiskError> {
    let automatic =
        |on: &'static str| blocking(move || fs::write(Path::new(VIRTIO_BUS).join("drivers_autoprobe"), on));
    automatic("0").await.map_err(DiskError::Drivers)?;
    let scanned = rescan().await.map_err(DiskError::Rescan);
    // From now on again: those that are there have been passed over.
    automatic("1").await.map_err(DiskError::Drivers)?;
    scanned?;
    for device_type in [NETWORK, FILE_SYSTEM] {
        blocking(move || bind(device_type)).await.map_err(DiskError::Drivers)?;
    }
    attach(&[PERSISTENT_MEMORY.to_owned()]).await
}

/// Has the kernel look at the bus, and probe the drivers of what is new there.
pub(crate) async fn look() -> Result<(), DiskError> {
    rescan().await.map_err(DiskError::Rescan)
}

/// Has the kernel let go of the disk, so that the host may take it away. One that something is mounted from stays, and has
/// all that was written.
pub(crate) async fn detach(serial: &str) -> Result<(), DiskError> {
    let (disk, device) = (find_entry(serial)?, find(serial)?);
    let serial = serial.to_owned();
    let free = blocking(move || {
        let free = is_free(&device)?;
        if free {
            // /sys/block/vda/device is the virtio device; the PCI function is its parent.
            fs::write(disk.join("device/../remove"), "1")?;
        } else {
            rustix::fs::sync();
        }
        Ok(free)
    });
    match free.await {
        Ok(true) => Ok(()),
        Ok(false) => Err(DiskError::InUse { serial }),
        Err(source) => Err(DiskError::Remove { serial, source }),
    }
}

/// Whether nothing is mounted from the device: what is has it exclusively (open(2), O_EXCL).
fn is_free(device: &Path) -> io::Result<bool> {
    match open(device, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Ok(true),
        Err(Errno::BUSY) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// By which the kernel knows the disk with this serial.
pub(crate) fn number(serial: &str) -> Result<DeviceNumber, DiskError> {
    let told = fs::metadata(find(serial)?);
    let device = told.map_err(|source| DiskError::Number { serial: serial.to_owned(), source })?.rdev();
    Ok(DeviceNumber { major: major(device), minor: minor(device), ..Default::default() })
}

/// The block device of the disk with this serial.
pub(crate) fn find(serial: &str) -> Result<PathBuf, DiskError> {
    let entry = find_entry(serial)?;
    Ok(Path::new("/dev").join(entry.file_name().unwrap_or_default()))
}

fn find_entry(serial: &str) -> Result<PathBuf, DiskError> {
    let disks = list().map_err(DiskError::Sysfs)?;
    let found = disks.iter().find(|disk| disk.serial == serial).map(|disk| disk.entry.clone());
    found.ok_or_else(|| DiskError::Missing {
        serial: serial.to_owned(),
        known: disks.into_iter().map(|disk| disk.serial).collect(),
    })
}

fn all_present(serials: &[String]) -> Result<(), DiskError> {
    serials.iter().try_for_each(|serial| find_entry(serial).map(drop))
}

async fn rescan() -> io::Result<()> {
    // The kernel probes the drivers of what it finds within the write, and its disks with them.
    blocking(|| fs::write("/sys/bus/pci/rescan", "1")).await
}

/// The kernel answers some writes only when it has done what they ask for.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(call).await.unwrap_or_else(|panic| Err(panic.into()))
}

/// Gives their drivers to the places such disks may be in; tells whether all disks are there by that, or about to be.
fn bind_places(serials: &[String]) -> io::Result<bool> {
    let (memory, block): (Vec<_>, Vec<_>) =
        serials.iter().cloned().partition(|serial| is_persistent_memory(serial));
    let is_bound = all_present(&memory).is_ok() || bind(PMEM)?;
    if !block.is_empty() {
        bind(BLOCK)?;
    }
    // A block device is there when its driver is; persistent memory comes later, from a thread of the kernel's.
    Ok(is_bound && all_present(&block).is_ok())
}

/// Has the kernel give a driver to each virtio device of this type that has none; tells whether there was one.
fn bind(device_type: u32) -> io::Result<bool> {
    let mut any = false;
    for device in fs::read_dir(Path::new(VIRTIO_BUS).join("devices"))? {
        let device = device?;
        let (path, name) = (device.path(), device.file_name());
        let is_of_type = fs::read_to_string(path.join("device"))?.trim() == format!("{device_type:#06x}");
        if is_of_type && !path.join("driver").exists() {
            fs::write(Path::new(VIRTIO_BUS).join("drivers_probe"), name.as_encoded_bytes())?;
            any = true;
        }
    }
    Ok(any)
}

fn persistent_memory(entry: &Path) -> Option<String> {
    let name = entry.file_name()?.to_str()?;
    is_persistent_memory(name).then(|| name.to_owned())
}

fn is_persistent_memory(known_as: &str) -> bool {
    known_as.starts_with("pmem")
}

/// Whether the disk is memory that can be read in place (DAX).
pub(crate) fn is_memory(device: &Path) -> bool {
    persistent_memory(device).is_some()
}

struct Disk {
    entry: PathBuf,
    serial: String,
}

fn list() -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for entry in fs::read_dir(BLOCK_DEVICES)? {
        let entry = entry?.path();
        // Not every block device has a serial, and one may go while we look.
        if let Ok(serial) = fs::read_to_string(entry.join("serial")) {
            disks.push(Disk { serial: serial.trim_end_matches(['\n', '\0']).to_owned(), entry });
        } else if let Some(name) = persistent_memory(&entry) {
            disks.push(Disk { serial: name, entry });
        }
    }
    Ok(disks)
}
