//! The guest's virtio-net devices, in the order of their PCI slots: the host and the guest both know them by it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::NetworkError;
use super::wanted::Wanted;
use crate::disks;
use crate::uevent::Uevents;

const VIRTIO_DEVICES: &str = "/sys/bus/virtio/devices";

/// How long the kernel may take from finding a device to having its interface.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kernel's index of each device's interface. Has it look at the bus if there are fewer devices than are wanted.
pub(super) async fn find(wanted: &Wanted) -> Result<Vec<u32>, NetworkError> {
    let found = list_all()?;
    if missing(wanted, &found).is_none() {
        return Ok(found);
    }
    let uevents = Uevents::subscribe().map_err(NetworkError::Sysfs)?;
    disks::look().await?;
    let appear = async {
        loop {
            let found = list_all()?;
            if missing(wanted, &found).is_none() {
                return Ok(found);
            }
            uevents.next().await.map_err(NetworkError::Sysfs)?;
        }
    };
    if let Ok(found) = timeout(PATIENCE, appear).await {
        return found;
    }
    let found = list_all()?;
    missing(wanted, &found).map_or(Ok(found), Err)
}

/// Those that are there.
pub(super) fn list_all() -> Result<Vec<u32>, NetworkError> {
    list(Path::new(VIRTIO_DEVICES)).map_err(NetworkError::Sysfs)
}

fn missing(wanted: &Wanted, found: &[u32]) -> Option<NetworkError> {
    let interface = wanted.interfaces.iter().find(|interface| interface.device >= found.len())?;
    Some(NetworkError::NoDevice {
        interface: interface.name.clone(),
        device: interface.device,
        found: found.len(),
    })
}

fn list(virtio_devices: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for device in fs::read_dir(virtio_devices)? {
        let device = device?.path();
        // One without is of another kind, or has no driver yet.
        let Ok(interfaces) = fs::read_dir(device.join("net")) else { continue };
        // The device of the bus is above that of virtio, and its name is its address, in digits of fixed number.
        let slot = device.canonicalize()?.parent().and_then(Path::file_name).map(ToOwned::to_owned);
        for interface in interfaces {
            let index = fs::read_to_string(interface?.path().join("ifindex"))?;
            found.push((slot.clone(), index.trim().parse().map_err(io::Error::other)?));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, index)| index).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn devices_come_in_the_order_of_their_slots() {
        let sysfs = tempfile::tempdir().unwrap();
        let bus = sysfs.path().join("bus");
        fs::create_dir(&bus).unwrap();
        for (slot, virtio, net) in [
            ("0000:00:0a.0", "virtio0", Some(7)),
            ("0000:00:09.0", "virtio10", Some(3)),
            ("0000:00:02.0", "virtio1", None),
        ] {
            let device = sysfs.path().join("pci0000:00").join(slot).join(virtio);
            fs::create_dir_all(&device).unwrap();
            if let Some(index) = net {
                fs::create_dir_all(device.join("net/eth")).unwrap();
                fs::write(device.join("net/eth/ifindex"), format!("{index}\n")).unwrap();
            }
            symlink(&device, bus.join(virtio)).unwrap();
        }
        assert_eq!(list(&bus).unwrap(), [3, 7]);
    }
}
