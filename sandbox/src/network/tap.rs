//! A tap beside an interface, with all packets crossing between the two: what comes in at one goes out at the other, before
//! the namespace's own stack sees it (tc-mirred(8)).

use std::io;

use futures_util::TryStreamExt;
use host_calls::Tap;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use netlink_packet_route::tc::TcHandle;
use rtnetlink::{Handle, LinkUnspec};

use super::NetworkError;
use super::pod::PodInterface;

/// How ours are called. They go with the VMM.
const PATTERN: &str = "tap%d_bh";

/// All protocols (Linux include/uapi/linux/if_ether.h, ETH_P_ALL).
const ETH_P_ALL: u16 = 3;

/// Where filters of the ingress qdisc hang (tc(8): `ffff:`).
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0 };

const REDIRECT: &str = "redirect an interface's packets";

pub(super) fn is_ours(interface: &str) -> bool {
    interface.starts_with("tap") && interface.ends_with("_bh")
}

/// Makes one with so many queues, in the namespace that the thread and the handle are of.
pub(super) async fn beside(
    netlink: &Handle,
    interface: &PodInterface,
    queues: u8,
) -> Result<Tap, NetworkError> {
    let failed = |source| NetworkError::Tap { interface: interface.told.name.clone(), source };
    let tap = Tap::new(PATTERN, queues).map_err(failed)?;
    let index = index_of(netlink, &tap.name).await?;
    // The namespace's kernel is to say nothing on it by itself.
    let silent = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])]);
    let mute = LinkUnspec::new_with_index(index).append_extra_attribute(silent).build();
    // Without IPv6, it does not.
    let _ = netlink.link().set(mute).execute().await;
    let up = LinkUnspec::new_with_index(index).mtu(interface.told.mtu).up().build();
    netlink.link().set(up).execute().await.map_err(|source| netlink_failed("set up a tap", source))?;
    redirect(netlink, interface.index, index).await?;
    redirect(netlink, index, interface.index).await?;
    Ok(tap)
}

async fn redirect(netlink: &Handle, from: u32, to: u32) -> Result<(), NetworkError> {
    let from = i32::try_from(from).map_err(|_| netlink_failed(REDIRECT, rtnetlink::Error::RequestFailed))?;
    let mut left = netlink.qdisc().del(from);
    left.message_mut().header.parent = TcHandle::INGRESS;
    // What a sandbox before this one left; most often there is nothing.
    let _ = left.execute().await;
    let failed = |source| netlink_failed(REDIRECT, source);
    netlink.qdisc().add(from).ingress().execute().await.map_err(failed)?;
    let mut filters = netlink.traffic_filter(from);
    let filter = filters.add().parent(INGRESS.into()).priority(1).protocol(ETH_P_ALL.to_be());
    filter.redirect(to).map_err(failed)?.execute().await.map_err(failed)
}

async fn index_of(netlink: &Handle, name: &str) -> Result<u32, NetworkError> {
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    let found = links.try_next().await.map_err(|source| netlink_failed("find a tap", source))?;
    let found = found.ok_or_else(|| NetworkError::Tap {
        interface: name.to_owned(),
        source: io::Error::from(io::ErrorKind::NotFound),
    })?;
    Ok(found.header.index)
}

fn netlink_failed(doing: &'static str, source: rtnetlink::Error) -> NetworkError {
    NetworkError::Netlink { doing, source }
}
