//! What is written on objects of a cluster: our part of their status as it should be, made from the object
//! as it is. Pure. What others wrote there stays as it is, and nothing is written that says the same.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::push::programmed::{NO_PROXIES, REFUSED_ELSEWHERE};
use crate::source::Revision;
use crate::status::{Condition, ConditionState};
use crate::translate::route;

/// What is to be said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The state of the object that it is about.
    pub revision: Revision,
    /// Of the whole object, and of parents that are not named.
    pub conditions: Vec<Condition>,
    /// Of a route's parents, by their place in `spec.parentRefs`.
    pub parents: Vec<(usize, Vec<Condition>)>,
}

impl Said {
    /// The conditions of the whole object, and of its parents those that do not hold there alone.
    pub fn all(&self) -> Vec<Condition> {
        let mut found = self.conditions.clone();
        let of_parents = self.parents.iter().flat_map(|(_, conditions)| conditions);
        for one in of_parents.filter(|one| one.state == ConditionState::False) {
            let there = |known: &Condition| known.kind == one.kind && known.state == one.state;
            if !found.iter().any(there) {
                found.push(one.clone());
            }
        }
        found
    }
}

/// How a kind of objects has its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `status.parents[]`, one for each parent and controller, as the Gateway API has it.
    Parents,
    /// `status.conditions`, and among them `Ready`, which tools look at.
    Conditions,
}

/// How a kind has its status, if the mesh writes one.
pub fn form(kind: &str) -> Option<Form> {
    match kind {
        "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" => Some(Form::Parents),
        "TrafficPolicy" => Some(Form::Conditions),
        _ => None,
    }
}

/// The status that an object should have; `None` if it has it.
pub fn status(form: Form, object: &Value, said: &Said, now: Timestamp) -> Option<Value> {
    let former = &object["status"];
    let (field, made) = match form {
        Form::Parents => ("parents", parents(object, said, now)),
        Form::Conditions => {
            let former = list(former, "conditions");
            ("conditions", conditions(said, former, now))
        }
    };
    (list(former, field) != made).then(|| json!({field: made}))
}

/// Everybody's parents, with ours as they should be: where they were, and new ones at the end.
fn parents(object: &Value, said: &Said, now: Timestamp) -> Vec<Value> {
    let namespace =
        object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let is_service = |one: &Value| route::is_service(one["kind"].as_str(), one["group"].as_str());
    let references = list(&object["spec"], "parentRefs").iter().enumerate();
    let mut wanted: Vec<(usize, &Value)> = Vec::new();
    for (index, reference) in references.filter(|(_, one)| is_service(one)) {
        // The same parent twice is one.
        if !wanted.iter().any(|(_, known)| same_parent(known, reference, namespace)) {
            wanted.push((index, reference));
        }
    }
    let made = |(index, reference): (usize, &Value), former: &[Value]| {
        let own = said.parents.iter().find(|(of, _)| *of == index).map(|(_, own)| own);
        let own = own.unwrap_or(&said.conditions);
        json!({
            "parentRef": reference,
            "controllerName": CONTROLLER_NAME,
            "conditions": written(own, former, (said, now)),
        })
    };
    let mut found = Vec::new();
    for entry in list(&object["status"], "parents") {
        if entry["controllerName"].as_str() != Some(CONTROLLER_NAME) {
            found.push(entry.clone());
            continue;
        }
        let same = |(_, one): &(usize, &Value)| same_parent(&entry["parentRef"], one, namespace);
        if let Some(at) = wanted.iter().position(same) {
            found.push(made(wanted.remove(at), list(entry, "conditions")));
        }
    }
    found.extend(wanted.into_iter().map(|new| made(new, &[])));
    found
}

/// Our conditions, and then those of others.
fn conditions(said: &Said, former: &[Value], now: Timestamp) -> Vec<Value> {
    let mut found = written(&said.conditions, former, (said, now));
    found.push(condition("Ready", &ready(&said.conditions), former, (said, now)));
    let is_ours = |one: &Value| found.iter().any(|ours| ours["type"] == one["type"]);
    let others: Vec<Value> = former.iter().filter(|one| !is_ours(one)).cloned().collect();
    found.extend(others);
    found
}

/// Whether two references are to the same parent of an object in this namespace.
fn same_parent(left: &Value, right: &Value, namespace: &str) -> bool {
    let named = |reference: &Value, field: &str| {
        reference[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let space =
        |reference: &Value| named(reference, "namespace").unwrap_or_else(|| namespace.to_owned());
    ["group", "kind", "name", "sectionName"]
        .into_iter()
        .all(|field| named(left, field) == named(right, field))
        && space(left) == space(right)
        && left["port"].as_i64() == right["port"].as_i64()
}

fn written(conditions: &[Condition], former: &[Value], about: (&Said, Timestamp)) -> Vec<Value> {
    let one = |one: &Condition| condition(&one.kind.to_string(), one, former, about);
    conditions.iter().map(one).collect()
}

fn condition(
    kind: &str,
    condition: &Condition,
    former: &[Value],
    (said, now): (&Said, Timestamp),
) -> Value {
    let state = condition.state.to_string();
    let former = former.iter().find(|one| one["type"].as_str() == Some(kind));
    // The time is that of the last change of the state, not of the words.
    let since = former.filter(|one| one["status"].as_str() == Some(&state));
    let since = since.and_then(|one| one["lastTransitionTime"].as_str()).map(str::to_owned);
    let since = since.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let message: String = condition.message.chars().take(MESSAGE_LIMIT_CHARS).collect();
    let mut made = Map::new();
    made.insert("type".to_owned(), json!(kind));
    made.insert("status".to_owned(), json!(state));
    made.insert("reason".to_owned(), json!(condition.reason));
    made.insert("message".to_owned(), json!(message));
    made.insert("lastTransitionTime".to_owned(), json!(since));
    if let Some(generation) = said.revision.generation {
        made.insert("observedGeneration".to_owned(), json!(generation));
    }
    Value::Object(made)
}

/// Whether all is well: what tools that know nothing of an object's other conditions look at, and wait for. That
/// nobody calls a service is nothing to wait for, nor what proxies of one other namespace say.
fn ready(conditions: &[Condition]) -> Condition {
    let is_nothing = |one: &Condition| {
        one.reason == NO_PROXIES
            || (one.reason == REFUSED_ELSEWHERE && one.state == ConditionState::Unknown)
    };
    let counting = || conditions.iter().filter(|one| !is_nothing(one));
    let first = |state: ConditionState| counting().find(|one| one.state == state);
    match first(ConditionState::False).or_else(|| first(ConditionState::Unknown)) {
        Some(worst) => {
            Condition { message: format!("{}: {}", worst.kind, worst.message), ..worst.clone() }
        }
        None => Condition { reason: "Ready", ..Condition::accepted(String::new()) },
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How others tell our part of a route's status from theirs.
pub const CONTROLLER_NAME: &str = "heddle.dev/control-plane";
/// The Gateway API allows 32,768; nobody reads as much.
const MESSAGE_LIMIT_CHARS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ConditionKind;

    const OLD: &str = "2025-01-01T00:00:00Z";
    const NEW: &str = "2026-03-04T05:06:07Z";

    fn now() -> Timestamp {
        NEW.parse().unwrap()
    }

    fn said(generation: i64, message: &str) -> Said {
        let revision = Revision {
            api_version: "gateway.networking.k8s.io/v1".to_owned(),
            uid: "u".to_owned(),
            generation: Some(generation),
        };
        let programmed = Condition {
            kind: ConditionKind::Programmed,
            state: ConditionState::True,
            reason: "Programmed",
            message: message.to_owned(),
        };
        let conditions = vec![Condition::accepted(String::new()), programmed];
        Said { revision, conditions, parents: Vec::new() }
    }

    fn reference(name: &str) -> Value {
        json!({"group": "", "kind": "Service", "name": name, "port": 80})
    }

    fn entry(controller: &str, name: &str, state: &str) -> Value {
        json!({
            "parentRef": reference(name),
            "controllerName": controller,
            "conditions": [{
                "type": "Accepted", "status": state, "reason": "Accepted", "message": "",
                "lastTransitionTime": OLD, "observedGeneration": 1,
            }],
        })
    }

    fn route(references: &[Value], parents: &[Value]) -> Value {
        json!({
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {"parentRefs": references},
            "status": {"parents": parents},
        })
    }

    /// The parents, as `controller service condition=state since generation`.
    fn shown(status: &Value) -> Vec<String> {
        let show = |entry: &Value| {
            let conditions = list(entry, "conditions").iter().map(|one| {
                format!(
                    "{}={} {} {}",
                    one["type"].as_str().unwrap(),
                    one["status"].as_str().unwrap(),
                    one["lastTransitionTime"].as_str().unwrap(),
                    one["observedGeneration"]
                )
            });
            let controller = entry["controllerName"].as_str().unwrap();
            let name = entry["parentRef"]["name"].as_str().unwrap();
            format!("{controller} {name} {}", conditions.collect::<Vec<_>>().join(", "))
        };
        list(status, "parents").iter().map(show).collect()
    }

    #[test]
    fn only_our_own_entries_change() {
        let gateway = json!({"kind": "Gateway", "name": "g"});
        let object = route(
            &[gateway, reference("a"), reference("b")],
            &[
                entry("others.dev/x", "a", "False"),
                entry(CONTROLLER_NAME, "gone", "True"),
                entry(CONTROLLER_NAME, "b", "False"),
            ],
        );
        let written = status(Form::Parents, &object, &said(2, "3 of 3"), now()).unwrap();
        assert_eq!(
            shown(&written),
            [
                format!("others.dev/x a Accepted=False {OLD} 1"),
                format!("{CONTROLLER_NAME} b Accepted=True {NEW} 2, Programmed=True {NEW} 2"),
                format!("{CONTROLLER_NAME} a Accepted=True {NEW} 2, Programmed=True {NEW} 2"),
            ]
        );
    }

    #[test]
    fn a_state_that_stays_keeps_its_time() {
        let object = route(&[reference("a")], &[entry(CONTROLLER_NAME, "a", "True")]);
        let written = status(Form::Parents, &object, &said(2, "3 of 3"), now()).unwrap();
        assert!(shown(&written)[0].contains(&format!("Accepted=True {OLD} 2")), "{written}");
    }

    #[test]
    fn what_says_the_same_is_not_written() {
        let mut object = route(&[reference("a"), reference("a")], &[]);
        let first = status(Form::Parents, &object, &said(2, "3 of 3"), now()).unwrap();
        assert_eq!(shown(&first).len(), 1, "the same parent twice is one");
        object["status"] = first;
        let later: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(status(Form::Parents, &object, &said(2, "3 of 3"), later), None);
        assert!(status(Form::Parents, &object, &said(2, "2 of 3"), later).is_some());
        assert!(status(Form::Parents, &object, &said(3, "3 of 3"), later).is_some());
        let foreign = route(&[json!({"kind": "Gateway", "name": "g"})], &[]);
        assert_eq!(status(Form::Parents, &foreign, &said(2, ""), later), None);
    }

    #[test]
    fn parents_are_the_same_when_all_their_fields_are() {
        for (case, left, right, same) in [
            ("as written", reference("a"), reference("a"), true),
            ("another name", reference("a"), reference("b"), false),
            (
                "the namespace is that of the route",
                json!({"kind": "Service", "group": "", "name": "a", "namespace": "shop"}),
                json!({"kind": "Service", "name": "a"}),
                true,
            ),
            (
                "another port",
                json!({"kind": "Service", "name": "a", "port": 80}),
                json!({"kind": "Service", "name": "a"}),
                false,
            ),
            (
                "another section",
                json!({"kind": "Service", "name": "a", "sectionName": "http"}),
                json!({"kind": "Service", "name": "a"}),
                false,
            ),
        ] {
            assert_eq!(same_parent(&left, &right, "shop"), same, "case: {case}");
        }
    }

    #[test]
    fn a_parent_has_its_own_conditions() {
        let object = route(&[reference("a"), reference("b")], &[]);
        let mut said = said(1, "");
        let refused = Condition::refused("NoMatchingParent", "no".to_owned());
        said.parents = vec![(1, vec![refused])];
        let written = status(Form::Parents, &object, &said, now()).unwrap();
        let shown = shown(&written);
        assert!(shown[0].contains("a Accepted=True"), "{shown:?}");
        assert!(shown[1].contains("b Accepted=False"), "{shown:?}");
        assert_eq!(said.all().len(), 3, "what does not hold at one parent is told, too");
    }

    #[test]
    fn a_policy_is_ready_when_all_is_well() {
        let mut object = json!({
            "metadata": {"name": "p", "namespace": "shop"},
            "status": {"conditions": [{"type": "Others", "status": "True"}]},
        });
        let types = |status: &Value| -> Vec<String> {
            let shown = list(status, "conditions").iter().map(|one| {
                format!("{}={}", one["type"].as_str().unwrap(), one["status"].as_str().unwrap())
            });
            shown.collect()
        };
        let good = status(Form::Conditions, &object, &said(1, "3 of 3"), now()).unwrap();
        assert_eq!(types(&good), ["Accepted=True", "Programmed=True", "Ready=True", "Others=True"]);
        object["status"] = good;
        assert_eq!(status(Form::Conditions, &object, &said(1, "3 of 3"), now()), None);
        let mut bad = said(2, "2 of 3; a refused it");
        bad.conditions[1].state = ConditionState::False;
        let written = status(Form::Conditions, &object, &bad, now()).unwrap();
        assert_eq!(types(&written)[2], "Ready=False");
        assert_eq!(written["conditions"][2]["message"], "Programmed: 2 of 3; a refused it");
        let mut open = said(2, "0 of 3");
        open.conditions[1].state = ConditionState::Unknown;
        let written = status(Form::Conditions, &object, &open, now()).unwrap();
        assert_eq!(types(&written)[2], "Ready=Unknown");
        for reason in [NO_PROXIES, REFUSED_ELSEWHERE] {
            open.conditions[1].reason = reason;
            let written = status(Form::Conditions, &object, &open, now()).unwrap();
            assert_eq!(types(&written)[1..3], ["Programmed=Unknown", "Ready=True"], "{reason}");
        }
        bad.conditions[1].reason = REFUSED_ELSEWHERE;
        let written = status(Form::Conditions, &object, &bad, now()).unwrap();
        assert_eq!(types(&written)[1..3], ["Programmed=False", "Ready=False"], "by several");
    }
}
