//! What an image is built to run on.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, Os};
use serde::Deserialize;
use thiserror::Error;

/// An operating system, a processor architecture, and perhaps a variant of that, all by Go's names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// The operating system.
    pub os: Os,
    /// The processor architecture.
    pub architecture: Arch,
    /// Which kind of that, such as `v8` of arm64. Where none is asked for, any will do.
    pub variant: Option<String>,
}

/// Text that is no platform.
#[derive(Debug, Error)]
#[error(
    "\"{0}\" is no platform: it is written OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64"
)]
pub struct PlatformError(String);

impl Platform {
    /// Whether an image for `other` will do where this one was asked for.
    pub(crate) fn accepts(&self, other: &Platform) -> bool {
        let variants = self.variant.as_deref().zip(other.variant.as_deref());
        self.os == other.os
            && self.architecture == other.architecture
            && variants.is_none_or(|(wanted, stated)| wanted == stated)
    }
}

impl Default for Platform {
    /// What this machine's guests run.
    fn default() -> Self {
        Platform { os: Os::Linux, architecture: Arch::default(), variant: None }
    }
}

impl From<&oci_spec::image::Platform> for Platform {
    fn from(stated: &oci_spec::image::Platform) -> Self {
        Platform {
            os: stated.os().clone(),
            architecture: stated.architecture().clone(),
            variant: stated.variant().clone(),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `OS/ARCHITECTURE[/VARIANT]` or an architecture alone, also by the names that compilers have for it.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os.as_str(), architecture, None),
            [os, architecture, variant] => (os.as_str(), architecture, Some(variant.clone())),
            _ => return Err(PlatformError(text.to_owned())),
        };
        let is_word = |part: &String| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        if !parts.iter().all(is_word) {
            return Err(PlatformError(text.to_owned()));
        }
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            architecture => architecture,
        };
        Ok(Platform { os: os.into(), architecture: architecture.into(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_docker_writes_them() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("aarch64", "linux/arm64"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for wrong in ["", "/", "linux/", "linux/amd64/v1/x", "linux/am d64", "../amd64"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variant_matters_where_both_state_one() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(platform("linux/arm").accepts(&platform("linux/arm/v7")));
        assert!(platform("linux/arm64/v8").accepts(&platform("linux/arm64")));
        assert!(!platform("linux/arm/v6").accepts(&platform("linux/arm/v7")));
        assert!(!platform("linux/arm").accepts(&platform("linux/arm64")));
    }
}
