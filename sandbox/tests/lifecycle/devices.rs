//! What a sandbox is given while it runs: trees of files, disks, a network. What takes root is not tested without it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use futures_util::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sandbox::{
    Access, Cache, DiskError, NetworkConfig, NetworkNamespace, NetworkRates, Sandbox, SandboxConfig,
    ServerError, ShareError, SharedTree, Timeline, VmmError,
};

use crate::fake::{self, Host};
use crate::file_server;

async fn launch(host: &Host, config: SandboxConfig) -> Sandbox {
    let installation = host.installation(fake::WELL);
    Sandbox::launch(&installation, &host.state(), config, &Timeline::default()).await.unwrap()
}

fn tree(host: &Host) -> Option<SharedTree> {
    SharedTree::of_path(&host.root, Access::ReadOnly, false, Cache::Shared).ok()
}

#[tokio::test]
async fn trees_come_and_go_and_the_server_goes_with_the_sandbox() {
    let host = Host::new();
    file_server::install(&host);
    let (Some(one), Some(two)) = (tree(&host), tree(&host)) else { return };
    let sandbox = launch(&host, SandboxConfig { shares: true, ..host.config("sharer") }).await;
    let one = sandbox.share(one).await.unwrap();
    let two = sandbox.share(two).await.unwrap();
    assert_eq!((one.name(), two.name()), ("1", "2"));
    assert_eq!(two.guest_path(), "/run/bulkhead/shares/2");
    sandbox.unshare(one.clone()).await.unwrap();
    let refused = sandbox.unshare(one).await.unwrap_err();
    assert!(refused.to_string().ends_with("the shares are {\"2\"}"), "{refused}");
    let server = sandbox.record().file_server.unwrap();
    sandbox.stop().await;
    assert!(!crate::is_running(server.pid));
}

#[tokio::test]
async fn a_file_server_that_died_is_told_with_what_it_said() {
    let host = Host::new();
    file_server::install(&host);
    let (Some(one), Some(two)) = (tree(&host), tree(&host)) else { return };
    let sandbox = launch(&host, SandboxConfig { shares: true, ..host.config("sharer") }).await;
    sandbox.share(one).await.unwrap();
    let server = i32::try_from(sandbox.record().file_server.unwrap().pid).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let lost = sandbox.share(two).await.unwrap_err();
    assert!(
        matches!(lost, ShareError::Server(ServerError::Send(_) | ServerError::Receive { .. })),
        "{lost:?}"
    );
    sandbox.stop().await;
}

#[tokio::test]
async fn a_sandbox_that_was_to_share_nothing_has_no_server() {
    let host = Host::new();
    let sandbox = launch(&host, host.config("alone")).await;
    assert_eq!(sandbox.record().file_server, None);
    let Some(tree) = tree(&host) else { return };
    assert!(matches!(sandbox.share(tree).await, Err(ShareError::NotWanted)));
}

#[tokio::test]
async fn a_disk_is_the_guests_until_it_is_taken_back() {
    let host = Host::new();
    let sandbox = launch(&host, host.config("disks")).await;
    let file = || vec![File::open("/dev/null").unwrap()];
    let one = sandbox.add_disk(file(), true).await.unwrap();
    let two = sandbox.add_disk(file(), false).await.unwrap();
    assert_ne!(one.serial(), two.serial());
    sandbox.remove_disk(one.clone()).await.unwrap();
    assert!(matches!(sandbox.remove_disk(one).await, Err(DiskError::Vmm(VmmError::Refused(_)))));
}

#[tokio::test]
async fn resources_are_changed_by_the_agent() {
    let host = Host::new();
    let sandbox = launch(&host, host.config("changed")).await;
    let resources = oci_spec::runtime::LinuxResources::default();
    sandbox.guest().update("c", &resources).await.unwrap();
}

#[tokio::test]
async fn without_a_network_of_its_own_a_guest_has_its_loopback_alone() {
    let host = Host::new();
    let sandbox = launch(&host, host.config("lonely")).await;
    sandbox.take_network(false).await.unwrap();
    assert_eq!(networks(sandbox).await, [""]);
}

#[tokio::test]
async fn the_guest_has_the_interfaces_that_the_namespace_has() {
    let Ok(namespace) = NetworkNamespace::create() else { return };
    let host = Host::new();
    let network = Some(unlimited(namespace.try_clone().unwrap()));
    let sandbox = launch(&host, SandboxConfig { network, ..host.config("pod") }).await;
    let home = std::fs::metadata(format!("/proc/{}/ns/net", sandbox.vmm_pid())).unwrap();
    let wanted = rustix::fs::fstat(&namespace).unwrap();
    assert_eq!((home.dev(), home.ino()), (wanted.st_dev, wanted.st_ino));

    let change = |change: Change| within(&namespace, change);
    change(Change::Add("eth0"));
    sandbox.take_network(false).await.unwrap();
    change(Change::Add("eth1"));
    sandbox.take_network(false).await.unwrap();
    // Docker removes one and connects another.
    change(Change::Remove("eth0"));
    sandbox.take_network(false).await.unwrap();
    change(Change::Add("eth2"));
    sandbox.take_network(true).await.unwrap();
    let told = ["eth0=net0", "eth0=net0 eth1=net1", "eth1=net1", "eth1=net1 eth2=net0 +names"];
    assert_eq!(networks(sandbox).await, told);
}

fn unlimited(namespace: NetworkNamespace) -> NetworkConfig {
    NetworkConfig { namespace, rates: NetworkRates::default() }
}

#[tokio::test]
async fn a_hosts_own_network_is_no_guests() {
    let host = Host::new();
    let own = NetworkNamespace::open("/proc/self/ns/net".as_ref()).unwrap();
    // Entering it takes root, though this process is in it.
    let config = SandboxConfig { network: Some(unlimited(own)), ..host.config("of-host") };
    let installation = host.installation(fake::WELL);
    let launched = Sandbox::launch(&installation, &host.state(), config, &Timeline::default()).await;
    let Ok(sandbox) = launched else { return };
    let refused = sandbox.take_network(false).await.unwrap_err();
    assert!(refused.to_string().contains("this host's own"), "{refused}");
}

/// What the agent was told of networks, one after the other.
async fn networks(sandbox: Sandbox) -> Vec<String> {
    let ended = sandbox.stop().await;
    let told = ended.diagnostics.lines().filter_map(|line| line.strip_prefix("network:"));
    told.map(|network| network.trim().to_owned()).collect()
}

#[derive(Clone, Copy)]
enum Change {
    Add(&'static str),
    Remove(&'static str),
}

fn within(namespace: &NetworkNamespace, change: Change) {
    thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::fd::AsFd;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (connection, netlink, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                match change {
                    Change::Add(name) => add(&netlink, name).await,
                    Change::Remove(name) => {
                        let index = index(&netlink, name).await;
                        netlink.link().del(index).execute().await.unwrap();
                    }
                }
            });
        });
    });
}

/// A pair of which the far end, which is a host's as a rule, stays down.
async fn add(netlink: &Handle, name: &str) {
    netlink.link().add(LinkVeth::new(name, &format!("{name}-far")).build()).execute().await.unwrap();
    let up = LinkUnspec::new_with_index(index(netlink, name).await).up().build();
    netlink.link().set(up).execute().await.unwrap();
}

async fn index(netlink: &Handle, name: &str) -> u32 {
    let found = netlink.link().get().match_name(name.to_owned()).execute().try_next().await;
    found.unwrap().unwrap().header.index
}

#[tokio::test]
async fn a_sandbox_is_in_a_cgroup_of_its_own_below_the_one_of_its_pod() {
    let host = Host::new();
    file_server::install(&host);
    let pod = format!("/bulkhead-test-{}", std::process::id());
    let config = SandboxConfig {
        cgroup_parent: Some(PathBuf::from(&pod).join("burstable")),
        shares: true,
        ..host.config("limited")
    };
    let sandbox = launch(&host, config).await;
    let Some(cgroup) = sandbox.record().cgroup.clone() else { return };
    assert!(cgroup.ends_with(format!("{}/burstable/limited0123", &pod[1..])), "{}", cgroup.display());
    for process in [sandbox.vmm_pid(), sandbox.record().file_server.unwrap().pid] {
        let its = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
        assert!(its.lines().any(|line| line.ends_with("/burstable/limited0123")), "{its}");
    }
    sandbox.stop().await;
    let pod = Path::new("/sys/fs/cgroup").join(&pod[1..]);
    std::fs::remove_dir(pod.join("burstable")).unwrap();
    std::fs::remove_dir(pod).unwrap();
}
