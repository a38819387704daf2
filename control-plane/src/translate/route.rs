//! What routes of every kind have in common: the services they are attached to, and their backends. What
//! is done to requests is in `filters`, names of hosts in `hostnames`.
//!
//! The generated types repeat themselves in every place where they occur; they are read through the one
//! that HTTPRoute has at its rules.

use gateway_api::experimental::httproutes::{
    HttpRouteParentRefs, HttpRouteRulesBackendRefs, HttpRouteRulesFilters,
};
use heddle_model::names::{ObjectReference, Port, ServiceName, ServicePort};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::translate::route::filters::Filter;
use crate::translate::{Rejected, service};

pub mod filters;
pub mod hostnames;

/// A service that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Where it is written: `spec.parentRefs[0]`.
    pub field: String,
    /// Its place there.
    pub index: usize,
    /// The service.
    pub service: ServiceName,
    /// The port of that number only; `None`: of every one.
    pub port: Option<Port>,
    /// The port of that name only; `None`: of every one.
    pub port_name: Option<String>,
}

impl Parent {
    /// Whether a port of the service is among those that it is for.
    pub fn means(&self, number: Port, port: &service::ServicePort) -> bool {
        self.port.is_none_or(|only| only == number)
            && self.port_name.as_ref().is_none_or(|only| *only == port.name)
    }
}

/// A backend of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is written: `spec.rules[0].backendRefs[1]`.
    pub field: String,
    /// What it refers to.
    pub target: BackendTarget,
    /// Its share.
    pub weight: u32,
    /// What is done to what is sent to it.
    pub filters: Vec<Filter>,
}

/// What a backend refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendTarget {
    /// A service's port, which may or may not exist.
    Service(ServicePort),
    /// Something that requests cannot be sent to, whatever exists.
    Unusable {
        /// One word in CamelCase, as the Gateway API has it.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
}

/// Reads a value as another type with the same fields.
pub(super) fn alike<T: DeserializeOwned>(
    value: &impl Serialize,
    field: &str,
) -> Result<T, Rejected> {
    serde_json::to_value(value)
        .and_then(serde_json::from_value)
        .map_err(|error| Rejected::unsupported(field, error.to_string()))
}

/// Reads `spec.parentRefs`: the services among them. Parents of other kinds, such as Gateways, are not
/// the mesh's.
pub(super) fn parents<P: Serialize>(
    parents: Option<&Vec<P>>,
    route: &ObjectReference,
) -> Result<Vec<Parent>, Rejected> {
    let mut found = Vec::new();
    for (index, one) in parents.into_iter().flatten().enumerate() {
        let field = format!("spec.parentRefs[{index}]");
        let one: HttpRouteParentRefs = alike(one, &field)?;
        if !is_service(one.kind.as_deref(), one.group.as_deref()) {
            continue;
        }
        let port = one.port.map(|port| checked_port(port, &field)).transpose()?;
        let namespace = one.namespace.unwrap_or_else(|| route.namespace.clone());
        let service = ServiceName { namespace, name: one.name };
        found.push(Parent { field, index, service, port, port_name: one.section_name });
    }
    if found.len() > PARENTS_LIMIT {
        let message = format!("are more than {PARENTS_LIMIT}: split the route");
        return Err(Rejected::invalid("spec.parentRefs", message));
    }
    Ok(found)
}

/// Reads the `backendRefs` of a rule.
pub(super) fn backends<B: Serialize>(
    backends: &[B],
    rule: &RuleContext<'_>,
) -> Result<Vec<Backend>, Rejected> {
    if backends.len() > BACKENDS_LIMIT {
        let message = format!("are more than {BACKENDS_LIMIT}");
        return Err(Rejected::invalid(format!("{}.backendRefs", rule.field), message));
    }
    let backends = backends.iter().enumerate();
    backends.map(|(index, one)| backend(one, rule, index)).collect()
}

/// What a rule's parts have to know of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuleContext<'a> {
    /// The route.
    pub(super) route: &'a ObjectReference,
    /// Where the rule is written.
    pub(super) field: &'a str,
    /// Whether every match of it is of a path's prefix.
    pub(super) matches_prefixes: bool,
}

fn backend(
    one: &impl Serialize,
    rule: &RuleContext<'_>,
    index: usize,
) -> Result<Backend, Rejected> {
    let field = format!("{}.backendRefs[{index}]", rule.field);
    let one: HttpRouteRulesBackendRefs = alike(one, &field)?;
    let weight = one.weight.unwrap_or(1);
    let valid = u32::try_from(weight).ok().filter(|weight| *weight <= WEIGHT_LIMIT);
    let weight = valid.ok_or_else(|| {
        let message = format!("{weight} will not do (want 0 to {WEIGHT_LIMIT})");
        Rejected::invalid(format!("{field}.weight"), message)
    })?;
    let reference = Reference {
        kind: one.kind.as_deref(),
        group: one.group.as_deref(),
        namespace: one.namespace.as_deref(),
        name: &one.name,
        port: one.port,
    };
    let target = target(&reference, rule.route, &field)?;
    let mut filters: Vec<HttpRouteRulesFilters> = Vec::new();
    for (index, filter) in one.filters.iter().flatten().enumerate() {
        filters.push(alike(filter, &format!("{field}.filters[{index}]"))?);
    }
    let filters = filters::of_backend(&filters, rule, &field)?;
    Ok(Backend { field, target, weight, filters })
}

/// A reference to something that requests are sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'a> {
    pub(super) kind: Option<&'a str>,
    pub(super) group: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: &'a str,
    pub(super) port: Option<i32>,
}

/// Reads what a reference is to.
pub(super) fn target(
    reference: &Reference<'_>,
    route: &ObjectReference,
    field: &str,
) -> Result<BackendTarget, Rejected> {
    let kind = reference.kind.unwrap_or("Service");
    if kind != "Service" || !is_core(reference.group) {
        return Ok(BackendTarget::Unusable {
            reason: "InvalidKind",
            message: format!("{kind} is no backend of the mesh (want Service)"),
        });
    }
    let port = reference.port.ok_or_else(|| {
        Rejected::invalid(format!("{field}.port"), "is missing; a service is called by its port")
    })?;
    let namespace = reference.namespace.unwrap_or(&route.namespace).to_owned();
    Ok(BackendTarget::Service(ServicePort {
        service: ServiceName { namespace, name: reference.name.to_owned() },
        port: checked_port(port, field)?,
    }))
}

/// Whether a parent of a route is one of the mesh's.
pub fn is_service(kind: Option<&str>, group: Option<&str>) -> bool {
    kind == Some("Service") && is_core(group)
}

fn is_core(group: Option<&str>) -> bool {
    matches!(group, None | Some("" | "core"))
}

/// Reads a `port`.
pub(super) fn checked_port(number: i32, field: &str) -> Result<Port, Rejected> {
    u16::try_from(number).ok().and_then(Port::new).ok_or_else(|| {
        let message = format!("{number} is not a port (want 1-65535)");
        Rejected::invalid(format!("{field}.port"), message)
    })
}

/// As the Gateway API has it.
const WEIGHT_LIMIT: u32 = 1_000_000;
/// The Gateway API allows 16; TCPRoutes and TLSRoutes as many.
const BACKENDS_LIMIT: usize = 64;
/// The Gateway API allows 32.
const PARENTS_LIMIT: usize = 32;
