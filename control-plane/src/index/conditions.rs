//! What became of every object, as conditions.

use std::collections::BTreeMap;

use heddle_model::names::ObjectReference;

use super::assemble::Decided;
use super::attach::Standing;
use super::backends::{self, Referrer};
use super::splits::{Problem, Verdict};
use super::{Entry, Index, Table, attach, policies, reason_word};
use crate::source::Failure;
use crate::status::{Condition, ConditionKind, ConditionState, ObjectStatus, ParentStatus};
use crate::translate::connection_route::ConnectionRoute;
use crate::translate::http_route::HttpRoute;
use crate::translate::route::Parent;

/// Where two objects cannot both have their way.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// Services that lost an address to another, and what to say of them.
    pub(super) services: BTreeMap<ObjectReference, String>,
}

/// Tells what became of every object, and what could not be told of any.
pub(super) fn statuses(
    index: &Index,
    decided: &Decided<'_>,
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
    told_through_others(&mut objects, &index.nodes);
    told_through_others(&mut objects, &index.grants);
    told_through_others(&mut objects, &index.groups);
    plain(&mut objects, &index.splits, |reference, _| {
        let standing = index.resolved_splits.get(reference).and_then(|used| {
            let service = decided.resolver.services.get(&used.split.root)?;
            Some(attach::of_split(used, service, (&decided.attachments, &decided.protocols)))
        });
        let verdict = decided.splits.verdicts.get(reference);
        split_conditions(verdict, &standing.unwrap_or_default())
    });
    for table in [&index.http_routes, &index.grpc_routes] {
        plain(&mut objects, table, |_, route| of_requests(route, decided));
        by_parent(&mut objects, table, |route| {
            of_parents((&route.reference, &route.parents), decided)
        });
    }
    for table in [&index.tls_routes, &index.tcp_routes] {
        plain(&mut objects, table, |_, route| of_connections(route, decided));
        by_parent(&mut objects, table, |route| {
            of_parents((&route.reference, &route.parents), decided)
        });
    }
    plain(&mut objects, &index.policies, |reference, _| {
        policy_conditions(decided.policies.standings.get(reference))
    });
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
            parents: Vec::new(),
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
        let mut found = good.as_deref().map(|good| conditions(reference, good)).unwrap_or_default();
        if let Some(rejected) = rejected {
            let message = format!("{place}: {rejected}; {}", what_stays(good.is_some()));
            put_first(&mut found, Condition::refused(reason_word(rejected.reason), message));
        }
        let status = ObjectStatus {
            reference: reference.clone(),
            place: place.clone(),
            conditions: found,
            parents: Vec::new(),
            pushed: good.is_some(),
        };
        objects.insert(reference.clone(), status);
    }
}

/// Adds what became of routes at each of their parents. A route that was refused is so everywhere.
fn by_parent<T>(
    objects: &mut BTreeMap<ObjectReference, ObjectStatus>,
    table: &Table<T>,
    own: impl Fn(&T) -> Vec<(usize, Option<Condition>)>,
) {
    for (reference, entry) in table {
        let good = entry.good.as_deref().filter(|_| entry.rejected.is_none());
        let (Some(good), Some(status)) = (good, objects.get_mut(reference)) else { continue };
        for (index, own) in own(good) {
            let mut conditions = status.conditions.clone();
            if let (Some(own), Some(accepted)) = (own, conditions.first_mut()) {
                *accepted = own;
            }
            status.parents.push(ParentStatus { index, conditions });
        }
    }
}

/// What is to be said of each parent in place of what is said of them all.
fn of_parents(
    (route, parents): (&ObjectReference, &[Parent]),
    decided: &Decided<'_>,
) -> Vec<(usize, Option<Condition>)> {
    let none = Standing::default();
    let Standing { counts, gives_way } = decided.attachments.standings.get(route).unwrap_or(&none);
    let services = decided.resolver.services;
    let problems: Vec<(usize, Option<String>)> = parents
        .iter()
        .map(|parent| (parent.index, attach::parent_problem(parent, services)))
        .collect();
    let all_fit = problems.iter().all(|(_, problem)| problem.is_none());
    let own = |(index, problem): (usize, Option<String>)| {
        let own = match problem {
            Some(problem) => Some(Condition::refused("NoMatchingParent", problem)),
            // What is wrong with another parent is not said here.
            None if !all_fit => Some(accepted(*counts > 0, ("Conflicted", &[]), gives_way)),
            None => None,
        };
        (index, own)
    };
    problems.into_iter().map(own).collect()
}

/// What no proxy is told of by itself: it changes what others mean.
fn told_through_others<T>(objects: &mut BTreeMap<ObjectReference, ObjectStatus>, table: &Table<T>) {
    plain(objects, table, |_, _| vec![Condition::accepted(String::new())]);
    for reference in table.keys() {
        if let Some(status) = objects.get_mut(reference) {
            status.pushed = false;
        }
    }
}

/// Whether something of an object is in use.
fn is_in_use(index: &Index, status: &ObjectStatus) -> bool {
    fn has_good<T>(table: &Table<T>, reference: &ObjectReference) -> bool {
        table.get(reference).is_some_and(|entry| entry.good.is_some())
    }
    let reference = &status.reference;
    status.pushed
        || has_good(&index.nodes, reference)
        || has_good(&index.grants, reference)
        || has_good(&index.groups, reference)
}

fn what_stays(has_good: bool) -> &'static str {
    if has_good { "its last good state stays in use" } else { "nothing of it is in use" }
}

fn put_first(conditions: &mut Vec<Condition>, accepted: Condition) {
    conditions.retain(|condition| condition.kind != ConditionKind::Accepted);
    conditions.insert(0, accepted);
}

fn split_conditions(verdict: Option<&Verdict>, standing: &Standing) -> Vec<Condition> {
    let Standing { counts, gives_way } = standing;
    let in_use = || match *counts == 0 && !gives_way.is_empty() {
        true => Condition::refused("Conflicted", gives_way.join("; ")),
        false => Condition::accepted(gives_way.join("; ")),
    };
    match verdict {
        None | Some(Verdict::InUse) => vec![in_use(), Condition::resolved()],
        Some(Verdict::InUseUnresolved(Problem { reason, message })) => {
            vec![in_use(), Condition::unresolved(reason, format!("{message}; {}", effect(reason)))]
        }
        Some(Verdict::LastGoodInUse(Problem { reason, message })) => vec![
            Condition::refused(reason, format!("{message}; {}", what_stays(true))),
            Condition::unresolved(reason, message.clone()),
        ],
        Some(Verdict::Unresolved(Problem { reason, message })) => vec![
            Condition::refused(
                reason,
                format!("{message}; {}: connections go as if it were not there", what_stays(false)),
            ),
            Condition::unresolved(reason, message.clone()),
        ],
        Some(Verdict::Conflicted(message)) => {
            vec![Condition::refused("Conflicted", message.clone()), Condition::resolved()]
        }
    }
}

/// What becomes of what a split says, when something that it refers to is gone since.
fn effect(reason: &str) -> &'static str {
    match reason {
        "MatchNotFound" => "it goes on with the conditions that it had",
        _ => "its share of requests fails",
    }
}

fn of_requests(route: &HttpRoute, decided: &Decided<'_>) -> Vec<Condition> {
    let called = backends::namespaces(&route.parents);
    let referrer = Referrer { route: &route.reference, called: &called };
    let backends = route.rules.iter().flat_map(|rule| &rule.backends);
    let filters = route.rules.iter().flat_map(|rule| &rule.filters);
    let unresolved = decided.resolver.problem(backends, filters, referrer);
    let mut conditions = route_conditions((&route.reference, &route.parents), unresolved, decided);
    let unread =
        attach::unread_ports(&route.parents, decided.resolver.services, &decided.protocols);
    if let Some(accepted) = conditions.first_mut()
        && accepted.state == ConditionState::True
    {
        let said = std::iter::once(std::mem::take(&mut accepted.message));
        let said = said.filter(|said| !said.is_empty()).chain(unread).chain(route.notes.clone());
        accepted.message = said.collect::<Vec<_>>().join("; ");
    }
    conditions
}

fn of_connections(route: &ConnectionRoute, decided: &Decided<'_>) -> Vec<Condition> {
    let called = backends::namespaces(&route.parents);
    let referrer = Referrer { route: &route.reference, called: &called };
    let unresolved = decided.resolver.problem(route.backends.iter(), std::iter::empty(), referrer);
    route_conditions((&route.reference, &route.parents), unresolved, decided)
}

fn route_conditions(
    (route, parents): (&ObjectReference, &[Parent]),
    unresolved: Option<(&'static str, String)>,
    decided: &Decided<'_>,
) -> Vec<Condition> {
    if parents.is_empty() {
        return vec![Condition {
            kind: ConditionKind::Accepted,
            state: ConditionState::Unknown,
            reason: "NotForMesh",
            message: "no parent is a Service (kind: Service, group: \"\")".to_owned(),
        }];
    }
    let problems = attach::parent_problems(parents, decided.resolver.services);
    let standing = decided.attachments.standings.get(route);
    let gives_way = standing.map(|standing| standing.gives_way.clone()).unwrap_or_default();
    let counts = standing.is_some_and(|standing| standing.counts > 0);
    let accepted = accepted(counts, ("NoMatchingParent", &problems), &gives_way);
    let resolved = unresolved.map_or_else(Condition::resolved, |(reason, message)| {
        Condition::unresolved(reason, message)
    });
    vec![accepted, resolved]
}

fn policy_conditions(standing: Option<&policies::Standing>) -> Vec<Condition> {
    let none = policies::Standing::default();
    let policies::Standing { counts, missing, missing_ports, conflicts, overridden } =
        standing.unwrap_or(&none);
    let mut accepted = accepted(*counts > 0, ("TargetNotFound", missing), conflicts);
    if accepted.state == ConditionState::True {
        accepted = Condition::accepted(joined([missing, conflicts, overridden]));
    }
    let resolved = match missing_ports.is_empty() {
        true => Condition::resolved(),
        false => Condition::unresolved("PortNotFound", missing_ports.join("; ")),
    };
    vec![accepted, resolved]
}

/// What counts somewhere is accepted, with what is wrong elsewhere.
fn accepted(
    counts: bool,
    (reason, missing): (&'static str, &[String]),
    conflicts: &[String],
) -> Condition {
    let message = joined([missing, conflicts]);
    match (counts, missing.is_empty(), conflicts.is_empty()) {
        (true, _, _) | (false, true, true) => Condition::accepted(message),
        (false, false, _) => Condition::refused(reason, message),
        (false, true, false) => Condition::refused("Conflicted", message),
    }
}

fn joined<const LISTS: usize>(lists: [&[String]; LISTS]) -> String {
    lists.into_iter().flatten().cloned().collect::<Vec<_>>().join("; ")
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
            parents: Vec::new(),
            pushed: false,
        });
        if failure.place.revision().is_some() {
            // It is about the object's newest state, which what is in use is not.
            status.place = failure.place.clone();
            status.parents.clear();
        }
        let stays = what_stays(is_in_use(index, status));
        let message = format!("{}: {field}{}; {stays}", failure.place, failure.message);
        put_first(&mut status.conditions, Condition::refused("Invalid", message));
    }
    left
}
