//! HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as Docker's own client reads them; lower case, too.

use std::fmt;
use std::net::IpAddr;

use ureq::ProxyProtocol;
use ureq::http::uri::Scheme;

use super::configuration::ConfigurationError;
use super::endpoint;

/// The proxies there are, and for whom they are not.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<String>,
    http: Option<String>,
    none_for: Vec<Exception>,
}

/// An entry of NO_PROXY.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// A network: its address, and how many bits of it count.
    Network(IpAddr, u8),
    /// A domain without a leading dot, whether it is meant itself besides what is below it, and a port.
    Domain {
        domain: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// What the environment says.
    pub fn from_environment() -> Proxies {
        Proxies::read(|name| std::env::var(name).ok())
    }

    /// What these variables say.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| {
            let found = variable(name).filter(|value| !value.is_empty());
            found.or_else(|| variable(&name.to_ascii_lowercase()).filter(|value| !value.is_empty()))
        };
        let none_for = either("NO_PROXY").unwrap_or_default();
        let none_for = none_for.split(',').filter_map(Exception::read).collect();
        Proxies { https: either("HTTPS_PROXY"), http: either("HTTP_PROXY"), none_for }
    }

    /// The proxy to reach this host (`HOST[:PORT]`) by, if any.
    pub(super) fn find(
        &self,
        scheme: &Scheme,
        host: &str,
    ) -> Result<Option<ureq::Proxy>, ConfigurationError> {
        let is_https = *scheme == Scheme::HTTPS;
        let (proxy, variable) =
            if is_https { (&self.https, "HTTPS_PROXY") } else { (&self.http, "HTTP_PROXY") };
        let Some(proxy) = proxy else { return Ok(None) };
        if endpoint::is_loopback(host) || self.is_excepted(host, if is_https { 443 } else { 80 }) {
            return Ok(None);
        }
        // ureq panics on what it was not built for.
        let usable = ureq::Proxy::new(proxy)
            .ok()
            .filter(|proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https));
        usable.map(Some).ok_or(ConfigurationError::Proxy { variable })
    }

    fn is_excepted(&self, host: &str, default_port: u16) -> bool {
        let (bare, port) = match host.rsplit_once(':').filter(|_| !host.ends_with(']')) {
            Some((bare, port)) => (bare, port.parse().unwrap_or(default_port)),
            None => (host, default_port),
        };
        let bare = bare.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        self.none_for.iter().any(|exception| exception.matches(&bare, port))
    }
}

impl Exception {
    fn read(text: &str) -> Option<Exception> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Exception::All);
        }
        let (address, bits) =
            text.split_once('/').map_or((&*text, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(all), |bits| bits.parse().ok().filter(|bits| *bits <= all))?;
            return Some(Exception::Network(address, bits));
        }
        let (domain, port) = match text.rsplit_once(':') {
            Some((domain, port)) => (domain, Some(port.parse().ok()?)),
            None => (&*text, None),
        };
        let below = domain.strip_prefix("*.").or_else(|| domain.strip_prefix('.'));
        let domain = below.unwrap_or(domain).to_owned();
        (!domain.is_empty()).then_some(Exception::Domain { domain, itself: below.is_none(), port })
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        match self {
            Exception::All => true,
            Exception::Network(network, bits) => {
                host.parse::<IpAddr>().is_ok_and(|address| same_network(address, *network, *bits))
            }
            Exception::Domain { domain, itself, port: only } => {
                let below = host.strip_suffix(&**domain).is_some_and(|rest| rest.ends_with('.'));
                only.is_none_or(|only| only == port) && (below || *itself && host == domain)
            }
        }
    }
}

/// Whether the first `bits` of both addresses are the same.
fn same_network(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differing = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => u128::from(one.to_bits() ^ other.to_bits()) << 96,
        (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
        _ => return false,
    };
    differing.leading_zeros() >= u32::from(bits)
}

/// A proxy's address may have a password in it.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Proxies");
        shown.field("https", &self.https.is_some()).field("http", &self.http.is_some());
        shown.field("none_for", &self.none_for).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Proxies::read(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn found(proxies: &Proxies, scheme: &Scheme, host: &str) -> Option<String> {
        proxies.find(scheme, host).unwrap().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn each_scheme_has_its_own_and_this_machine_none() {
        let both = proxies(&[("HTTPS_PROXY", "http://secure:3128"), ("http_proxy", "plain:8080")]);
        assert_eq!(found(&both, &Scheme::HTTPS, "r.example").as_deref(), Some("secure:3128"));
        assert_eq!(found(&both, &Scheme::HTTP, "r.example:5000").as_deref(), Some("plain:8080"));
        assert_eq!(found(&both, &Scheme::HTTP, "localhost:5000"), None);
        assert_eq!(found(&proxies(&[]), &Scheme::HTTPS, "r.example"), None);
    }

    #[test]
    fn exceptions_are_hosts_domains_networks_and_ports() {
        let listed = "a.example, .b.example,*.c.example,10.0.0.0/8,fd00::/8,192.168.1.7,d.example:5000,,/,";
        let some = proxies(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", listed)]);
        for direct in [
            "a.example",
            "A.Example:5000",
            "x.a.example",
            "x.b.example",
            "x.c.example:1",
            "10.9.8.7",
            "[fd12::1]:5000",
            "192.168.1.7:443",
            "d.example:5000",
        ] {
            assert_eq!(found(&some, &Scheme::HTTPS, direct), None, "{direct}");
        }
        for proxied in ["ba.example", "b.example", "11.0.0.1", "192.168.1.8", "d.example", "[fe80::1]"] {
            assert!(found(&some, &Scheme::HTTPS, proxied).is_some(), "{proxied}");
        }
        let all = proxies(&[("HTTPS_PROXY", "http://p:1"), ("no_proxy", "*")]);
        assert_eq!(found(&all, &Scheme::HTTPS, "r.example"), None);
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_password() {
        for wrong in ["socks5://u:hunter2@p:1", "ftp://u:hunter2@p", "::::"] {
            let error = proxies(&[("HTTPS_PROXY", wrong)]).find(&Scheme::HTTPS, "r.example").unwrap_err();
            assert!(error.to_string().contains("HTTPS_PROXY") && !error.to_string().contains("hunter2"));
        }
        let proxies = proxies(&[("HTTPS_PROXY", "http://u:hunter2@p:1")]);
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }
}
