//! How far proxies have come with an object: the condition Programmed. Pure. With several replicas each
//! knows its own proxies; what they tell each other is in `peers.rs`.
//!
//! Every workload has a proxy that can say what it likes. Whose proxies are of the object's own namespace may
//! say what is wrong with it; of others it only counts that they refused, unless they are of several
//! namespaces, and what they say is on no object of strangers.

use std::collections::{BTreeMap, BTreeSet};

use heddle_model::identity::PodUid;
use heddle_model::names::ObjectReference;

use crate::push::held::{Answer, Refusal};
use crate::push::ledger::Ledger;
use crate::push::proxies::{Proxies, Record};
use crate::snapshot::Snapshot;
use crate::status::{Condition, ConditionKind, ConditionState, ObjectStatus};

/// What proxies made of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Proxies that hold something of it.
    pub proxies: usize,
    /// Those of them that act on its newest state.
    pub done: usize,
    /// What those of its own namespace say that refused it.
    pub refusals: Texts,
    /// Those of other namespaces that refused it.
    pub elsewhere: Elsewhere,
    /// Those that act on an older state and are not connected.
    pub away: Texts,
    /// Who, of its own namespace, refused another object, without which its newest state cannot come.
    pub waits: Texts,
}

/// Refusals by proxies of other namespaces than the object's: how many, and whether of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    count: usize,
    namespaces: BTreeSet<String>,
}

/// Texts, of which the first few are kept and all are counted: one bad rule in a large mesh does not fill a
/// screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    first: Vec<String>,
    count: usize,
}

/// What one proxy made of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfProxy {
    /// Whether it acts on its newest state.
    pub done: bool,
    /// Why not, if it refused that.
    pub refusal: Option<String>,
    /// Why not, if it refused something else of the same update.
    pub wait: Option<String>,
}

/// What one proxy made of everything that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The proxy's pod.
    pub uid: PodUid,
    /// As people know it.
    pub name: String,
    /// Whose proxy it is; `None` if that is not known, and then it is nobody's.
    pub namespace: Option<String>,
    /// By object.
    pub objects: BTreeMap<ObjectReference, OfProxy>,
}

/// Whether a proxy can be told anything now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Its stream is open.
    Connected,
    /// It goes on with what it had when its stream ended.
    Disconnected,
}

/// What one replica knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// The proxies that are connected to it.
    pub connected: BTreeSet<PodUid>,
    /// What those made of every object.
    pub board: Board,
    /// Those that were connected to it, and may be to another now.
    pub away: Vec<Share>,
}

/// How far all proxies have come, by object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board(pub BTreeMap<ObjectReference, Progress>);

impl Texts {
    /// Of these, of which there are as many in all, and more were not kept.
    pub fn new(first: Vec<String>, count: usize) -> Self {
        let first: Vec<String> = first.into_iter().take(TEXTS_SHOWN).collect();
        let count = count.max(first.len());
        Self { first, count }
    }

    /// The first few.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// Of all of them.
    pub fn count(&self) -> usize {
        self.count
    }

    fn extend(&mut self, more: Self) {
        let room = TEXTS_SHOWN.saturating_sub(self.first.len());
        self.count += more.count;
        self.first.extend(more.first.into_iter().take(room));
    }

    fn push(&mut self, text: String) {
        self.extend(Self::new(vec![text], 1));
    }

    fn joined(&self, separator: &str) -> String {
        let shown = self.first.join(separator);
        match self.count.saturating_sub(self.first.len()) {
            0 => shown,
            more => format!("{shown}{separator}and {more} more"),
        }
    }
}

impl Elsewhere {
    /// So many, by proxies of at least these namespaces.
    pub fn new(count: usize, namespaces: impl IntoIterator<Item = String>) -> Self {
        let mut found = Self { count, namespaces: BTreeSet::new() };
        namespaces.into_iter().for_each(|namespace| found.note(namespace));
        found
    }

    /// Of all of them.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Some of them: as many as decide.
    pub fn namespaces(&self) -> &BTreeSet<String> {
        &self.namespaces
    }

    fn is_by_several(&self) -> bool {
        self.namespaces.len() >= NAMESPACES_BELIEVED
    }

    fn note(&mut self, namespace: String) {
        if !self.is_by_several() {
            self.namespaces.insert(namespace);
        }
    }

    fn extend(&mut self, more: Self) {
        self.count += more.count;
        more.namespaces.into_iter().for_each(|namespace| self.note(namespace));
    }

    fn shown(&self) -> String {
        match (self.count, self.is_by_several()) {
            (0, _) => String::new(),
            (count, false) => format!(" ({count} of another namespace refused it)"),
            (count, true) => format!(" ({count} of other namespaces refused it)"),
        }
    }
}

impl Gathered {
    /// What this replica knows of those that matter: who is connected, or whose pod still lives. A proxy that
    /// went with its pod is no news.
    pub fn of(proxies: &Proxies, snapshot: &Snapshot) -> Self {
        let mut found = Self::default();
        for (uid, record) in proxies.all() {
            let Some(name) = name(&uid, &record, snapshot) else { continue };
            let share = share((&uid, &name), &record.ledger.lock(), snapshot);
            if record.connected {
                found.board.add(share, Link::Connected);
                found.connected.insert(uid);
            } else {
                found.away.push(share);
            }
        }
        found
    }

    /// What all replicas know together. Who is away from one may be connected to another, and counts once.
    pub fn together(all: Vec<Self>) -> Board {
        let mut board = Board::default();
        let mut seen: BTreeSet<PodUid> =
            all.iter().flat_map(|gathered| &gathered.connected).cloned().collect();
        for gathered in all {
            board.merge(gathered.board);
            for share in gathered.away {
                if seen.insert(share.uid.clone()) {
                    board.add(share, Link::Disconnected);
                }
            }
        }
        board
    }
}

impl Board {
    /// How far the proxies of this replica have come.
    pub fn of(proxies: &Proxies, snapshot: &Snapshot) -> Self {
        Gathered::together(vec![Gathered::of(proxies, snapshot)])
    }

    /// Adds what one proxy holds.
    pub fn add(&mut self, share: Share, link: Link) {
        for (object, OfProxy { done, refusal, wait }) in share.objects {
            let is_own = share.namespace.as_ref() == Some(&object.namespace);
            let progress = self.0.entry(object).or_default();
            progress.proxies += 1;
            progress.done += usize::from(done);
            if !done && link == Link::Disconnected && refusal.is_none() {
                progress.away.push(share.name.clone());
            }
            if is_own {
                wait.into_iter().for_each(|wait| progress.waits.push(wait));
                refusal.into_iter().for_each(|refusal| progress.refusals.push(refusal));
            } else if refusal.is_some() {
                progress.elsewhere.extend(Elsewhere::new(1, share.namespace.clone()));
            }
        }
    }

    fn merge(&mut self, other: Self) {
        for (object, of_other) in other.0 {
            let Progress { proxies, done, refusals, elsewhere, away, waits } = of_other;
            let progress = self.0.entry(object).or_default();
            progress.proxies += proxies;
            progress.done += done;
            progress.refusals.extend(refusals);
            progress.elsewhere.extend(elsewhere);
            progress.away.extend(away);
            progress.waits.extend(waits);
        }
    }

    /// How far proxies have come with one object.
    pub fn condition(&self, object: &ObjectReference) -> Condition {
        let none = Progress::default();
        let progress = self.0.get(object).unwrap_or(&none);
        let Progress { proxies, done, refusals, elsewhere, away, waits } = progress;
        // Before the first semicolon is what may change without being news.
        let counts = format!("{done} of {proxies} proxies{}", elsewhere.shown());
        let (state, reason, message) = if refusals.count > 0 {
            let message = format!("{counts}; {}", refusals.joined("; "));
            (ConditionState::False, "Refused", message)
        } else if *proxies == 0 {
            (ConditionState::Unknown, NO_PROXIES, "no proxy has asked for it".to_owned())
        } else if done == proxies {
            (ConditionState::True, "Programmed", counts)
        } else if elsewhere.is_by_several() {
            (ConditionState::False, REFUSED_ELSEWHERE, counts)
        } else if done + elsewhere.count == *proxies {
            (ConditionState::Unknown, REFUSED_ELSEWHERE, counts)
        } else {
            let mut message = counts;
            for (word, texts, separator) in [("not connected", away, ", "), ("waits", waits, "; ")]
            {
                if texts.count > 0 {
                    message.push_str(&format!("; {word}: {}", texts.joined(separator)));
                }
            }
            (ConditionState::Unknown, "Pending", message)
        };
        Condition { kind: ConditionKind::Programmed, state, reason, message }
    }
}

/// What one proxy made of everything that it holds.
pub fn share((uid, name): (&PodUid, &str), ledger: &Ledger, snapshot: &Snapshot) -> Share {
    let mut objects: BTreeMap<ObjectReference, OfProxy> = BTreeMap::new();
    let unknown = || OfProxy { done: true, refusal: None, wait: None };
    for (key, held) in ledger.held() {
        let Some(current) = snapshot.contents.resource(key, ledger.own()) else { continue };
        let newest = held.digest == current.digest;
        let refusal = match &held.answer {
            Answer::Refused(refusal) if newest => Some(refusal),
            Answer::Refused(_) | Answer::Pending | Answer::Acknowledged => None,
        };
        for origin in &current.origins {
            let entry = objects.entry(origin.clone()).or_insert_with(unknown);
            entry.done &= newest && held.answer == Answer::Acknowledged;
            let Some(refusal) = refusal else { continue };
            // A proxy can only blame what it was sent.
            match refusal.object.as_ref().filter(|object| current.origins.contains(object)) {
                Some(object) if object != origin => {
                    entry.wait.get_or_insert_with(|| waits(name, object, refusal));
                }
                Some(_) | None => {
                    entry.refusal.get_or_insert_with(|| refused(name, refusal));
                }
            }
        }
    }
    // A subscription that was not answered yet is not done either.
    let unanswered = ledger.subscriptions().iter().filter(|key| !ledger.holds(key));
    let resource = |key| snapshot.contents.resource(key, ledger.own());
    for resource in unanswered.filter_map(resource) {
        for origin in &resource.origins {
            objects.entry(origin.clone()).or_insert_with(unknown).done = false;
        }
    }
    let namespace = snapshot.contents.namespace(uid).map(str::to_owned);
    Share { uid: uid.clone(), name: name.to_owned(), namespace, objects }
}

/// What a proxy is called, if it matters: as its pod, `namespace/name`.
pub fn name(uid: &PodUid, record: &Record, snapshot: &Snapshot) -> Option<String> {
    let pod = snapshot.contents.pods.get(uid);
    let matters = record.connected || pod.is_some_and(|pod| pod.live);
    let reference = pod.map(|pod| &pod.reference);
    let name = reference.map(|reference| format!("{}/{}", reference.namespace, reference.name));
    matters.then(|| name.unwrap_or_else(|| uid.to_string()))
}

/// How far proxies have come with an object; `None` if they are not told of it.
pub fn of_object(status: &ObjectStatus, board: &Board) -> Option<Condition> {
    if !status.pushed {
        return None;
    }
    let mut programmed = board.condition(&status.reference);
    let refused = |known: &Condition| {
        known.kind == ConditionKind::Accepted && known.state == ConditionState::False
    };
    if status.conditions.iter().any(refused) {
        programmed.message.push_str(" (of its last good state)");
    }
    Some(programmed)
}

fn refused(proxy: &str, refusal: &Refusal) -> String {
    let Refusal { version, field, reason, .. } = refusal;
    let field = match field.as_str() {
        "" => String::new(),
        field => format!("{field}: "),
    };
    format!("{proxy} refused version {version}: {field}{reason}")
}

/// Without the reason: that is in the status of the object at fault.
fn waits(proxy: &str, object: &ObjectReference, refusal: &Refusal) -> String {
    match refusal.field.as_str() {
        "" => format!("{proxy} refused {object}"),
        field => format!("{proxy} refused {object}: {field}"),
    }
}

/// The reason why it is not known whether proxies act on what none of them has.
pub const NO_PROXIES: &str = "NoProxies";
/// The reason why it is not known whether an object is at fault, or said to be by several: proxies of other
/// namespaces refused it.
pub const REFUSED_ELSEWHERE: &str = "RefusedElsewhere";
/// Proxies of as many other namespaces do not refuse what is good.
const NAMESPACES_BELIEVED: usize = 2;
/// How many texts are kept of any number.
const TEXTS_SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> ObjectReference {
        ObjectReference { kind: "HTTPRoute".into(), namespace: "shop".into(), name: "a".into() }
    }

    fn share(uid: &str, done: bool, refusal: Option<&str>) -> Share {
        let refusal = refusal.map(str::to_owned);
        let of_proxy = OfProxy { done, refusal, wait: None };
        Share {
            uid: uid.parse().unwrap(),
            name: format!("shop/{uid}"),
            namespace: Some("shop".to_owned()),
            objects: BTreeMap::from([(object(), of_proxy)]),
        }
    }

    /// `namespace answer`: `+` acts on it, `-` refused it, `?` has not answered, `~` waits for another object.
    fn answered(uid: usize, answer: &str) -> Share {
        let (namespace, answer) = answer.split_once(' ').unwrap();
        let text = |mark: &str, text: &str| (answer == mark).then(|| format!("{namespace} {text}"));
        let of_proxy = OfProxy {
            done: answer == "+",
            refusal: text("-", "says no"),
            wait: text("~", "waits"),
        };
        Share {
            uid: format!("u{uid}").parse().unwrap(),
            name: format!("{namespace}/u{uid}"),
            namespace: Some(namespace.to_owned()).filter(|namespace| namespace != "nobody"),
            objects: BTreeMap::from([(object(), of_proxy)]),
        }
    }

    #[test]
    fn proxies_of_others_are_counted_and_their_words_are_not_repeated() {
        for (case, answers, expected) in [
            ("all act on it", vec!["shop +", "web +"], "True Programmed: 2 of 2 proxies"),
            (
                "one of its own namespace refuses",
                vec!["shop +", "shop -", "web +"],
                "False Refused: 2 of 3 proxies; shop says no",
            ),
            (
                "one of another namespace refuses",
                vec!["shop +", "web -"],
                "Unknown RefusedElsewhere: 1 of 2 proxies (1 of another namespace refused it)",
            ),
            (
                "all of another namespace refuse",
                vec!["web -", "web -", "web -"],
                "Unknown RefusedElsewhere: 0 of 3 proxies (3 of another namespace refused it)",
            ),
            (
                "two other namespaces refuse",
                vec!["shop +", "web -", "app -", "far -"],
                "False RefusedElsewhere: 1 of 4 proxies (3 of other namespaces refused it)",
            ),
            (
                "own and others",
                vec!["shop -", "web -"],
                "False Refused: 0 of 2 proxies (1 of another namespace refused it); shop says no",
            ),
            (
                "of unknown namespaces, however many",
                vec!["shop +", "nobody -", "nobody -", "web -"],
                "Unknown RefusedElsewhere: 1 of 4 proxies (3 of another namespace refused it)",
            ),
            (
                "one of another namespace refuses, and one has not answered",
                vec!["shop ?", "web -"],
                "Unknown Pending: 0 of 2 proxies (1 of another namespace refused it)",
            ),
            ("its own wait", vec!["shop ~"], "Unknown Pending: 0 of 1 proxies; waits: shop waits"),
            ("others wait", vec!["web ~"], "Unknown Pending: 0 of 1 proxies"),
        ] {
            let of_replica = |parity: usize| {
                let mut found = Gathered::default();
                let all = answers.iter().enumerate().filter(|(index, _)| index % 2 == parity);
                for (index, answer) in all {
                    found.board.add(answered(index, answer), Link::Connected);
                }
                found
            };
            let board = Gathered::together(vec![of_replica(0), of_replica(1)]);
            let Condition { state, reason, message, .. } = board.condition(&object());
            assert_eq!(format!("{state} {reason}: {message}"), expected, "case: {case}");
        }
    }

    fn replica(connected: &[(&str, bool)], away: &[(&str, bool)]) -> Gathered {
        let mut found = Gathered::default();
        for (uid, done) in connected {
            found.connected.insert(uid.parse().unwrap());
            found.board.add(share(uid, *done, None), Link::Connected);
        }
        found.away = away.iter().map(|(uid, done)| share(uid, *done, None)).collect();
        found
    }

    #[test]
    fn replicas_know_together_how_far_proxies_have_come() {
        for (case, all, expected) in [
            ("none", vec![], "Unknown no proxy has asked for it"),
            (
                "two replicas",
                vec![replica(&[("a", true), ("b", true)], &[]), replica(&[("c", true)], &[])],
                "True 3 of 3 proxies",
            ),
            (
                "one moved to the other",
                vec![replica(&[("a", true)], &[("b", false)]), replica(&[("b", true)], &[])],
                "True 2 of 2 proxies",
            ),
            (
                "one is away from both",
                vec![replica(&[("a", true)], &[("b", false)]), replica(&[], &[("b", false)])],
                "Unknown 1 of 2 proxies; not connected: shop/b",
            ),
            (
                "one is behind",
                vec![replica(&[("a", true)], &[]), replica(&[("b", false)], &[])],
                "Unknown 1 of 2 proxies",
            ),
        ] {
            let condition = Gathered::together(all).condition(&object());
            let shown = format!("{} {}", condition.state, condition.message);
            assert_eq!(shown, expected, "case: {case}");
        }
    }

    #[test]
    fn many_refusals_are_counted_and_few_are_told() {
        let mut board = Board::default();
        for index in 0..5 {
            let refusal = format!("{index} refused it");
            board.add(share(&format!("u{index}"), false, Some(&refusal)), Link::Connected);
        }
        let twice = Gathered::together(vec![
            Gathered { board: board.clone(), ..Gathered::default() },
            Gathered { board, ..Gathered::default() },
        ]);
        assert_eq!(
            twice.condition(&object()).message,
            "0 of 10 proxies; 0 refused it; 1 refused it; 2 refused it; and 7 more"
        );
    }
}
