//! The same as `query.rs` by time: what happened in each step of a window, to what has one name. Pure, but for the walk
//! over the proxies.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use heddle_proto::telemetry as wire;

use crate::telemetry::answer;
use crate::telemetry::memory::{self, Memory};
use crate::telemetry::proxy::ProxyMemory;
use crate::telemetry::query::{self, Grouping, Groups, Key, Query};
use crate::telemetry::series::{STEP, STEPS, Step};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    query: Query,
    /// Of what is counted.
    name: String,
    /// How many steps of the memory are one of the answer.
    stride: u32,
    /// How many of those are told.
    points: u32,
}

/// What was counted, by the step of the memory that each step of the answer begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    points: BTreeMap<Step, Groups>,
}

impl Question {
    /// Reads what is asked; the error says what is wrong with it.
    pub fn read(request: &wire::TimelineRequest) -> Result<Self, String> {
        let query = wire::QueryRequest {
            window_seconds: request.window_seconds,
            group_by: request.group_by,
            ..wire::QueryRequest::default()
        };
        let query = answer::query(&query)?;
        if query.grouping == Grouping::Edge {
            return Err("edges are not told by time".to_owned());
        }
        if !request.name.contains('/') {
            return Err(format!(
                "\"{}\" names nothing (want namespace/name, and :port of a service)",
                request.name
            ));
        }
        let step = u32::try_from(STEP.as_secs()).unwrap_or(u32::MAX);
        let (wanted, window) = (request.step_seconds, request.window_seconds);
        if wanted == 0 || wanted % step != 0 || wanted > window {
            return Err(format!(
                "{wanted} s is no step (want a multiple of {step}, at most the window of {window})"
            ));
        }
        let stride = wanted / step;
        let points = query.steps.div_ceil(stride).min(STEPS);
        Ok(Self { query, name: request.name.clone(), stride, points })
    }

    /// The steps of the answer, oldest first; the one that has begun is left out, since it is not over.
    fn begins(&self, now: SystemTime, floor: Step) -> Vec<Step> {
        let begun = Step(Step::at(now).0 / self.stride * self.stride);
        let back = (1..=self.points).rev();
        let all = back.map(|back| begun.before(back.saturating_mul(self.stride)));
        all.filter(|step| step.0 + self.stride > floor.0).collect()
    }

    fn is_named(&self, key: &Key) -> bool {
        match self.query.grouping {
            Grouping::Service | Grouping::Backend | Grouping::Route => key.service == self.name,
            Grouping::Workload | Grouping::Pod => {
                self.name.split_once('/') == Some((&key.namespace, &key.workload.name))
            }
            Grouping::Edge => false,
        }
    }
}

/// Counts what this control plane was told.
///
/// Cancel safe: yes.
pub async fn count(memory: &Memory, question: &Question, now: SystemTime) -> Timeline {
    let begins = question.begins(now, memory.floor());
    let mut timeline =
        Timeline { points: begins.into_iter().map(|step| (step, Groups::new())).collect() };
    for (index, proxy) in memory.proxies().into_iter().enumerate() {
        if index % query::PROXIES_AT_ONCE == query::PROXIES_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        timeline.add_proxy(&memory::lock(&proxy), question);
    }
    timeline
}

impl Timeline {
    fn add_proxy(&mut self, proxy: &ProxyMemory, question: &Question) {
        let Some(first) = self.points.keys().next().copied() else { return };
        for (labels, series) in proxy.series() {
            let key = query::key(&question.query, &proxy.origin, labels);
            let Some(key) = key.filter(|key| question.is_named(key)) else { continue };
            series.since(first, |step, sample| {
                let bytes = sample.to_server_bytes.saturating_add(sample.to_client_bytes);
                if sample.requests == 0 && sample.connections == 0 && bytes == 0 {
                    return;
                }
                let begin = Step(step.0 / question.stride * question.stride);
                if let Some(groups) = self.points.get_mut(&begin) {
                    groups.entry(key.clone()).or_default().count(sample, labels.transport);
                }
            });
        }
    }

    /// Adds what another replica counted. Steps that this one does not know are left out: its clock is another.
    pub fn add(&mut self, share: wire::TimelineResponse) {
        for point in share.points {
            let began =
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(point.began_seconds));
            let Some(groups) = began.and_then(|began| self.points.get_mut(&Step::at(began))) else {
                continue;
            };
            for (key, totals) in point.groups.into_iter().filter_map(answer::read_group) {
                groups.entry(key).or_default().add(&totals);
            }
        }
    }

    /// As it is told.
    pub fn into_wire(self) -> wire::TimelineResponse {
        let points = self.points.into_iter().map(|(step, groups)| wire::TimelinePoint {
            began_seconds: u64::from(step.0) * STEP.as_secs(),
            groups: groups.into_iter().map(|(key, totals)| answer::group(key, &totals)).collect(),
        });
        wire::TimelineResponse { points: points.collect(), silent_replicas: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
