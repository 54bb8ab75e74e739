//! Files a container finds in /etc that are about the machine it runs on, as Docker writes them.

use containers::FileInEtc;

use crate::args::HostEntry;

/// Without a network, there is nobody to ask for names.
const RESOLV_CONF: &str = "# This sandbox has no network.\n";

pub(crate) fn files(hostname: &str, added: &[HostEntry]) -> Vec<FileInEtc> {
    let mut hosts = format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         127.0.1.1\t{hostname}\n"
    );
    for HostEntry { name, address } in added {
        hosts.push_str(&format!("{address}\t{name}\n"));
    }
    let file = |destination: &str, content: String| FileInEtc {
        destination: destination.to_owned(),
        content,
        mode: 0o644,
    };
    vec![
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/hosts", hosts),
        file("/etc/resolv.conf", RESOLV_CONF.to_owned()),
    ]
}
