//! Routes for machines: the JSON of `meshctl routes -o json`. Its fields are stable. Pure.

use heddle_model::filter::HttpFilter;
use heddle_model::names::ObjectReference;
use heddle_model::route::HttpMatch;
use heddle_proto::{admin, discovery};
use schemars::JsonSchema;
use serde::Serialize;

use crate::status::Condition;
use crate::words;

/// All routes that were asked for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RoutesReport {
    /// Of the newest configuration.
    pub version: u64,
    /// By kind, namespace and name.
    pub routes: Vec<RouteReport>,
}

/// A route or a split.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RouteReport {
    /// `HTTPRoute`, `GRPCRoute`, `TLSRoute`, `TCPRoute` or `TrafficSplit`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Relative to the control plane's directory; the API server's, in a cluster.
    pub file: String,
    /// What it is attached to.
    pub parents: Vec<Parent>,
    /// Its hosts; none: every one.
    pub hostnames: Vec<String>,
    /// In the order they were written.
    pub rules: Vec<Rule>,
    /// As on the object: `Accepted`, `ResolvedRefs`, `Programmed`.
    pub conditions: Vec<Condition>,
    /// What of it never gets what it is for.
    pub shadows: Vec<Shadow>,
    /// How many connected proxies hold something of it.
    pub proxies: u32,
    /// How many of them act on its newest state.
    pub acknowledged: u32,
    /// How many of them refuse that.
    pub refused: u32,
}

/// A service that it is attached to.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Parent {
    /// As `namespace/name`.
    pub service: String,
    /// Null: every one.
    pub port: Option<u32>,
    /// Null: any.
    pub port_name: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Rule {
    /// Where it is written.
    pub field: String,
    /// Its conditions in short, any of which may hold; `*`: everything.
    pub conditions: Vec<String>,
    /// What is done to requests, in short.
    pub filters: Vec<String>,
    /// Where they go.
    pub backends: Vec<Backend>,
    /// By which shares proxies send requests now.
    pub held: Vec<Held>,
}

/// A backend and its share.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Backend {
    /// As `namespace/name`, with `:port` unless that is the one that was called; empty: no service.
    pub backend: String,
    /// Its weight. Those of a TrafficSplit are as small as their proportions allow.
    pub weight: u32,
    /// Its share, such as `90 %`.
    pub share: String,
    /// Why nothing can be sent there; null: something can.
    pub problem: Option<String>,
}

/// What some proxies act on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Held {
    /// How many.
    pub proxies: u32,
    /// As of [`Rule::backends`].
    pub shares: Vec<Share>,
}

/// A backend's share at a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Share {
    /// As `namespace/name:port`.
    pub backend: String,
    /// Such as `90 %`.
    pub share: String,
}

/// Something that never gets what it is for, because something else does.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Shadow {
    /// At which port, as `namespace/name:port`.
    pub service: String,
    /// The namespace whose callers this is about; null: all.
    pub callers: Option<String>,
    /// The rule; null: the whole route.
    pub field: Option<String>,
    /// The object that gets it.
    pub by: String,
    /// The rule that does; null: it is not told.
    pub by_field: Option<String>,
}

impl RouteReport {
    /// `Kind namespace/name`.
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// The conditions that say no.
    pub fn refusals(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| condition.status == "False")
    }

    /// What never gets anything: the whole route, or this rule.
    pub fn shadows_of<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a Shadow> {
        self.shadows
            .iter()
            .filter(move |shadow| shadow.field.as_deref().is_none_or(|shadowed| shadowed == field))
    }
}

impl From<admin::Routes> for RoutesReport {
    fn from(told: admin::Routes) -> Self {
        let mut routes: Vec<RouteReport> = told.routes.into_iter().map(RouteReport::from).collect();
        routes.sort_by_key(RouteReport::title);
        Self { version: told.version, routes }
    }
}

impl From<admin::Route> for RouteReport {
    fn from(route: admin::Route) -> Self {
        let conditions = route.conditions.into_iter().map(|condition| Condition {
            kind: condition.r#type,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
        });
        Self {
            kind: route.kind,
            namespace: route.namespace,
            name: route.name,
            file: route.file,
            parents: route.parents.into_iter().map(Parent::from).collect(),
            hostnames: route.hostnames,
            rules: route.rules.into_iter().map(Rule::from).collect(),
            conditions: conditions.collect(),
            shadows: route.shadows.into_iter().map(Shadow::from).collect(),
            proxies: route.proxies,
            acknowledged: route.acknowledged,
            refused: route.refused,
        }
    }
}

impl From<admin::RouteParent> for Parent {
    fn from(parent: admin::RouteParent) -> Self {
        Self {
            service: service(parent.service.as_ref()),
            port: Some(parent.port).filter(|port| *port > 0),
            port_name: Some(parent.port_name).filter(|name| !name.is_empty()),
        }
    }
}

impl From<admin::RouteRule> for Rule {
    fn from(rule: admin::RouteRule) -> Self {
        // What this meshctl cannot read is told as it is: nothing is left out.
        let condition = |found: discovery::HttpMatch| {
            let unread = format!("{found:?}");
            HttpMatch::try_from(found).map_or(unread, |found| words::condition(&found))
        };
        let filter = |found: discovery::HttpFilter| {
            let unread = format!("{found:?}");
            HttpFilter::try_from(found).map_or(unread, |found| words::filter(&found))
        };
        let mut conditions: Vec<String> = rule.matches.into_iter().map(condition).collect();
        if conditions.is_empty() {
            conditions.push("*".to_owned());
        }
        let whole = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let backends = rule.backends.into_iter().map(|backend| Backend {
            backend: with_port(service(backend.service.as_ref()), backend.port),
            weight: backend.weight,
            share: words::percent(u64::from(backend.weight), whole),
            problem: Some(backend.problem).filter(|problem| !problem.is_empty()),
        });
        Self {
            field: rule.field,
            conditions,
            filters: rule.filters.into_iter().map(filter).collect(),
            backends: backends.collect(),
            held: rule.held.into_iter().map(Held::from).collect(),
        }
    }
}

impl From<admin::HeldShares> for Held {
    fn from(held: admin::HeldShares) -> Self {
        let weights = held.shares.iter().map(|share| u64::from(share.weight));
        let whole = weights.sum::<u64>() + u64::from(held.missing_weight);
        let mut shares: Vec<Share> = Vec::new();
        for share in &held.shares {
            let port = share.backend.as_ref();
            let name = service(port.and_then(|port| port.service.as_ref()));
            shares.push(Share {
                backend: with_port(name, port.map_or(0, |port| port.port)),
                share: words::percent(u64::from(share.weight), whole),
            });
        }
        if held.missing_weight > 0 {
            let share = words::percent(u64::from(held.missing_weight), whole);
            shares.push(Share { backend: "nothing".to_owned(), share });
        }
        Self { proxies: held.proxies, shares }
    }
}

impl From<admin::Shadow> for Shadow {
    fn from(shadow: admin::Shadow) -> Self {
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        let port = shadow.port.as_ref();
        let name = service(port.and_then(|port| port.service.as_ref()));
        let by = shadow.by.map(|by| ObjectReference::from(by).to_string());
        Self {
            service: with_port(name, port.map_or(0, |port| port.port)),
            callers: named(shadow.callers),
            field: named(shadow.field),
            by: by.unwrap_or_default(),
            by_field: named(shadow.by_field),
        }
    }
}

fn service(name: Option<&discovery::ServiceName>) -> String {
    name.map(|name| format!("{}/{}", name.namespace, name.name)).unwrap_or_default()
}

fn with_port(name: String, port: u32) -> String {
    if port == 0 { name } else { format!("{name}:{port}") }
}
