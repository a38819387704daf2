//! Which TrafficSplit counts for a service, and whether what it refers to exists.

use std::collections::BTreeMap;

use heddle_model::names::{ObjectReference, Port, ServiceName};
use heddle_model::route::HttpMatch;

use super::{Entry, Table};
use crate::snapshot::no_port;
use crate::translate::http_route_group::HttpRouteGroup;
use crate::translate::service::Service;
use crate::translate::traffic_split::TrafficSplit;

/// Services by name.
pub(super) type Services<'a> = BTreeMap<&'a ServiceName, &'a Service>;

/// What was decided about splits.
#[derive(Debug, Default)]
pub(super) struct Splits {
    /// The one that counts, by the service that clients call.
    pub(super) by_root: BTreeMap<ServiceName, UsedSplit>,
    /// Of every split.
    pub(super) verdicts: BTreeMap<ObjectReference, Verdict>,
}

/// A split, with the conditions of the groups that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsedSplit {
    pub(super) split: TrafficSplit,
    /// Any of these; empty: every request.
    pub(super) matches: Vec<HttpMatch>,
}

/// What a split refers to and does not exist: a word and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What became of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts as it was last written (or was last written so that it meant something).
    InUse,
    /// It counts, and something that it refers to is gone since.
    InUseUnresolved(Problem),
    /// What was written last refers to something that does not exist; what was written before counts.
    LastGoodInUse(Problem),
    /// It never referred to what exists.
    Unresolved(Problem),
    /// Another split of the same service is older.
    Conflicted(String),
}

/// What splits refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referents<'a> {
    pub(super) services: &'a Services<'a>,
    pub(super) groups: &'a Table<HttpRouteGroup>,
}

/// Decides about every split, and keeps those whose references resolve as last good.
pub(super) fn decide(
    splits: &Table<TrafficSplit>,
    referents: Referents<'_>,
    resolved: &mut BTreeMap<ObjectReference, UsedSplit>,
) -> Splits {
    let mut found = Splits::default();
    let mut candidates: Vec<UsedSplit> = Vec::new();
    for (reference, Entry { good, .. }) in splits {
        let Some(split) = good.as_deref() else { continue };
        let last_good = resolved.get(reference);
        let (verdict, used) = match (resolve(split, referents), last_good) {
            (Ok(matches), _) => {
                let used = UsedSplit { split: split.clone(), matches };
                resolved.insert(reference.clone(), used.clone());
                (Verdict::InUse, Some(used))
            }
            (Err(problem), Some(last)) if last.split == *split => {
                (Verdict::InUseUnresolved(problem), Some(last.clone()))
            }
            (Err(problem), Some(last)) => (Verdict::LastGoodInUse(problem), Some(last.clone())),
            (Err(problem), None) => (Verdict::Unresolved(problem), None),
        };
        found.verdicts.insert(reference.clone(), verdict);
        candidates.extend(used);
    }
    candidates.sort_by(|left, right| left.split.seniority.cmp(&right.split.seniority));
    for used in candidates {
        match found.by_root.get(&used.split.root) {
            None => {
                found.by_root.insert(used.split.root.clone(), used);
            }
            Some(elder) => {
                let message = format!(
                    "service {} is split by {} already, which counts; remove one of them",
                    used.split.root, elder.split.reference
                );
                found.verdicts.insert(used.split.reference, Verdict::Conflicted(message));
            }
        }
    }
    found
}

/// The conditions of the groups that a split names, if all that it refers to exists.
fn resolve(split: &TrafficSplit, referents: Referents<'_>) -> Result<Vec<HttpMatch>, Problem> {
    let Referents { services, groups } = referents;
    let Some(root) = services.get(&split.root) else {
        let message = format!("spec.service: service {} does not exist", split.root);
        return Err(Problem { reason: "BackendNotFound", message });
    };
    for (index, leaf) in split.leaves.iter().enumerate() {
        let field = format!("spec.backends[{index}].service");
        let Some(service) = services.get(&leaf.service) else {
            let message = format!("{field}: service {} does not exist", leaf.service);
            return Err(Problem { reason: "BackendNotFound", message });
        };
        // A leaf without a share may lack anything.
        let missing = root.ports.keys().find(|port| !service.ports.contains_key(port));
        if let Some(missing) = missing.filter(|_| leaf.weight > 0) {
            let known: Vec<Port> = service.ports.keys().copied().collect();
            let lacks = no_port(&leaf.service, missing.number(), &known);
            let message = format!("{field}: {lacks}, which service {} has", split.root);
            return Err(Problem { reason: "LeafWithoutRootPort", message });
        }
    }
    let mut matches = Vec::new();
    for group in &split.groups {
        let reference = ObjectReference {
            kind: "HTTPRouteGroup".to_owned(),
            namespace: split.reference.namespace.clone(),
            name: group.name.clone(),
        };
        let known = groups.get(&reference).and_then(|entry| entry.good.as_deref());
        let known = known.ok_or_else(|| Problem {
            reason: "MatchNotFound",
            message: format!("{}.name: {reference} does not exist", group.field),
        })?;
        matches.extend(known.matches.iter().cloned());
    }
    Ok(matches)
}
