//! Which Events users find at their objects (`kubectl describe`): one for every condition that does not
//! hold, when that is news, and again while it lasts, because the API server keeps Events for an hour. Pure,
//! but for one publishing; when is in `telling.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use heddle_model::names::ObjectReference;
use k8s_openapi::api::core::v1 as api;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::Instant;

use crate::push::programmed::REFUSED_ELSEWHERE;
use crate::source::Revision;
use crate::status::{Condition, ConditionKind, ConditionState};

/// What was told of objects.
#[derive(Debug, Default)]
pub struct Told {
    told: BTreeMap<Key, Words>,
    /// The namespace that was told of last; the next one is first.
    last: String,
}

type Key = (ObjectReference, ConditionKind);

/// What was told of one condition.
#[derive(Debug)]
struct Words {
    reason: &'static str,
    text: String,
    at: Instant,
}

/// How much may be told at once; the rest is the next time.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// In all.
    pub all: usize,
    /// Of the objects of one namespace: who has many bad ones does not keep others from hearing of theirs.
    pub of_namespace: usize,
}

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

/// What could be told of one namespace.
#[derive(Default)]
struct Due<'a> {
    news: Vec<(&'a ObjectReference, &'a Revision, Condition)>,
    again: Vec<(&'a ObjectReference, &'a Revision, Condition)>,
}

impl Told {
    /// What is news, and then what was told long ago. Objects that are not among `all` are gone.
    pub fn news<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a ObjectReference, &'a Revision, Vec<Condition>)>,
        budget: Budget,
        now: Instant,
    ) -> Vec<News> {
        let mut former = std::mem::take(&mut self.told);
        let mut due: BTreeMap<&str, Due<'a>> = BTreeMap::new();
        for (reference, revision, conditions) in all {
            for one in conditions.into_iter().filter(is_told) {
                let key = (reference.clone(), one.kind);
                let before = former.remove(&key);
                let same = before.as_ref().is_some_and(|before| before.say(&one));
                let since = before.as_ref().map(|before| now.duration_since(before.at));
                self.told.extend(before.map(|before| (key, before)));
                let of_namespace = due.entry(&reference.namespace).or_default();
                if !same {
                    of_namespace.news.push((reference, revision, one));
                } else if since.is_some_and(|since| since >= AGAIN) {
                    of_namespace.again.push((reference, revision, one));
                }
            }
        }
        self.choose(due, budget, now)
    }

    /// Namespaces take turns.
    fn choose(&mut self, due: BTreeMap<&str, Due<'_>>, budget: Budget, now: Instant) -> Vec<News> {
        let (before, after): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(namespace, _)| *namespace <= self.last.as_str());
        let mut found = Vec::new();
        for (namespace, Due { news, again }) in after.into_iter().chain(before) {
            let left = budget.all.saturating_sub(found.len()).min(budget.of_namespace);
            let chosen = news.into_iter().chain(again).take(left);
            for (reference, revision, condition) in chosen {
                namespace.clone_into(&mut self.last);
                let text = words(&condition).to_owned();
                let words = Words { reason: condition.reason, text, at: now };
                self.told.insert((reference.clone(), condition.kind), words);
                let (reference, revision) = (reference.clone(), revision.clone());
                found.push(News { reference, revision, condition });
            }
        }
        found
    }

    /// It could not be told.
    pub fn forget(&mut self, news: &News) {
        self.told.remove(&(news.reference.clone(), news.condition.kind));
    }
}

impl Words {
    fn say(&self, condition: &Condition) -> bool {
        self.reason == condition.reason && self.text == words(condition)
    }
}

/// Whether a condition is one that an object's owner is told of. What proxies of strangers make of an object is
/// not: they could say it of everybody's.
fn is_told(condition: &Condition) -> bool {
    condition.state == ConditionState::False && condition.reason != REFUSED_ELSEWHERE
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

/// How soon what lasts is told again: well within the hour for which the API server keeps it.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// Whom Events are from.
const CONTROLLER: &str = "heddle-control-plane";
/// Kubernetes takes 1,024 bytes.
const NOTE_LIMIT_BYTES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn revision() -> Revision {
        Revision { api_version: "v1".to_owned(), uid: "u".to_owned(), generation: Some(1) }
    }

    fn missing() -> Condition {
        Condition::unresolved("PortNotFound", "api-v2 has no port 80".to_owned())
    }

    fn refused(reason: &'static str, message: &str) -> Condition {
        Condition {
            kind: ConditionKind::Programmed,
            state: ConditionState::False,
            reason,
            message: message.to_owned(),
        }
    }

    /// What is told of objects, named `namespace/name`.
    fn told(
        told: &mut Told,
        all: &[(&str, Vec<Condition>)],
        (budget, now): (Budget, Instant),
    ) -> Vec<String> {
        let revision = revision();
        let all: Vec<(ObjectReference, Vec<Condition>)> = all
            .iter()
            .map(|(name, conditions)| {
                let (namespace, name) = name.split_once('/').unwrap();
                let kind = "TrafficSplit".to_owned();
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                (ObjectReference { kind, namespace, name }, conditions.clone())
            })
            .collect();
        let conditions = all.iter().map(|(name, list)| (name, &revision, list.clone()));
        let news = told.news(conditions, budget, now);
        let show = |News { reference, condition, .. }: &News| {
            format!("{}/{} {}", reference.namespace, reference.name, condition.reason)
        };
        news.iter().map(show).collect()
    }

    const MUCH: Budget = Budget { all: 9, of_namespace: 9 };

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_does_not_hold_is_told_when_that_is_news() {
        let now = Instant::now();
        let mut known = Told::default();
        let mut check = |case: &str, conditions: Vec<Condition>, expected: &[&str]| {
            let found = told(&mut known, &[("shop/a", conditions)], (MUCH, now));
            assert_eq!(found, expected, "case: {case}");
        };
        let good = || vec![Condition::accepted(String::new())];
        check("all is well", good(), &[]);
        check("news", vec![missing()], &["shop/a PortNotFound"]);
        check("no news", vec![missing()], &[]);
        check("well again", good(), &[]);
        check("news again", vec![missing()], &["shop/a PortNotFound"]);
        let refused = |reason, text| vec![refused(reason, text)];
        check("refused", refused("Refused", "1 of 3; x: no"), &["shop/a Refused"]);
        check("counts are no news", refused("Refused", "2 of 3; x: no"), &[]);
        let foreign = "2 of 4 (1 of another namespace refused it); x: no";
        check("nor are strangers", refused("Refused", foreign), &[]);
        check("who refused is", refused("Refused", "2 of 3; y: no"), &["shop/a Refused"]);
        check("strangers alone are not told of", refused(REFUSED_ELSEWHERE, "1 of 3"), &[]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_again() {
        let begin = Instant::now();
        let mut known = Told::default();
        let bad = [("shop/a", vec![missing()])];
        let mut times = Vec::new();
        for minute in 0..100 {
            let now = begin + Duration::from_secs(60 * minute);
            if !told(&mut known, &bad, (MUCH, now)).is_empty() {
                times.push(minute);
            }
        }
        assert_eq!(times, [0, 30, 60, 90]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_many_bad_objects_does_not_keep_others_from_hearing_of_theirs() {
        let begin = Instant::now();
        let budget = Budget { all: 3, of_namespace: 2 };
        let names: Vec<String> = (0..50).map(|index| format!("bad/{index:02}")).collect();
        let mut known = Told::default();
        // Those of one namespace are news again each time.
        let mut look = |second: u64| {
            let message = format!("it is second {second}");
            let mut all: Vec<(&str, Vec<Condition>)> = Vec::new();
            for name in &names {
                all.push((name, vec![Condition::unresolved("Changed", message.clone())]));
            }
            all.push(("good/a", vec![missing()]));
            all.push(("late/a", vec![missing()]));
            told(&mut known, &all, (budget, begin + Duration::from_secs(second)))
        };
        assert_eq!(look(0), ["bad/00 Changed", "bad/01 Changed", "good/a PortNotFound"]);
        assert_eq!(look(1), ["late/a PortNotFound", "bad/00 Changed", "bad/01 Changed"]);
        assert_eq!(look(2), ["bad/00 Changed", "bad/01 Changed"], "that is what one may");
    }

    #[tokio::test(start_paused = true)]
    async fn all_bad_objects_are_told_of_in_time() {
        let now = Instant::now();
        let budget = Budget { all: 3, of_namespace: 2 };
        let all: Vec<(String, Vec<Condition>)> =
            (0..7).map(|index| (format!("bad/{index}"), vec![missing()])).collect();
        let all: Vec<(&str, Vec<Condition>)> =
            all.iter().map(|(name, list)| (name.as_str(), list.clone())).collect();
        let mut known = Told::default();
        let looks = [2, 2, 2, 1, 0];
        for (look, expected) in looks.into_iter().enumerate() {
            assert_eq!(told(&mut known, &all, (budget, now)).len(), expected, "look {look}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_told_is_told_again() {
        let now = Instant::now();
        let mut known = Told::default();
        let bad = [("shop/a", vec![missing()])];
        assert_eq!(told(&mut known, &bad, (MUCH, now)).len(), 1);
        let reference = ObjectReference {
            kind: "TrafficSplit".to_owned(),
            namespace: "shop".to_owned(),
            name: "a".to_owned(),
        };
        known.forget(&News { reference, revision: revision(), condition: missing() });
        assert_eq!(told(&mut known, &bad, (MUCH, now)).len(), 1);
    }

    #[test]
    fn a_note_is_as_long_as_kubernetes_takes() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ü".repeat(600)).len(), NOTE_LIMIT_BYTES);
        assert_eq!(shortened(&format!("a{}", "ü".repeat(600))).len(), NOTE_LIMIT_BYTES - 1);
    }
}
