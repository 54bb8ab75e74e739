//! Copying files between this machine and a container, by Docker's rules.
//!
//! [`place`] is what the user named, [`landing`] where a source comes to lie; [`pack`] and [`unpack`] are this
//! machine's side of a tar archive, the guest's agent is the other.

mod landing;
mod pack;
mod place;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

pub(crate) use self::landing::{Landing, LandingError, Source, land};
pub(crate) use self::pack::{PackError, Packed, look, pack};
pub(crate) use self::place::{Place, file_name, parent};
pub(crate) use self::unpack::{UnpackError, unpack};
