//! Limits on a disk of the host: `/dev/sda:10m`, `/dev/sda:1000`.

use std::path::PathBuf;
use std::str::FromStr;

use containers::DeviceLimit;

use super::bytes::Bytes;

/// A value in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceBytes(pub DeviceLimit);

/// A plain number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRate(pub DeviceLimit);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("write a device below /dev and a number, such as /dev/sda:1000")]
pub(crate) struct DeviceError;

fn parse(text: &str, value: impl FnOnce(&str) -> Option<u64>) -> Result<DeviceLimit, DeviceError> {
    match text.rsplit_once(':') {
        Some((device, number)) if device.starts_with("/dev/") => {
            Ok(DeviceLimit { device: PathBuf::from(device), value: value(number).ok_or(DeviceError)? })
        }
        _ => Err(DeviceError),
    }
}

impl FromStr for DeviceBytes {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        parse(text, |number| number.parse().ok().map(|Bytes(bytes)| bytes)).map(Self)
    }
}

impl FromStr for DeviceRate {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        parse(text, |number| number.parse().ok()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_its_number() {
        let DeviceBytes(limit) = "/dev/sda:10m".parse().unwrap();
        assert_eq!((limit.device.to_str(), limit.value), (Some("/dev/sda"), 10 << 20));
        let DeviceRate(limit) = "/dev/sda:100".parse().unwrap();
        assert_eq!(limit.value, 100);
        for text in ["/dev/sda", "sda:1", "/dev/sda:", "/dev/sda:x", "/dev/sda:10m"] {
            assert_eq!(text.parse::<DeviceRate>(), Err(DeviceError), "{text}");
        }
    }
}
