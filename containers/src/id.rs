//! Ids of containers and processes: chance keeps them apart.

use std::fmt::Write;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// 64 hexadecimal digits.
pub fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    // Up to 256 bytes come whole (getrandom(2)).
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |mut id, byte| {
        // Writing to a String does not fail.
        let _ = write!(id, "{byte:02x}");
        id
    }))
}

/// An id as people see it: its beginning.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
