//! Which Events users find at their objects (`kubectl describe`): one for every condition that does not
//! hold, when that is news. Which are news is pure; publishing is a few lines.

use std::collections::BTreeMap;

use heddle_model::names::ObjectReference;
use k8s_openapi::api::core::v1 as api;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::source::Revision;
use crate::status::{Condition, ConditionKind, ConditionState};

/// What was told of objects.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<(ObjectReference, ConditionKind), (&'static str, String)>);

/// Something to tell of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The object.
    pub reference: ObjectReference,
    /// Which state of it.
    pub revision: Revision,
    /// What does not hold.
    pub condition: Condition,
}

impl Told {
    /// What is news, no more than `limit` at once; the rest will be the next time. Objects that are not
    /// among `all` are gone.
    pub fn news<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a ObjectReference, &'a Revision, Vec<Condition>)>,
        limit: usize,
    ) -> Vec<News> {
        let mut former = std::mem::take(&mut self.0);
        let mut found = Vec::new();
        for (reference, revision, conditions) in all {
            for one in conditions.iter().filter(|one| one.state == ConditionState::False) {
                let key = (reference.clone(), one.kind);
                let now = (one.reason, words(one).to_owned());
                let same = former.get(&key) == Some(&now);
                if !same && found.len() >= limit {
                    if let Some(before) = former.remove(&key) {
                        self.0.insert(key, before);
                    }
                    continue;
                }
                if !same {
                    found.push(News {
                        reference: reference.clone(),
                        revision: revision.clone(),
                        condition: one.clone(),
                    });
                }
                self.0.insert(key, now);
            }
        }
        found
    }

    /// It could not be told.
    pub fn forget(&mut self, news: &News) {
        self.0.remove(&(news.reference.clone(), news.condition.kind));
    }
}

/// The words of a condition that are news when they change: how many proxies have come along is not.
fn words(condition: &Condition) -> &str {
    let message = condition.message.as_str();
    match condition.kind {
        ConditionKind::Programmed => message.split_once("; ").map_or(message, |(_, rest)| rest),
        ConditionKind::Accepted | ConditionKind::ResolvedRefs => message,
    }
}

/// Publishes Events in the name of this pod. Those of the same object and reason become one that counts.
pub fn recorder(client: Client, pod_name: &str) -> Recorder {
    let controller = CONTROLLER.to_owned();
    Recorder::new(client, Reporter { controller, instance: Some(pod_name.to_owned()) })
}

/// Publishes one.
pub async fn publish(recorder: &Recorder, news: &News) -> Result<(), kube::Error> {
    let News { reference, revision, condition } = news;
    let action = match condition.kind {
        ConditionKind::Accepted => "Accept",
        ConditionKind::ResolvedRefs => "ResolveReferences",
        ConditionKind::Programmed => "Program",
    };
    let event = Event {
        type_: EventType::Warning,
        reason: condition.reason.to_owned(),
        note: Some(shortened(&condition.message)),
        action: action.to_owned(),
        secondary: None,
    };
    // Nodes are in no namespace.
    let namespace = Some(reference.namespace.clone()).filter(|_| reference.kind != "Node");
    let regarding = api::ObjectReference {
        api_version: Some(revision.api_version.clone()),
        kind: Some(reference.kind.clone()),
        namespace,
        name: Some(reference.name.clone()),
        uid: Some(revision.uid.clone()),
        ..api::ObjectReference::default()
    };
    recorder.publish(&event, &regarding).await
}

fn shortened(text: &str) -> String {
    let mut end = text.len().min(NOTE_LIMIT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Whom Events are from.
const CONTROLLER: &str = "heddle-control-plane";
/// Kubernetes takes 1,024 bytes.
const NOTE_LIMIT_BYTES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_does_not_hold_is_told_once() {
        let reference = |name: &str| ObjectReference {
            kind: "TrafficSplit".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let revision =
            Revision { api_version: "v1".to_owned(), uid: "u".to_owned(), generation: Some(1) };
        let programmed = |message: &str| Condition {
            kind: ConditionKind::Programmed,
            state: ConditionState::False,
            reason: "Refused",
            message: message.to_owned(),
        };
        let missing = || Condition::unresolved("PortNotFound", "api-v2 has no port 80".to_owned());
        let mut told = Told::default();
        let mut check =
            |case: &str, all: &[(&str, Vec<Condition>)], limit: usize, expected: &[&str]| {
                let all: Vec<(ObjectReference, Vec<Condition>)> = all
                    .iter()
                    .map(|(name, conditions)| (reference(name), conditions.clone()))
                    .collect();
                let all = all.iter();
                let news =
                    told.news(all.map(|(name, list)| (name, &revision, list.clone())), limit);
                let shown: Vec<String> = news
                    .iter()
                    .map(|news| format!("{} {}", news.reference.name, news.condition.reason))
                    .collect();
                assert_eq!(shown, expected, "case: {case}");
            };
        let good = || vec![Condition::accepted(String::new())];
        check("all is well", &[("a", good())], 9, &[]);
        check("news", &[("a", vec![missing()])], 9, &["a PortNotFound"]);
        check("no news", &[("a", vec![missing()])], 9, &[]);
        check("well again", &[("a", good())], 9, &[]);
        check("news again", &[("a", vec![missing()])], 9, &["a PortNotFound"]);
        let refused = |text: &str| vec![programmed(text)];
        check("refused", &[("a", refused("1 of 3; x: no"))], 9, &["a Refused"]);
        check("counts are no news", &[("a", refused("2 of 3; x: no"))], 9, &[]);
        check("who refused is", &[("a", refused("2 of 3; y: no"))], 9, &["a Refused"]);
        let both = [("b", vec![missing()]), ("c", vec![missing()])];
        check("the rest waits", &both, 1, &["b PortNotFound"]);
        check("and comes", &both, 1, &["c PortNotFound"]);
        check("once", &both, 1, &[]);
    }

    #[test]
    fn a_note_is_as_long_as_kubernetes_takes() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ü".repeat(600)).len(), NOTE_LIMIT_BYTES);
        assert_eq!(shortened(&format!("a{}", "ü".repeat(600))).len(), NOTE_LIMIT_BYTES - 1);
    }
}
