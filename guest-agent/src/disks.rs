//! The disks of the guest, known by the serial the host gave each. Persistent memory has none, and is known by its
//! kernel's name.
//!
//! The bus has no hot-plug controller: the agent has the kernel look again, or let go (sysfs-bus-pci).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::uevent::Uevents;

/// How long the kernel may take from finding a device to having its disk.
const PATIENCE: Duration = Duration::from_secs(10);

const BLOCK_DEVICES: &str = "/sys/block";

#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("no disk with the serial {serial:?} (there are: {})", known.join(", "))]
    Missing { serial: String, known: Vec<String> },
    #[error("cannot read {BLOCK_DEVICES}")]
    Sysfs(#[source] io::Error),
    #[error("cannot have the kernel look for devices")]
    Rescan(#[source] io::Error),
    #[error("cannot hear of the kernel's devices")]
    Uevents(#[source] io::Error),
    #[error("cannot have the kernel let go of disk {serial:?}")]
    Remove { serial: String, source: io::Error },
}

/// Has the kernel find these disks, and waits until they are there.
pub(crate) async fn attach(serials: &[String]) -> Result<(), DiskError> {
    let Err(missing) = all_present(serials) else { return Ok(()) };
    let uevents = Uevents::subscribe().map_err(DiskError::Uevents)?;
    rescan().await?;
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

/// Has the kernel let go of the disk, so that the host may take it away.
pub(crate) async fn detach(serial: &str) -> Result<(), DiskError> {
    let disk = find_entry(serial)?;
    // /sys/block/vda/device is the virtio device; the PCI function is its parent.
    let remove = disk.join("device/../remove");
    let serial = serial.to_owned();
    let removed = spawn_blocking(move || fs::write(remove, "1")).await;
    removed.unwrap_or_else(|panic| Err(panic.into())).map_err(|source| DiskError::Remove { serial, source })
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

async fn rescan() -> Result<(), DiskError> {
    // The kernel probes the drivers of what it finds within the write, and its disks with them.
    let rescanned = spawn_blocking(|| fs::write("/sys/bus/pci/rescan", "1")).await;
    rescanned.unwrap_or_else(|panic| Err(panic.into())).map_err(DiskError::Rescan)
}

fn persistent_memory(entry: &Path) -> Option<String> {
    let name = entry.file_name()?.to_str()?;
    name.starts_with("pmem").then(|| name.to_owned())
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
