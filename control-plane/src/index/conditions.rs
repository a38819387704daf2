//! What became of every object, as conditions.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::names::ObjectReference;

use super::splits::{Services, Splits, Verdict};
use super::{Entry, Index, Table, reason_word, routes};
use crate::source::Failure;
use crate::status::{Condition, ConditionKind, ConditionState, ObjectStatus};
use crate::translate::http_route::HttpRoute;

/// Where two objects cannot both have their way.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// Services that lost an address to another, and what to say of them.
    pub(super) services: BTreeMap<ObjectReference, String>,
}

/// Tells what became of every object, and what could not be told of any.
pub(super) fn statuses(
    index: &Index,
    services: &Services<'_>,
    splits: &Splits,
    conflicts: &Conflicts,
) -> (Vec<ObjectStatus>, Vec<Failure>) {
    let mut objects: BTreeMap<ObjectReference, ObjectStatus> = BTreeMap::new();
    plain(&mut objects, &index.pods, |_, _| vec![Condition::accepted(String::new())]);
    plain(&mut objects, &index.slices, |_, _| vec![Condition::accepted(String::new())]);
    plain(&mut objects, &index.services, |reference, service| {
        let lost = conflicts.services.get(reference);
        let refused = lost.map(|message| Condition::refused("AddressConflict", message.clone()));
        vec![refused.unwrap_or_else(|| Condition::accepted(service.notes.join("; ")))]
    });
    let routed: BTreeSet<_> = super::good(&index.routes)
        .flat_map(|route| &route.parents)
        .map(|parent| &parent.service)
        .collect();
    plain(&mut objects, &index.splits, |reference, split| {
        let note = match routed.contains(&split.root) {
            true => "requests follow the service's HTTPRoute; other connections follow this split",
            false => "",
        };
        split_conditions(splits.verdicts.get(reference), note)
    });
    plain(&mut objects, &index.routes, |_, route| route_conditions(route, services));
    for (reference, ignored) in &index.ignored {
        let message = format!("{} {} is not read by the mesh", ignored.api_version, reference.kind);
        let condition = Condition {
            kind: ConditionKind::Accepted,
            state: ConditionState::Unknown,
            reason: "Ignored",
            message,
        };
        let status = ObjectStatus {
            reference: reference.clone(),
            place: ignored.place.clone(),
            conditions: vec![condition],
            pushed: false,
        };
        objects.insert(reference.clone(), status);
    }
    let source_errors = unreadable(index, &mut objects);
    (objects.into_values().collect(), source_errors)
}

fn plain<T>(
    objects: &mut BTreeMap<ObjectReference, ObjectStatus>,
    table: &Table<T>,
    conditions: impl Fn(&ObjectReference, &T) -> Vec<Condition>,
) {
    for (reference, Entry { place, good, rejected }) in table {
        let mut found = good.as_ref().map(|good| conditions(reference, good)).unwrap_or_default();
        if let Some(rejected) = rejected {
            let message = format!("{place}: {rejected}; {}", what_stays(good.is_some()));
            put_first(&mut found, Condition::refused(reason_word(rejected.reason), message));
        }
        let status = ObjectStatus {
            reference: reference.clone(),
            place: place.clone(),
            conditions: found,
            pushed: good.is_some(),
        };
        objects.insert(reference.clone(), status);
    }
}

fn what_stays(has_good: bool) -> &'static str {
    if has_good { "its last good state stays in use" } else { "nothing of it is in use" }
}

fn put_first(conditions: &mut Vec<Condition>, accepted: Condition) {
    conditions.retain(|condition| condition.kind != ConditionKind::Accepted);
    conditions.insert(0, accepted);
}

fn split_conditions(verdict: Option<&Verdict>, note: &str) -> Vec<Condition> {
    let missing = "BackendNotFound";
    match verdict {
        None | Some(Verdict::InUse) => {
            vec![Condition::accepted(note.to_owned()), Condition::resolved()]
        }
        Some(Verdict::InUseUnresolved(problem)) => vec![
            Condition::accepted(note.to_owned()),
            Condition::unresolved(missing, format!("{problem}; its share of requests fails")),
        ],
        Some(Verdict::LastGoodInUse(problem)) => vec![
            Condition::refused(missing, format!("{problem}; {}", what_stays(true))),
            Condition::unresolved(missing, problem.clone()),
        ],
        Some(Verdict::Unresolved(problem)) => vec![
            Condition::refused(
                missing,
                format!("{problem}; {}: connections go as if it were not there", what_stays(false)),
            ),
            Condition::unresolved(missing, problem.clone()),
        ],
        Some(Verdict::Conflicted(message)) => {
            vec![Condition::refused("Conflicted", message.clone()), Condition::resolved()]
        }
    }
}

fn route_conditions(route: &HttpRoute, services: &Services<'_>) -> Vec<Condition> {
    if route.parents.is_empty() {
        return vec![Condition {
            kind: ConditionKind::Accepted,
            state: ConditionState::Unknown,
            reason: "NotForMesh",
            message: "no parent is a Service (kind: Service, group: \"\")".to_owned(),
        }];
    }
    let problems = routes::parent_problems(route, services);
    let accepted = match problems.is_empty() {
        true => Condition::accepted(String::new()),
        false => Condition::refused("NoMatchingParent", problems.join("; ")),
    };
    let resolved = routes::backend_problem(route, services)
        .map_or_else(Condition::resolved, |(reason, message)| {
            Condition::unresolved(reason, message)
        });
    vec![accepted, resolved]
}

/// Writes failures on the objects that they are about; those that are about none are left.
fn unreadable(
    index: &Index,
    objects: &mut BTreeMap<ObjectReference, ObjectStatus>,
) -> Vec<Failure> {
    let mut left = Vec::new();
    for failure in index.failures.values().flatten() {
        let Some(reference) = &failure.object else {
            left.push(failure.clone());
            continue;
        };
        let field = match failure.field.as_str() {
            "" => String::new(),
            field => format!("{field}: "),
        };
        let status = objects.entry(reference.clone()).or_insert_with(|| ObjectStatus {
            reference: reference.clone(),
            place: failure.place.clone(),
            conditions: Vec::new(),
            pushed: false,
        });
        let message =
            format!("{}: {field}{}; {}", failure.place, failure.message, what_stays(status.pushed));
        put_first(&mut status.conditions, Condition::refused("Invalid", message));
    }
    left
}
