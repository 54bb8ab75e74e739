//! What containerd and a shim tell each other on `start`: how, depends on containerd's version.
//!
//! | containerd | on stdin | answer |
//! |---|---|---|
//! | 1.6 | the runtime's options, or nothing | the address |
//! | 1.7 to 2.2 | the same, with MAX_SHIM_VERSION in the environment | JSON, version 2: 1.7 knows no later |
//! | from 2.3 | BootstrapParams (bootstrap.proto) | JSON, version 3 |

use std::path::PathBuf;

use containerd_shim_protos::bootstrap_api::BootstrapParams;
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use serde::Serialize;

use crate::arguments::Arguments;
use crate::shim_cgroup;

/// Set by containerd from 1.7 on; to 2 by all of them.
pub(crate) const MAX_VERSION_VARIABLE: &str = "MAX_SHIM_VERSION";

/// The longest request that is read, in bytes.
pub(crate) const MAX_REQUEST: u64 = 1 << 20;

/// Which of the ways the containerd at hand has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    PlainAddress,
    /// With the version of the task API that it is to use.
    Json {
        version: u32,
    },
}

/// What a request says beyond the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) dialect: Dialect,
    /// Where the shim's socket is wanted.
    pub(crate) socket_directory: Option<PathBuf>,
    /// Where events are taken.
    pub(crate) ttrpc_address: Option<String>,
    /// Which cgroup the shim is wanted in.
    pub(crate) shim_cgroup: Option<PathBuf>,
}

/// In the order of containerd's own shims, whose answers are JSON that no protobuf parser takes for a message.
#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    address: &'a str,
    protocol: &'static str,
}

impl Request {
    pub(crate) fn parse(stdin: &[u8], arguments: &Arguments, max_version: Option<&str>) -> Self {
        match BootstrapParams::parse_from_bytes(stdin) {
            // Options are an Any, whose first two fields can look the same.
            Ok(params) if params.instance_id == arguments.id && params.namespace == arguments.namespace => {
                let mut options = params.extensions.iter().filter_map(|extension| extension.value.as_ref());
                Self {
                    dialect: Dialect::Json { version: 3 },
                    shim_cgroup: options.find_map(shim_cgroup::named),
                    socket_directory: params.socket_dir.filter(|path| !path.is_empty()).map(PathBuf::from),
                    ttrpc_address: Some(params.containerd_ttrpc_address).filter(|path| !path.is_empty()),
                }
            }
            _ => {
                let dialect = match max_version {
                    Some(_) => Dialect::Json { version: 2 },
                    None => Dialect::PlainAddress,
                };
                let options = Any::parse_from_bytes(stdin).ok();
                let shim_cgroup = options.as_ref().and_then(shim_cgroup::named);
                Self { dialect, socket_directory: None, ttrpc_address: None, shim_cgroup }
            }
        }
    }
}

impl Dialect {
    pub(crate) fn answer(self, address: &str) -> serde_json::Result<String> {
        match self {
            Self::PlainAddress => Ok(address.to_owned()),
            Self::Json { version } => serde_json::to_string(&Answer { version, address, protocol: "ttrpc" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::bootstrap_api::{BootstrapResult, Extension};

    use super::*;
    use crate::fields::message;

    const ADDRESS: &str =
        "unix:///run/containerd/s/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn arguments() -> Arguments {
        Arguments { namespace: "default".to_owned(), id: "c1".to_owned(), ..Arguments::default() }
    }

    fn answer(stdin: &[u8], max_version: Option<&str>) -> String {
        Request::parse(stdin, &arguments(), max_version).dialect.answer(ADDRESS).unwrap()
    }

    #[test]
    fn each_version_of_containerd_gets_the_answer_it_knows() {
        assert_eq!(answer(b"", None), ADDRESS);
        let json = |version| format!(r#"{{"version":{version},"address":"{ADDRESS}","protocol":"ttrpc"}}"#);
        assert_eq!(answer(b"", Some("2")), json(2));
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            namespace: "default".to_owned(),
            containerd_version: "2.3.0".to_owned(),
            ..Default::default()
        };
        assert_eq!(answer(&params.write_to_bytes().unwrap(), Some("2")), json(3));
    }

    #[test]
    fn options_are_not_taken_for_the_new_request() {
        let options = Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: b"default".to_vec(),
            ..Default::default()
        };
        let request = Request::parse(&options.write_to_bytes().unwrap(), &arguments(), Some("2"));
        assert_eq!(request.dialect, Dialect::Json { version: 2 });
    }

    #[test]
    fn a_cgroup_for_the_shim_is_among_options() {
        let value = message(|out| out.write_string(3, "/containerd/shim"));
        let options = Any { type_url: "containerd.runc.v1.Options".to_owned(), value, ..Default::default() };
        let extension = Extension { value: Some(options.clone()).into(), ..Default::default() };
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            namespace: "default".to_owned(),
            extensions: vec![extension],
            ..Default::default()
        };
        for stdin in [options.write_to_bytes().unwrap(), params.write_to_bytes().unwrap()] {
            let request = Request::parse(&stdin, &arguments(), Some("2"));
            assert_eq!(request.shim_cgroup, Some(PathBuf::from("/containerd/shim")));
        }
    }

    #[test]
    fn a_directory_for_the_socket_is_taken_up() {
        let params = BootstrapParams {
            instance_id: "c1".to_owned(),
            namespace: "default".to_owned(),
            containerd_ttrpc_address: "/run/c.ttrpc".to_owned(),
            socket_dir: Some("/run/s".to_owned()),
            ..Default::default()
        };
        let request = Request::parse(&params.write_to_bytes().unwrap(), &arguments(), None);
        assert_eq!(request.socket_directory, Some(PathBuf::from("/run/s")));
        assert_eq!(request.ttrpc_address.as_deref(), Some("/run/c.ttrpc"));
    }

    #[test]
    fn no_answer_can_be_read_as_the_protobuf_one() {
        // From 2.4 on, containerd tries that first.
        for answer in [answer(b"", None), answer(b"", Some("2"))] {
            assert!(BootstrapResult::parse_from_bytes(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
