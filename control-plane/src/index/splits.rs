//! Which TrafficSplit counts for a service, and whether what it refers to exists.

use std::collections::BTreeMap;

use heddle_model::names::{ObjectReference, Port, ServiceName};

use super::{Entry, Table};
use crate::snapshot::no_port;
use crate::translate::service::Service;
use crate::translate::traffic_split::TrafficSplit;

/// Services by name.
pub(super) type Services<'a> = BTreeMap<&'a ServiceName, &'a Service>;

/// What was decided about splits.
#[derive(Debug, Default)]
pub(super) struct Splits {
    /// The one that counts, by the service that clients call.
    pub(super) by_root: BTreeMap<ServiceName, TrafficSplit>,
    /// Of every split.
    pub(super) verdicts: BTreeMap<ObjectReference, Verdict>,
}

/// What became of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts as it was last written (or was last written so that it meant something).
    InUse,
    /// It counts, and something that it refers to is gone since.
    InUseUnresolved(String),
    /// What was written last refers to something that does not exist; what was written before counts.
    LastGoodInUse(String),
    /// It never referred to what exists.
    Unresolved(String),
    /// Another split of the same service is older.
    Conflicted(String),
}

/// Decides about every split, and keeps those whose references resolve as last good.
pub(super) fn decide(
    splits: &Table<TrafficSplit>,
    services: &Services<'_>,
    resolved: &mut BTreeMap<ObjectReference, TrafficSplit>,
) -> Splits {
    let mut found = Splits::default();
    let mut candidates: Vec<TrafficSplit> = Vec::new();
    for (reference, Entry { good, .. }) in splits {
        let Some(split) = good else { continue };
        let problem = problem(split, services);
        let last_good = resolved.get(reference);
        let (verdict, used) = match (problem, last_good) {
            (None, _) => {
                resolved.insert(reference.clone(), split.clone());
                (Verdict::InUse, Some(split.clone()))
            }
            (Some(problem), Some(last)) if last == split => {
                (Verdict::InUseUnresolved(problem), Some(split.clone()))
            }
            (Some(problem), Some(last)) => (Verdict::LastGoodInUse(problem), Some(last.clone())),
            (Some(problem), None) => (Verdict::Unresolved(problem), None),
        };
        found.verdicts.insert(reference.clone(), verdict);
        candidates.extend(used);
    }
    candidates.sort_by(|left, right| left.seniority.cmp(&right.seniority));
    for split in candidates {
        match found.by_root.get(&split.root) {
            None => {
                found.by_root.insert(split.root.clone(), split);
            }
            Some(elder) => {
                let message = format!(
                    "service {} is split by {} already, which counts; remove one of them",
                    split.root, elder.reference
                );
                found.verdicts.insert(split.reference, Verdict::Conflicted(message));
            }
        }
    }
    found
}

fn problem(split: &TrafficSplit, services: &Services<'_>) -> Option<String> {
    let Some(root) = services.get(&split.root) else {
        return Some(format!("spec.service: service {} does not exist", split.root));
    };
    split.leaves.iter().enumerate().find_map(|(index, leaf)| {
        let field = format!("spec.backends[{index}].service");
        let Some(service) = services.get(&leaf.service) else {
            return Some(format!("{field}: service {} does not exist", leaf.service));
        };
        // A leaf without a share may lack anything.
        let missing = root.ports.keys().find(|port| !service.ports.contains_key(port));
        let missing = missing.filter(|_| leaf.weight > 0)?;
        let known: Vec<Port> = service.ports.keys().copied().collect();
        let lacks = no_port(&leaf.service, missing.number(), &known);
        Some(format!("{field}: {lacks}, which service {} has", split.root))
    })
}
