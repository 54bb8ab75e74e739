//! How much a pod's interfaces may carry, by annotations of ours. Kubernetes' own (`kubernetes.io/egress-bandwidth`) are the
//! CNI plug-in bandwidth's, which limits on the host what our taps carry, too.

use sandbox::{NetworkRates, RateLimit, TokenBucket};

use crate::bundle::Bundle;
use crate::guest_spec::Refusal;

const EGRESS_BANDWIDTH: &str = "dev.bulkhead.network.egress-bandwidth";
const EGRESS_PACKETS: &str = "dev.bulkhead.network.egress-packets";
const INGRESS_BANDWIDTH: &str = "dev.bulkhead.network.ingress-bandwidth";
const INGRESS_PACKETS: &str = "dev.bulkhead.network.ingress-packets";

/// A part of what may go in a second may go at once.
const BURSTS_A_SECOND: u64 = 10;

/// The longest frame, with segmentation left to the device (virtio 1.3 §5.1.6.3.1): a smaller burst would only be waited for.
const LONGEST_FRAME: u64 = 65_562;

pub(crate) fn of(bundle: &Bundle) -> Result<NetworkRates, Refusal> {
    Ok(NetworkRates {
        egress: limit(bundle, EGRESS_BANDWIDTH, EGRESS_PACKETS)?,
        ingress: limit(bundle, INGRESS_BANDWIDTH, INGRESS_PACKETS)?,
    })
}

fn limit(
    bundle: &Bundle,
    bandwidth: &'static str,
    packets: &'static str,
) -> Result<Option<RateLimit>, Refusal> {
    let bits = rate(bundle, bandwidth)?;
    let bytes = bits.map(|bits| bucket((bits / 8).max(1), LONGEST_FRAME));
    let packets = rate(bundle, packets)?.map(|packets| bucket(packets, 1));
    Ok((bytes.is_some() || packets.is_some()).then_some(RateLimit { bytes, packets }))
}

fn bucket(refill: u64, least: u64) -> TokenBucket {
    TokenBucket { size: (refill / BURSTS_A_SECOND).max(least), refill }
}

/// So many a second, `k`, `M` and `G` behind a number being thousands of it, millions and so on.
fn rate(bundle: &Bundle, annotation: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(text) = bundle.annotation(annotation) else { return Ok(None) };
    let digits = text.trim_end_matches(['k', 'M', 'G']);
    let unit = match &text[digits.len()..] {
        "" => Some(1),
        "k" => Some(1_000),
        "M" => Some(1_000_000),
        "G" => Some(1_000_000_000),
        _ => None,
    };
    let rate = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    let refusal = || Refusal::Rate { annotation, text: text.to_owned() };
    rate.filter(|rate| *rate > 0).map(Some).ok_or_else(refusal)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn rates(annotations: &str) -> Result<NetworkRates, Refusal> {
        let config = format!(r#"{{"ociVersion":"1.2.0","annotations":{annotations}}}"#);
        of(&Bundle { path: PathBuf::new(), spec: serde_json::from_str(&config).unwrap() })
    }

    #[test]
    fn nobody_is_limited_unasked() {
        assert_eq!(rates("{}").unwrap(), NetworkRates::default());
    }

    #[test]
    fn each_direction_has_its_limits() {
        let asked = r#"{"dev.bulkhead.network.egress-bandwidth": "80M", "dev.bulkhead.network.ingress-packets": "5"}"#;
        let NetworkRates { egress, ingress } = rates(asked).unwrap();
        let bytes = Some(TokenBucket { size: 1_000_000, refill: 10_000_000 });
        assert_eq!(egress, Some(RateLimit { bytes, packets: None }));
        let packets = Some(TokenBucket { size: 1, refill: 5 });
        assert_eq!(ingress, Some(RateLimit { bytes: None, packets }));
    }

    #[test]
    fn a_burst_has_room_for_a_frame() {
        let egress = rates(r#"{"dev.bulkhead.network.egress-bandwidth": "8k"}"#).unwrap().egress;
        assert_eq!(egress.unwrap().bytes, Some(TokenBucket { size: LONGEST_FRAME, refill: 1000 }));
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        for text in ["", "0", "-1", "10MB", "Mk", "99999999999999999999", "99999999999G", "1.5M", "ä"] {
            let asked = format!(r#"{{"dev.bulkhead.network.egress-bandwidth": "{text}"}}"#);
            let refused = rates(&asked).unwrap_err().to_string();
            assert!(refused.contains("egress-bandwidth") && refused.contains(text), "{refused}");
        }
    }
}
