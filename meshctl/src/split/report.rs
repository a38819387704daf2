//! Splits for machines: the JSON of `meshctl split -o json`. Its fields are stable. Pure.

use heddle_report::routes::{Backend, Held, RouteReport, Rule};
use schemars::JsonSchema;
use serde::Serialize;

use crate::split::plan;

/// All splits that were asked for.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SplitsReport {
    /// Of the newest configuration.
    pub version: u64,
    /// One for each rule with several backends.
    pub splits: Vec<SplitReport>,
}

/// A rule that shares requests or connections.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SplitReport {
    /// `TrafficSplit`, `HTTPRoute` and so on.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where the rule is written.
    pub field: String,
    /// What callers call, as `namespace/name`.
    pub services: Vec<String>,
    /// Its conditions in short; `*`: everything.
    pub conditions: Vec<String>,
    /// The shares that are wanted.
    pub backends: Vec<Backend>,
    /// The shares by which proxies send requests now.
    pub held: Vec<Held>,
    /// `acknowledged`, `pending`, `refused`, `unused` (no proxy asked for it) or `without_effect` (refused or shadowed).
    pub state: &'static str,
    /// How many connected proxies hold it.
    pub proxies: u32,
    /// How many of them act on the newest shares.
    pub acknowledged: u32,
}

impl SplitsReport {
    /// Those of a service (as `namespace/name`), or all.
    pub fn of(version: u64, routes: &[RouteReport], service: Option<&str>) -> Self {
        let of_service =
            routes.iter().filter(|route| service.is_none_or(|name| plan::is_of(route, name)));
        let splits = of_service.flat_map(|route| {
            let rules = route.rules.iter().filter(|rule| plan::has_shares(rule));
            rules.map(|rule| SplitReport::of(route, rule))
        });
        Self { version, splits: splits.collect() }
    }
}

impl SplitReport {
    fn of(route: &RouteReport, rule: &Rule) -> Self {
        // Shadowed at one port, it may count at another.
        let shadowed = route.shadows_of(&rule.field).next().is_some() && rule.held.is_empty();
        let refused = route
            .refusals()
            .any(|condition| matches!(condition.kind.as_str(), "Accepted" | "ResolvedRefs"));
        let state = if shadowed || refused {
            "without_effect"
        } else if route.refused > 0 {
            "refused"
        } else if route.proxies == 0 {
            "unused"
        } else if route.acknowledged == route.proxies {
            "acknowledged"
        } else {
            "pending"
        };
        Self {
            kind: route.kind.clone(),
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            field: rule.field.clone(),
            services: route.parents.iter().map(|parent| parent.service.clone()).collect(),
            conditions: rule.conditions.clone(),
            backends: rule.backends.clone(),
            held: rule.held.clone(),
            state,
            proxies: route.proxies,
            acknowledged: route.acknowledged,
        }
    }

    /// `Kind namespace/name`.
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}
