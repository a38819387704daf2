//! Which rule of which object is meant, and what its weights become. Pure.

use heddle_report::routes::{Backend, RouteReport, Rule};

use crate::failure::Failure;
use crate::split::arguments::Weight;

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Such as `TrafficSplit`.
    pub kind: String,
    /// The object's.
    pub namespace: String,
    /// The object's.
    pub name: String,
    /// Relative to the control plane's directory.
    pub file: String,
    /// Of which rule.
    pub place: Place,
    /// Every backend of it as it is named there, and its weight; in their order.
    pub weights: Vec<(String, u32)>,
}

/// Where the weights are in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `spec.backends`.
    Split,
    /// `spec.rules[N].backendRefs`.
    Rule(usize),
}

impl Place {
    /// The JSON pointer of the list of backends.
    pub fn pointer(self) -> String {
        match self {
            Self::Split => "/spec/backends".to_owned(),
            Self::Rule(index) => format!("/spec/rules/{index}/backendRefs"),
        }
    }

    /// The field that names a backend.
    pub fn name_field(self) -> &'static str {
        match self {
            Self::Split => "service",
            Self::Rule(_) => "name",
        }
    }
}

impl Change {
    /// `Kind namespace/name`.
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What somebody asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// As `namespace/name`.
    pub service: &'a str,
    /// Every backend's.
    pub weights: &'a [Weight],
    /// Only a route of this name, or kind and name.
    pub route: Option<&'a str>,
    /// Only this rule.
    pub rule: Option<usize>,
}

/// Finds the one rule that is meant.
pub fn plan(routes: &[RouteReport], wish: Wish<'_>) -> Result<Change, Failure> {
    let of_service: Vec<&RouteReport> =
        routes.iter().filter(|route| is_of(route, wish.service)).collect();
    if of_service.is_empty() {
        let remedy = "see `meshctl routes`: there is no TrafficSplit and no route of this service";
        return Err(Failure::new(format!("nothing splits service {}", wish.service), remedy));
    }
    let named = |route: &&&RouteReport| wish.route.is_none_or(|wanted| is_named(route, wanted));
    let mut fitting: Vec<Change> = Vec::new();
    let mut misfits: Vec<String> = Vec::new();
    for route in of_service.iter().filter(named) {
        for rule in &route.rules {
            let Some(place) = place(&rule.field) else { continue };
            if wish.rule.is_some_and(|wanted| place != Place::Rule(wanted)) {
                continue;
            }
            match weights(wish, rule) {
                Ok(weights) => fitting.push(Change {
                    kind: route.kind.clone(),
                    namespace: route.namespace.clone(),
                    name: route.name.clone(),
                    file: route.file.clone(),
                    place,
                    weights,
                }),
                Err(why) => misfits.push(format!("{} {}: {why}", route.title(), rule.field)),
            }
        }
    }
    let change = match (fitting.pop(), fitting.is_empty()) {
        (Some(only), true) => only,
        (Some(_), false) => {
            return Err(Failure::new(
                format!("several rules of service {} have these backends", wish.service),
                "say which one: --route NAME, and --rule N (from 0); `meshctl routes --output wide` lists them",
            ));
        }
        (None, _) => {
            let failure = Failure::new(
                format!("no rule of service {} has exactly these backends", wish.service),
                "give every backend of one rule a weight, by its name: `meshctl split` lists them",
            );
            return Err(misfits.into_iter().fold(failure, Failure::because_of));
        }
    };
    if change.weights.iter().all(|(_, weight)| *weight == 0) {
        let remedy = "give at least one of them more than 0";
        return Err(Failure::new("no backend would get a request: all weights are 0", remedy));
    }
    Ok(change)
}

/// Whether a route is attached to a service.
pub fn is_of(route: &RouteReport, service: &str) -> bool {
    route.parents.iter().any(|parent| parent.service == service)
}

/// Whether a rule has shares that somebody may want to move.
pub fn has_shares(rule: &Rule) -> bool {
    rule.backends.len() > 1
}

fn is_named(route: &RouteReport, wanted: &str) -> bool {
    match wanted.split_once('/') {
        Some((kind, name)) => route.kind.eq_ignore_ascii_case(kind) && route.name == name,
        None => route.name == wanted,
    }
}

fn place(field: &str) -> Option<Place> {
    if field == "spec.backends" {
        return Some(Place::Split);
    }
    let index = field.strip_prefix("spec.rules[")?.strip_suffix(']')?;
    index.parse().ok().map(Place::Rule)
}

/// Every backend's new weight, or why these weights are not for this rule.
fn weights(wish: Wish<'_>, rule: &Rule) -> Result<Vec<(String, u32)>, String> {
    let mut given: Vec<Option<u32>> = rule.backends.iter().map(|_| None).collect();
    for Weight { name, weight } in wish.weights {
        let meant: Vec<usize> = meant(wish.service, name, &rule.backends);
        let [index] = meant.as_slice() else {
            let how = if meant.is_empty() { "no backend" } else { "several backends" };
            return Err(format!("{how} {name:?} (it has {})", names(rule)));
        };
        match given.get_mut(*index) {
            Some(place @ None) => *place = Some(*weight),
            Some(Some(_)) | None => return Err(format!("{name:?} is there twice")),
        }
    }
    let mut found = Vec::new();
    for (backend, weight) in rule.backends.iter().zip(given) {
        let weight =
            weight.ok_or_else(|| format!("{} is given no weight", bare(&backend.backend)))?;
        found.push((bare(&backend.backend).to_owned(), weight));
    }
    Ok(found)
}

/// By the whole name, or else by what follows the service's: `v1` for `api-v1`.
fn meant(service: &str, name: &str, backends: &[Backend]) -> Vec<usize> {
    let root = bare(service);
    let by = |fits: &dyn Fn(&Backend) -> bool| -> Vec<usize> {
        let all = backends.iter().enumerate();
        all.filter(|(_, backend)| fits(backend)).map(|(index, _)| index).collect()
    };
    let whole =
        by(&|backend| bare(&backend.backend) == name || without_port(&backend.backend) == name);
    if !whole.is_empty() {
        return whole;
    }
    let below = by(&|backend| bare(&backend.backend) == format!("{root}-{name}"));
    if !below.is_empty() {
        return below;
    }
    by(&|backend| bare(&backend.backend).strip_suffix(name).is_some_and(|rest| rest.ends_with('-')))
}

fn without_port(backend: &str) -> &str {
    backend.split_once(':').map_or(backend, |(name, _)| name)
}

/// The name without namespace and port.
fn bare(backend: &str) -> &str {
    let name = without_port(backend);
    name.split_once('/').map_or(name, |(_, name)| name)
}

fn names(rule: &Rule) -> String {
    let names: Vec<&str> = rule.backends.iter().map(|backend| bare(&backend.backend)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
