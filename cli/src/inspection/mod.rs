//! All that is known of a container or an image, in the shape Docker's `inspect` has.

mod container;
mod image;

pub(crate) use self::container::ContainerInspection;
pub(crate) use self::image::ImageInspection;
