//! What the guest is told of devices and processors that came or go while it runs.

use agent_api::agent::{
    AttachDisksRequest, DetachDiskRequest, MountSharesRequest, SetNetworkRequest, UseProcessorsRequest,
};
use ttrpc::context::Context;

use super::{Guest, GuestError};
use crate::disks::DeviceNumber;

impl Guest {
    /// Waits until the guest has found the disk; gives the number it has there, if the guest tells one.
    pub(crate) async fn attach_disk(&self, serial: &str) -> Result<Option<DeviceNumber>, GuestError> {
        let request = AttachDisksRequest { serials: vec![serial.to_owned()], ..Default::default() };
        let answer = self.answer(self.client.attach_disks(Context::default(), &request)).await?;
        Ok(answer.numbers.first().map(|number| DeviceNumber { major: number.major, minor: number.minor }))
    }

    /// Has the guest let go of the disk.
    pub(crate) async fn detach_disk(&self, serial: &str) -> Result<(), GuestError> {
        let request = DetachDiskRequest { serial: serial.to_owned(), ..Default::default() };
        self.answer(self.client.detach_disk(Context::default(), &request)).await?;
        Ok(())
    }

    /// Has the guest mount the device of shares.
    pub(crate) async fn mount_shares(&self, tag: &str) -> Result<(), GuestError> {
        let request = MountSharesRequest { tag: tag.to_owned(), ..Default::default() };
        self.answer(self.client.mount_shares(Context::default(), &request)).await?;
        Ok(())
    }

    /// Has the guest use so many of its VM's vCPUs, unless it uses more.
    pub(crate) async fn use_processors(&self, count: u8) -> Result<(), GuestError> {
        let request = UseProcessorsRequest { count: count.into(), ..Default::default() };
        self.answer(self.client.use_processors(Context::default(), &request)).await?;
        Ok(())
    }

    /// Makes the guest's network what the request says.
    pub(crate) async fn set_network(&self, request: &SetNetworkRequest) -> Result<(), GuestError> {
        self.answer(self.client.set_network(Context::default(), request)).await?;
        Ok(())
    }
}
