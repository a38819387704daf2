//! What a name stands for. Source: "Kubernetes DNS-Based Service Discovery", version 1.1.0, sections 2.3 to 2.5; names of
//! pods' addresses as CoreDNS has them.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::message::{Data, Kind, Question, Record};
use crate::addresses::DOMAIN;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// These records; none where the name has records of other kinds only.
    Records(Vec<Record>),
    /// There is no such name.
    NoSuchName,
}

/// A service, as far as names are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// What its name stands for.
    pub stands_for: StandsFor,
    /// Its ports.
    pub ports: Vec<PortView>,
}

/// What a service's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandsFor {
    /// Addresses of its own.
    Addresses(Vec<IpAddr>),
    /// The endpoints behind it.
    Endpoints(Vec<EndpointView>),
    /// Another name.
    Name(String),
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its name.
    pub name: String,
    /// Its protocol, in small letters.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// An endpoint of a service without addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Where it is.
    pub address: IpAddr,
    /// Its name below that of the service.
    pub host_name: String,
}

impl ServiceView {
    /// Of a service and all slices that there are.
    pub fn new<'a>(service: &Service, slices: impl Iterator<Item = &'a EndpointSlice>) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default().into_iter().map(|port| PortView {
            name: port.name.unwrap_or_default(),
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()).to_ascii_lowercase(),
            port: u16::try_from(port.port).unwrap_or_default(),
        });
        let addresses = spec.cluster_ips.unwrap_or_default();
        let stands_for = if let Some(name) = spec.external_name {
            StandsFor::Name(name)
        } else if addresses.iter().any(|address| address == "None") {
            let ours = slices.filter(|slice| is_of(slice, service));
            StandsFor::Endpoints(ours.flat_map(endpoints).collect())
        } else {
            StandsFor::Addresses(addresses.iter().filter_map(|text| text.parse().ok()).collect())
        };
        Self { stands_for, ports: ports.collect() }
    }
}

fn is_of(slice: &EndpointSlice, service: &Service) -> bool {
    let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
    label == service.metadata.name.as_ref()
        && slice.metadata.namespace == service.metadata.namespace
}

fn endpoints(slice: &EndpointSlice) -> impl Iterator<Item = EndpointView> {
    let ready = slice.endpoints.iter().filter(|endpoint| {
        endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true))
    });
    ready.flat_map(|endpoint| {
        endpoint.addresses.iter().filter_map(|text| text.parse().ok()).map(|address: IpAddr| {
            let dashed = address.to_string().replace(['.', ':'], "-");
            EndpointView { address, host_name: endpoint.hostname.clone().unwrap_or(dashed) }
        })
    })
}

/// Answers a question; `find` knows the services by namespace and name.
pub fn resolve(question: &Question, find: impl Fn(&str, &str) -> Option<ServiceView>) -> Outcome {
    let name = question.name.to_ascii_lowercase();
    let Some(inside) = name.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('.')) else {
        return Outcome::NoSuchName;
    };
    let labels: Vec<&str> = inside.split('.').collect();
    match labels.as_slice() {
        // The names in between exist, and have no records.
        ["svc" | "pod"] | [_, "svc"] => Outcome::Records(Vec::new()),
        [address, _, "pod"] => of_pod(question, address),
        [service, namespace, "svc"] => match find(namespace, service) {
            Some(service) => of_service(question, &service, &name),
            None => Outcome::NoSuchName,
        },
        [host, service, namespace, "svc"] => match find(namespace, service) {
            Some(service) => of_host(question, &service, host),
            None => Outcome::NoSuchName,
        },
        [port, protocol, service, namespace, "svc"] => match find(namespace, service) {
            Some(found) => {
                let base = format!("{service}.{namespace}.svc.{DOMAIN}");
                of_port(question, &found, (port, protocol), &base)
            }
            None => Outcome::NoSuchName,
        },
        _ => Outcome::NoSuchName,
    }
}

fn of_pod(question: &Question, dashed: &str) -> Outcome {
    match dashed.replace('-', ".").parse::<Ipv4Addr>() {
        Ok(address) => Outcome::Records(addresses(question, [IpAddr::from(address)])),
        Err(_) => Outcome::NoSuchName,
    }
}

fn of_service(question: &Question, service: &ServiceView, name: &str) -> Outcome {
    match &service.stands_for {
        StandsFor::Name(other) => Outcome::Records(vec![Record::new(Data::Name(other.clone()))]),
        StandsFor::Addresses(_) | StandsFor::Endpoints(_) if question.kind == Kind::Service => {
            Outcome::Records(
                service.ports.iter().flat_map(|port| located(service, port, name)).collect(),
            )
        }
        StandsFor::Addresses(all) => Outcome::Records(addresses(question, all.iter().copied())),
        // One without an endpoint has no name, so that whoever waits for it asks again.
        StandsFor::Endpoints(all) if all.is_empty() => Outcome::NoSuchName,
        StandsFor::Endpoints(all) => {
            Outcome::Records(addresses(question, all.iter().map(|endpoint| endpoint.address)))
        }
    }
}

fn of_host(question: &Question, service: &ServiceView, host: &str) -> Outcome {
    let StandsFor::Endpoints(all) = &service.stands_for else { return Outcome::NoSuchName };
    let found: Vec<IpAddr> = all
        .iter()
        .filter(|endpoint| endpoint.host_name == host)
        .map(|endpoint| endpoint.address)
        .collect();
    if found.is_empty() {
        return Outcome::NoSuchName;
    }
    Outcome::Records(addresses(question, found))
}

fn of_port(
    question: &Question,
    service: &ServiceView,
    (port, protocol): (&str, &str),
    base: &str,
) -> Outcome {
    let found = service.ports.iter().find(|candidate| {
        port.strip_prefix('_') == Some(&candidate.name)
            && protocol.strip_prefix('_') == Some(&candidate.protocol)
    });
    match found {
        Some(port) if question.kind == Kind::Service => {
            Outcome::Records(located(service, port, base))
        }
        Some(_) => Outcome::Records(Vec::new()),
        None => Outcome::NoSuchName,
    }
}

/// Where a port is to be found.
fn located(service: &ServiceView, port: &PortView, base: &str) -> Vec<Record> {
    let at = |target: String| Record::new(Data::Service { port: port.port, target });
    match &service.stands_for {
        StandsFor::Name(_) => Vec::new(),
        StandsFor::Addresses(_) => vec![at(base.to_owned())],
        StandsFor::Endpoints(all) => {
            all.iter().map(|endpoint| at(format!("{}.{base}", endpoint.host_name))).collect()
        }
    }
}

/// Those of the family that was asked for.
fn addresses(question: &Question, all: impl IntoIterator<Item = IpAddr>) -> Vec<Record> {
    let wanted = |address: &IpAddr| match question.kind {
        Kind::Ipv4 => address.is_ipv4(),
        Kind::Ipv6 => address.is_ipv6(),
        Kind::Service | Kind::Other(_) => false,
    };
    all.into_iter().filter(wanted).map(|address| Record::new(Data::Address(address))).collect()
}

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

#[cfg(test)]
mod tests;
