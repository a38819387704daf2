//! How far proxies have come with an object: the condition Programmed. Pure.

use std::collections::BTreeMap;

use heddle_model::names::ObjectReference;

use crate::push::held::{Answer, Refusal};
use crate::push::ledger::Ledger;
use crate::snapshot::Snapshot;
use crate::status::{Condition, ConditionKind, ConditionState};

/// What proxies made of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Proxies that hold something of it.
    proxies: usize,
    /// Those of them that act on its newest state.
    done: usize,
    /// What those say that refused it.
    refusals: Vec<String>,
    /// Those that act on an older state and are not connected.
    away: Vec<String>,
    /// Who refused another object, without which its newest state cannot come.
    waits: Vec<String>,
}

/// What one proxy made of one object.
#[derive(Debug)]
struct OfProxy {
    /// Whether it acts on its newest state.
    done: bool,
    /// Why not, if it refused that.
    refusal: Option<String>,
    /// Why not, if it refused something else of the same update.
    wait: Option<String>,
}

/// Whether a proxy can be told anything now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Its stream is open.
    Connected,
    /// It goes on with what it had when its stream ended.
    Disconnected,
}

/// How far all proxies have come, by object.
#[derive(Debug, Default)]
pub struct Board(BTreeMap<ObjectReference, Progress>);

impl Board {
    /// Adds what one proxy holds.
    pub fn add(&mut self, (proxy, link): (&str, Link), ledger: &Ledger, snapshot: &Snapshot) {
        let mut of_proxy: BTreeMap<ObjectReference, OfProxy> = BTreeMap::new();
        let unknown = || OfProxy { done: true, refusal: None, wait: None };
        for (key, held) in ledger.held() {
            let Some(current) = snapshot.contents.resource(key, ledger.own()) else { continue };
            let newest = held.digest == current.digest;
            let refusal = match &held.answer {
                Answer::Refused(refusal) if newest => Some(refusal),
                Answer::Refused(_) | Answer::Pending | Answer::Acknowledged => None,
            };
            for origin in &current.origins {
                let entry = of_proxy.entry(origin.clone()).or_insert_with(unknown);
                entry.done &= newest && held.answer == Answer::Acknowledged;
                let Some(refusal) = refusal else { continue };
                match &refusal.object {
                    Some(object) if object != origin => {
                        entry.wait.get_or_insert_with(|| waits(proxy, object, refusal));
                    }
                    Some(_) | None => {
                        entry.refusal.get_or_insert_with(|| refused(proxy, refusal));
                    }
                }
            }
        }
        // A subscription that was not answered yet is not done either.
        let unanswered = ledger.subscriptions().iter().filter(|key| !ledger.holds(key));
        let resource = |key| snapshot.contents.resource(key, ledger.own());
        for resource in unanswered.filter_map(resource) {
            for origin in &resource.origins {
                of_proxy.entry(origin.clone()).or_insert_with(unknown).done = false;
            }
        }
        for (object, OfProxy { done, refusal, wait }) in of_proxy {
            let progress = self.0.entry(object).or_default();
            progress.proxies += 1;
            progress.done += usize::from(done);
            if !done && link == Link::Disconnected && refusal.is_none() {
                progress.away.push(proxy.to_owned());
            }
            progress.waits.extend(wait);
            progress.refusals.extend(refusal);
        }
    }

    /// How far proxies have come with one object.
    pub fn condition(&self, object: &ObjectReference) -> Condition {
        let none = Progress::default();
        let Progress { proxies, done, refusals, away, waits } = self.0.get(object).unwrap_or(&none);
        let counts = format!("{done} of {proxies} proxies");
        let (state, reason, message) = if !refusals.is_empty() {
            let message = format!("{counts}; {}", first_of(refusals, "; "));
            (ConditionState::False, "Refused", message)
        } else if *proxies == 0 {
            (ConditionState::Unknown, "NoProxies", "no proxy has asked for it".to_owned())
        } else if done == proxies {
            (ConditionState::True, "Programmed", counts)
        } else {
            let mut message = counts;
            for (word, texts, separator) in [("not connected", away, ", "), ("waits", waits, "; ")]
            {
                if !texts.is_empty() {
                    message.push_str(&format!("; {word}: {}", first_of(texts, separator)));
                }
            }
            (ConditionState::Unknown, "Pending", message)
        };
        Condition { kind: ConditionKind::Programmed, state, reason, message }
    }
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

fn first_of(texts: &[String], separator: &str) -> String {
    let shown = texts.iter().take(TEXTS_SHOWN).cloned().collect::<Vec<_>>().join(separator);
    match texts.len().saturating_sub(TEXTS_SHOWN) {
        0 => shown,
        more => format!("{shown}{separator}and {more} more"),
    }
}

/// So that one bad rule in a large mesh does not fill a screen.
const TEXTS_SHOWN: usize = 3;
