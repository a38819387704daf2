//! What the simulated mesh consists of: services, their endpoints, proxies, and who subscribes to what. Pure, and the same
//! for the same numbers.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use heddle_model::names::{Port, ServiceName, ServicePort};
use heddle_model::resource::ResourceKey;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

/// How large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// Connected at once.
    pub proxies: usize,
    /// Each with one port.
    pub services: usize,
    /// Each a pod of its own, behind one service.
    pub endpoints: usize,
    /// Destinations of each proxy.
    pub subscriptions: usize,
}

/// The mesh.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How large it is.
    pub scale: Scale,
    /// The first is the one that everybody calls, and has ten times as many endpoints as the others.
    pub services: Vec<Service>,
    /// Connected ones.
    pub proxies: Vec<Proxy>,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, and its service account's.
    pub name: String,
    /// Its virtual address.
    pub address: Ipv4Addr,
    /// What stands behind it. The last one's readiness is what changes.
    pub pods: Vec<Pod>,
    /// The proxies that are to be told of it.
    pub subscribers: BTreeSet<usize>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Of its own; on the loopback network if its proxy is connected.
    pub address: Ipv4Addr,
}

/// A connected proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// The service that its pod stands behind.
    pub service: usize,
    /// Its pod, among those of the service.
    pub pod: usize,
    /// The services that it calls.
    pub calls: BTreeSet<usize>,
}

impl Plan {
    /// Fails if the numbers make no mesh.
    pub fn new(scale: Scale) -> Result<Self> {
        let Scale { proxies, services, endpoints, subscriptions } = scale;
        ensure!(services >= 2, "at least two services are needed");
        ensure!(endpoints >= 2 * services, "at least two endpoints for each service are needed");
        ensure!(proxies >= 1 && proxies <= endpoints, "each proxy is an endpoint's");
        ensure!((1..=services).contains(&subscriptions), "a proxy calls one to all services");
        ensure!(endpoints <= ADDRESSES && services <= ADDRESSES, "at most {ADDRESSES} of each");
        let mut plan = Self { scale, services: services_of(scale), proxies: Vec::new() };
        let mut random = SmallRng::seed_from_u64(SEED);
        let places = places(&plan.services);
        for (number, (service, pod)) in places.into_iter().take(proxies).enumerate() {
            let calls = calls(scale, &mut random);
            for called in &calls {
                if let Some(called) = plan.services.get_mut(*called) {
                    called.subscribers.insert(number);
                }
            }
            let own = plan.services.get_mut(service).and_then(|own| own.pods.get_mut(pod));
            if let Some(own) = own {
                own.address = spread(CONNECTED, number);
            }
            plan.proxies.push(Proxy { service, pod, calls });
        }
        Ok(plan)
    }

    /// The pod of a connected proxy.
    pub fn pod(&self, proxy: &Proxy) -> Option<&Pod> {
        self.services.get(proxy.service)?.pods.get(proxy.pod)
    }

    /// The services whose endpoints change, one after the other and then again: first the one that everybody calls, then
    /// ever less wanted ones.
    pub fn changing(&self) -> Vec<usize> {
        let mut ranks: Vec<usize> = (0..CHANGING)
            .map(|step| (self.services.len() - 1) * step * step / (CHANGING - 1).pow(2))
            .collect();
        ranks.dedup();
        ranks.retain(|rank| self.services.get(*rank).is_some_and(|it| !it.subscribers.is_empty()));
        ranks
    }
}

impl Service {
    /// Where it is called.
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::from((self.address, PORT))
    }

    /// What proxies are told when its endpoints change.
    pub fn endpoints_key(&self) -> Option<ResourceKey> {
        let service = ServiceName { namespace: NAMESPACE.to_owned(), name: self.name.clone() };
        Some(ResourceKey::Endpoints(ServicePort { service, port: Port::new(PORT)? }))
    }
}

fn services_of(scale: Scale) -> Vec<Service> {
    let Scale { services, endpoints, .. } = scale;
    let each = endpoints / services;
    let first = (each * LARGE_FACTOR).min(endpoints - 2 * (services - 1));
    let rest = endpoints - first;
    let mut number = 0;
    let mut service = |index: usize| {
        let count = match index {
            0 => first,
            _ => rest / (services - 1) + usize::from(index <= rest % (services - 1)),
        };
        let name = format!("service-{index:04}");
        let pods = (0..count).map(|place| {
            let pod = Pod {
                name: format!("{name}-{place}"),
                uid: format!("{number:08x}-0000-4000-8000-{number:012x}"),
                address: spread(OTHERS, number),
            };
            number += 1;
            pod
        });
        let pods = pods.collect();
        Service { address: spread(VIRTUAL, index), pods, name, subscribers: BTreeSet::new() }
    };
    (0..services).map(&mut service).collect()
}

/// Pods in the order in which they get proxies: one of each service, then the next.
fn places(services: &[Service]) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> = services
        .iter()
        .enumerate()
        .flat_map(|(index, service)| (0..service.pods.len()).map(move |pod| (index, pod)))
        .collect();
    places.sort_by_key(|(service, pod)| (*pod, *service));
    places
}

/// The first service and others, the first ones more often than the last: few services are called by many.
fn calls(scale: Scale, random: &mut SmallRng) -> BTreeSet<usize> {
    let mut calls = BTreeSet::from([0]);
    while calls.len() < scale.subscriptions {
        let (high, other) = (scale.services, scale.services);
        // The lesser of two in a row: half of all calls go to the first three tenths.
        calls.insert(random.random_range(0..high).min(random.random_range(0..other)));
    }
    calls
}

fn spread([first, second]: [u8; 2], number: usize) -> Ipv4Addr {
    let byte = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    Ipv4Addr::new(first, second, byte(number / 250), byte(number % 250 + 1))
}

/// Of everything.
pub const NAMESPACE: &str = "bench";
/// Of every service.
pub const PORT: u16 = 80;
/// Of every pod.
pub const POD_PORT: u16 = 8080;
/// The network of pods with a connected proxy: where they call from.
const CONNECTED: [u8; 2] = [127, 77];
const OTHERS: [u8; 2] = [10, 77];
const VIRTUAL: [u8; 2] = [10, 96];
/// As many as `spread` tells apart.
const ADDRESSES: usize = 62_500;
const LARGE_FACTOR: usize = 10;
const CHANGING: usize = 20;
const SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Scale =
        Scale { proxies: 1000, services: 1000, endpoints: 10_000, subscriptions: 20 };

    #[test]
    fn the_mesh_is_as_large_as_it_was_asked_for() {
        let small = Scale { proxies: 50, services: 50, endpoints: 500, subscriptions: 10 };
        let tiny = Scale { proxies: 4, services: 2, endpoints: 4, subscriptions: 2 };
        for scale in [FULL, small, tiny] {
            let plan = Plan::new(scale).unwrap();
            let pods = || plan.services.iter().flat_map(|service| &service.pods);
            assert_eq!((plan.proxies.len(), pods().count()), (scale.proxies, scale.endpoints));
            let addresses: BTreeSet<_> = pods().map(|pod| pod.address).collect();
            assert_eq!(addresses.len(), scale.endpoints, "each has its own");
            let connected = pods().filter(|pod| pod.address.is_loopback()).count();
            assert_eq!(connected, scale.proxies);
            assert!(plan.proxies.iter().all(|proxy| proxy.calls.len() == scale.subscriptions));
            assert_eq!(plan.services[0].subscribers.len(), scale.proxies);
            assert!(!plan.changing().is_empty());
        }
    }

    #[test]
    fn some_services_have_many_subscribers_and_some_have_few() {
        let plan = Plan::new(FULL).unwrap();
        let subscribers = |rank: usize| plan.services[rank].subscribers.len();
        let first: usize = (1..100).map(subscribers).sum();
        let last: usize = (900..999).map(subscribers).sum();
        assert!(first > 5 * last, "{first} and {last}");
        assert_eq!(plan.services[0].pods.len(), 10 * plan.services[1].pods.len());
    }

    #[test]
    fn what_makes_no_mesh_is_refused() {
        for (case, scale) in [
            ("no service", Scale { services: 0, ..FULL }),
            ("few endpoints", Scale { endpoints: 1999, ..FULL }),
            ("no proxy", Scale { proxies: 0, ..FULL }),
            ("more proxies than pods", Scale { proxies: 10_001, ..FULL }),
            ("more calls than services", Scale { subscriptions: 1001, ..FULL }),
        ] {
            assert!(Plan::new(scale).is_err(), "case: {case}");
        }
    }
}
