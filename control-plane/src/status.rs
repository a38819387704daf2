//! What became of every object: conditions named and meant as in Kubernetes. How far proxies have come
//! with them is in `push/programmed.rs`; who may read it is in `admin.rs`, and what a cluster is told of it in
//! the files below this one.

use std::fmt;

use heddle_model::names::ObjectReference;

use crate::source::Place;

pub mod events;
pub mod memory;
pub mod telling;
pub mod writer;
pub mod written;

/// An object and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectStatus {
    /// The object.
    pub reference: ObjectReference,
    /// Where it was written.
    pub place: Place,
    /// Accepted, then ResolvedRefs where the object refers to others.
    pub conditions: Vec<Condition>,
    /// Of a route: the same for each of its parents. Those that are missing are as the whole object is.
    pub parents: Vec<ParentStatus>,
    /// Whether proxies are told of it.
    pub pushed: bool,
}

/// A parent of a route and what became of the route there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// Which of `spec.parentRefs` it is, from 0.
    pub index: usize,
    /// Accepted, then ResolvedRefs.
    pub conditions: Vec<Condition>,
}

/// A condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which one.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub state: ConditionState,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// A sentence for people; may be empty when the condition holds.
    pub message: String,
}

/// Which condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// The newest text of the object is in use.
    Accepted,
    /// What it refers to exists.
    ResolvedRefs,
    /// Proxies act on it.
    Programmed,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionState {
    /// It does.
    True,
    /// It does not.
    False,
    /// Not decided, or not ours to decide.
    Unknown,
}

impl Condition {
    /// Accepted, with something to say or nothing.
    pub fn accepted(message: String) -> Self {
        Self {
            kind: ConditionKind::Accepted,
            state: ConditionState::True,
            reason: "Accepted",
            message,
        }
    }

    /// Not accepted.
    pub fn refused(reason: &'static str, message: String) -> Self {
        Self { kind: ConditionKind::Accepted, state: ConditionState::False, reason, message }
    }

    /// All references resolve.
    pub fn resolved() -> Self {
        Self {
            kind: ConditionKind::ResolvedRefs,
            state: ConditionState::True,
            reason: "ResolvedRefs",
            message: String::new(),
        }
    }

    /// A reference does not resolve.
    pub fn unresolved(reason: &'static str, message: String) -> Self {
        Self { kind: ConditionKind::ResolvedRefs, state: ConditionState::False, reason, message }
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
        })
    }
}

impl fmt::Display for ConditionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}
