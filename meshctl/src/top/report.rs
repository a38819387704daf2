//! Traffic and its last minutes for machines: the JSON of `meshctl top -o json`. Its fields are stable. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_proto::telemetry as wire;
use heddle_report::stat::Row;
use schemars::JsonSchema;
use serde::Serialize;

use crate::top::arguments::Choice;

/// What was counted.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TopReport {
    /// What rows are: `workload`, `pod`, `service`, `backend` or `route`.
    pub by: &'static str,
    /// What was asked about; null: all namespaces.
    pub namespace: Option<String>,
    /// What was asked for.
    pub window_seconds: u64,
    /// What the counts are of; see `meshctl stat`.
    pub covered_seconds: f64,
    /// What `rows[].history` is of.
    pub history: History,
    /// By namespace and name.
    pub rows: Vec<TopRow>,
    /// Control planes that did not answer: what proxies told them is missing.
    pub silent_replicas: Vec<String>,
}

/// The last minutes: the steps that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct History {
    /// When the first step began, in seconds since 1970.
    pub began: u64,
    /// How long a step is.
    pub step_seconds: u64,
    /// How many there are.
    pub steps: usize,
}

/// One row of `meshctl stat`, with its last minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct TopRow {
    /// As in `meshctl stat`.
    #[serde(flatten)]
    pub row: Row,
    /// The oldest first.
    pub history: Vec<StepReport>,
}

/// What was counted in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepReport {
    /// Answered, or failed.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
}

impl TopReport {
    /// What was asked for, of what was answered.
    pub fn new(
        response: wire::QueryResponse,
        choice: &Choice,
        (window, namespace): (Duration, Option<String>),
    ) -> Self {
        let covered_seconds = response.covered_seconds;
        let history = response.history.map(history).unwrap_or_default();
        let groups = response.groups.into_iter();
        let rows = groups.map(|group| TopRow {
            history: steps(history, &group.steps),
            row: Row::new(group, choice.what, covered_seconds),
        });
        let is_meant = |row: &Row| {
            row.is_of_kind(choice.what)
                && (choice.names.is_empty() || choice.names.iter().any(|name| row.is_named(name)))
        };
        Self {
            by: choice.what.noun(),
            namespace,
            window_seconds: window.as_secs(),
            covered_seconds,
            history,
            rows: rows.filter(|row| is_meant(&row.row)).collect(),
            silent_replicas: response.silent_replicas,
        }
    }
}

impl TopRow {
    /// As one word; the service goes before its backend or route.
    pub fn label(&self, by: &str, with_namespace: bool) -> String {
        let row = &self.row;
        let service = row.service.split_once('/').map_or("", |(_, name)| name);
        let name = match by {
            "workload" => row.title(),
            "backend" => format!("{service} > {}", row.name),
            "route" if row.name.is_empty() => format!("{service} (no route)"),
            "route" => format!("{service} {}", row.name),
            _ => row.name.clone(),
        };
        if with_namespace { format!("{}/{name}", row.namespace) } else { name }
    }
}

/// Without the step that has begun: it would look as if everything had just become less.
fn history(told: wire::History) -> History {
    let first = told.first_began_seconds;
    let steps = told.last_began_seconds.saturating_sub(first) / STEP_SECONDS;
    // The control plane tells ten minutes at most; whatever it is, it is not believed to be more.
    let steps = usize::try_from(steps).unwrap_or(usize::MAX).min(STEPS_LIMIT);
    History { began: first, step_seconds: STEP_SECONDS, steps }
}

fn steps(history: History, told: &[wire::StepCounts]) -> Vec<StepReport> {
    let told: BTreeMap<u64, StepReport> = told
        .iter()
        .map(|step| {
            let counted = StepReport { requests: step.requests, failures: step.failures };
            (step.began_seconds, counted)
        })
        .collect();
    let began = (history.began..).step_by(usize::try_from(STEP_SECONDS).unwrap_or(1));
    began.take(history.steps).map(|began| told.get(&began).copied().unwrap_or_default()).collect()
}

/// As the control plane remembers.
const STEP_SECONDS: u64 = 10;
const STEPS_LIMIT: usize = 60;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stat::tests::response;
    use heddle_report::stat::What;

    /// A busy deployment with its last minutes, and a silent pod.
    pub(crate) fn report() -> TopReport {
        let mut response = response();
        response.history =
            Some(wire::History { first_began_seconds: 1_000, last_began_seconds: 1_080 });
        let step = |began_seconds, requests, failures| wire::StepCounts {
            began_seconds,
            requests,
            failures,
        };
        let steps = [step(1_000, 100, 0), step(1_030, 200, 0), step(1_050, 50, 0)];
        response.groups[0].steps = steps.to_vec();
        response.groups[0].steps.extend([step(1_060, 400, 30), step(1_070, 480, 0)]);
        // The step that has begun.
        response.groups[0].steps.push(step(1_080, 3, 3));
        let choice = Choice { what: What::Workloads(None), names: Vec::new() };
        TopReport::new(response, &choice, (Duration::from_secs(60), Some("shop".to_owned())))
    }

    #[test]
    fn the_last_minutes_for_machines_have_stable_fields() {
        insta::assert_snapshot!(crate::output::json(&report(), false).unwrap());
    }

    #[test]
    fn only_what_is_named_is_shown() {
        let named = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            let choice = Choice { what: What::Workloads(None), names };
            let report = TopReport::new(response(), &choice, (Duration::from_secs(60), None));
            report.rows.iter().map(|row| row.row.title()).collect::<Vec<_>>()
        };
        assert_eq!(named(&[]), ["deployment/api", "pod/client"]);
        assert_eq!(named(&["client", "nobody"]), ["pod/client"]);
    }

    #[test]
    fn a_label_says_where_it_goes() {
        let row = |service: &str, name: &str| TopRow {
            row: Row {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                service: service.to_owned(),
                ..Row::default()
            },
            ..TopRow::default()
        };
        for (by, service, name, expected) in [
            ("service", "", "api:80", "api:80"),
            ("backend", "shop/api:80", "v1:80", "api:80 > v1:80"),
            ("route", "shop/api:80", "canary", "api:80 canary"),
            ("route", "shop/api:80", "", "api:80 (no route)"),
        ] {
            assert_eq!(row(service, name).label(by, false), expected);
        }
        assert_eq!(row("", "api:80").label("service", true), "shop/api:80");
    }
}
