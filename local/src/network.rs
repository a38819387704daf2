//! The bridge, and a cable from it into each workload's network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, RawFd};

use futures_util::TryStreamExt as _;
use heddle_runtime::tasks::Tasks;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use crate::manifests::addresses::{
    Addresses, Families, PODS_V4_PREFIX_BITS, PODS_V6_PREFIX_BITS, SERVICES_V4,
    SERVICES_V4_PREFIX_BITS, SERVICES_V6, SERVICES_V6_PREFIX_BITS,
};

/// The bridge that all workloads are connected to.
#[derive(Clone, Debug)]
pub struct Bridge {
    handle: Handle,
    index: u32,
    families: Families,
}

/// What stands at the virtual addresses of services, seen from a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtualAddresses {
    /// The proxy beside it takes every connection on its way out.
    TakenByProxy,
    /// Nobody: connections fail at once instead of waiting for an answer.
    Unreachable,
}

impl Bridge {
    /// Makes the bridge in the network namespace of the current thread.
    pub async fn create(families: Families, tasks: &Tasks) -> Result<Self, NetworkError> {
        let handle = connect(tasks)?;
        up(&handle, LOOPBACK).await?;
        let message = LinkBridge::new(BRIDGE).address(BRIDGE_ADDRESS.to_vec()).up().build();
        handle.link().add(message).execute().await.map_err(failed("make the bridge"))?;
        let index = index(&handle, BRIDGE).await?;
        let bridge = Self { handle, index, families };
        bridge.add_addresses(&bridge.handle, index, Addresses::of_bridge(families)).await?;
        Ok(bridge)
    }

    /// Connects the network namespace of the current thread, which has this number and these addresses.
    pub async fn connect(
        &self,
        number: u32,
        addresses: Addresses,
        virtual_addresses: VirtualAddresses,
        tasks: &Tasks,
    ) -> Result<(), NetworkError> {
        let namespace = std::fs::File::open("/proc/thread-self/ns/net")
            .map_err(|source| NetworkError::Socket { source })?;
        self.lay_cable(number, namespace.as_raw_fd()).await?;
        let inside = connect(tasks)?;
        up(&inside, LOOPBACK).await?;
        up(&inside, DEVICE).await?;
        let device = index(&inside, DEVICE).await?;
        self.add_addresses(&inside, device, addresses).await?;
        self.add_routes(&inside, device).await?;
        match virtual_addresses {
            VirtualAddresses::TakenByProxy => Ok(()),
            VirtualAddresses::Unreachable => self.refuse_services(&inside).await,
        }
    }

    async fn lay_cable(&self, number: u32, namespace: RawFd) -> Result<(), NetworkError> {
        let peer =
            LinkMessageBuilder::<LinkUnspec>::new().name(DEVICE).setns_by_fd(namespace).build();
        let message = LinkVeth::new(&format!("pod{number}"), DEVICE)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .controller(self.index)
            .up()
            .build();
        self.handle.link().add(message).execute().await.map_err(failed("connect to the bridge"))
    }

    async fn add_addresses(
        &self,
        handle: &Handle,
        device: u32,
        addresses: Addresses,
    ) -> Result<(), NetworkError> {
        for address in addresses.all() {
            let prefix_bits = match address {
                IpAddr::V4(_) => PODS_V4_PREFIX_BITS,
                IpAddr::V6(_) => PODS_V6_PREFIX_BITS,
            };
            let mut request = handle.address().add(device, address, prefix_bits);
            if address.is_ipv6() {
                let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                request.message_mut().attributes.push(flags);
            }
            request.execute().await.map_err(failed("add an address"))?;
        }
        Ok(())
    }

    /// Everything that is not on this network goes to the bridge, which forwards nothing: the redirect only takes
    /// connections for which there is a route.
    async fn add_routes(&self, handle: &Handle, device: u32) -> Result<(), NetworkError> {
        let gateway = Addresses::of_bridge(self.families);
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway.v4)
            .output_interface(device)
            .build();
        handle.route().add(route).execute().await.map_err(failed("add a route"))?;
        if let Some(gateway) = gateway.v6 {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .gateway(gateway)
                .output_interface(device)
                .build();
            handle.route().add(route).execute().await.map_err(failed("add an IPv6 route"))?;
        }
        Ok(())
    }

    async fn refuse_services(&self, handle: &Handle) -> Result<(), NetworkError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(SERVICES_V4, SERVICES_V4_PREFIX_BITS)
            .kind(RouteType::Unreachable)
            .build();
        handle.route().add(route).execute().await.map_err(failed("refuse services"))?;
        if self.families == Families::V4AndV6 {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(SERVICES_V6, SERVICES_V6_PREFIX_BITS)
                .kind(RouteType::Unreachable)
                .build();
            handle.route().add(route).execute().await.map_err(failed("refuse IPv6 services"))?;
        }
        Ok(())
    }
}

/// A netlink socket of the network namespace that the current thread is in, and stays of it.
fn connect(tasks: &Tasks) -> Result<Handle, NetworkError> {
    let (connection, handle, _broadcasts) =
        rtnetlink::new_connection().map_err(|source| NetworkError::Socket { source })?;
    tasks.spawn("local.netlink", connection);
    Ok(handle)
}

async fn up(handle: &Handle, name: &str) -> Result<(), NetworkError> {
    let message = LinkUnspec::new_with_index(index(handle, name).await?).up().build();
    handle.link().set(message).execute().await.map_err(failed("switch a device on"))
}

async fn index(handle: &Handle, name: &str) -> Result<u32, NetworkError> {
    let mut links = handle.link().get().match_name(name).execute();
    let link = links.try_next().await.map_err(failed("find a device"))?;
    link.map(|link| link.header.index).ok_or_else(|| NetworkError::NoDevice(name.to_owned()))
}

fn failed(attempted: &'static str) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    move |source| NetworkError::Refused { attempted, source }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no netlink socket.
    #[error("cannot talk to the kernel's network")]
    Socket {
        /// Why.
        source: io::Error,
    },
    /// The kernel refused something.
    #[error("cannot {attempted}")]
    Refused {
        /// What.
        attempted: &'static str,
        /// Why.
        source: rtnetlink::Error,
    },
    /// A device that should be there is not.
    #[error("there is no device {0}")]
    NoDevice(String),
}

/// The bridge's device.
pub const BRIDGE: &str = "heddle0";
/// The link-layer address of the bridge, of those that anybody may assign. A bridge without one of its own takes the
/// lowest of its cables' addresses, so that a workload that comes may change it: the others then send to an address
/// that is no longer there, until their neighbour entries are doubted, for seven seconds.
const BRIDGE_ADDRESS: [u8; 6] = [0x02, 0x68, 0x65, 0x64, 0x64, 0x01];
/// The device of every workload.
pub const DEVICE: &str = "eth0";
const LOOPBACK: &str = "lo";
