//! `--add-host`: a line of /etc/hosts, `NAME:ADDRESS` or `NAME=ADDRESS`.

use std::net::IpAddr;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostEntry {
    pub name: String,
    pub address: IpAddr,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum HostEntryError {
    #[error("write a name and an address, such as db:10.0.0.7")]
    Malformed,
    #[error("not yet: host-gateway comes with networking")]
    HostGateway,
}

impl FromStr for HostEntry {
    type Err = HostEntryError;

    fn from_str(text: &str) -> Result<Self, HostEntryError> {
        // An address of IPv6 has colons itself, and may stand in brackets.
        let (name, address) = text.split_once(['=', ':']).ok_or(HostEntryError::Malformed)?;
        if address == "host-gateway" {
            return Err(HostEntryError::HostGateway);
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        match bare.parse() {
            Ok(address) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                Ok(Self { name: name.to_owned(), address })
            }
            _ => Err(HostEntryError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_and_both_kinds_of_address_are_taken() {
        for (text, address) in [
            ("db:10.0.0.7", "10.0.0.7"),
            ("db=10.0.0.7", "10.0.0.7"),
            ("db:::1", "::1"),
            ("db=[fe80::1]", "fe80::1"),
        ] {
            let entry: HostEntry = text.parse().unwrap();
            assert_eq!((entry.name.as_str(), entry.address.to_string().as_str()), ("db", address));
        }
        for text in ["db", "db:", ":10.0.0.7", "db:here", "a b:10.0.0.7"] {
            assert_eq!(text.parse::<HostEntry>(), Err(HostEntryError::Malformed), "{text}");
        }
        assert_eq!("me:host-gateway".parse::<HostEntry>(), Err(HostEntryError::HostGateway));
    }
}
