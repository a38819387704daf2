//! What becomes of a trace on its way through this proxy: goes on as it came, goes on with a span of this
//! proxy's own, or begins here; and what the headers say then. Pure: the numbers are passed in.

use std::num::{NonZeroU64, NonZeroU128};

use heddle_telemetry::settings::sampler::Sampler;
use http::header::{HeaderMap, HeaderName};

use crate::http::call_record::TraceIds;
use crate::http::trace::b3::{self, Decision, Style};
use crate::http::trace::{Found, Parent, w3c};

/// What the headers of a request say of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Where it is; `None`: in no trace, or in one that cannot be read.
    pub parent: Option<Parent>,
    /// What B3 has decided, if it is what counts.
    decision: Option<Decision>,
    /// There is something, and it cannot be read.
    is_broken: bool,
    /// The trace's id says that it is random.
    is_random: bool,
    /// B3 writes the trace's id in 16 digits.
    is_short: bool,
    /// `traceparent` is what counts, so that `tracestate` does.
    is_w3c: bool,
    styles: [Option<Style>; 2],
}

/// Numbers that nobody has had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// For a trace.
    pub trace: NonZeroU128,
    /// For a span.
    pub span: NonZeroU64,
}

/// What a request takes along from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The trace, and this proxy's part of it.
    pub trace: NonZeroU128,
    /// This proxy's part.
    pub span: NonZeroU64,
    /// What it is a part of.
    pub from: Option<NonZeroU64>,
    /// Whether it is recorded.
    pub is_sampled: bool,
    is_random: bool,
}

/// Reads the headers. `traceparent` goes before B3, also where it is broken.
pub fn read(headers: &HeaderMap) -> Incoming {
    let styles = b3::styles(headers);
    let nothing = Incoming {
        parent: None,
        decision: None,
        is_broken: false,
        is_random: false,
        is_short: false,
        is_w3c: false,
        styles,
    };
    match w3c::read(headers) {
        Found::Here(parent) => {
            let value = headers.get(w3c::TRACEPARENT);
            let is_random = value.is_some_and(|value| w3c::says_random(value.as_bytes()));
            Incoming { parent: Some(parent), is_w3c: true, is_random, ..nothing }
        }
        Found::Broken => Incoming { is_broken: true, ..nothing },
        Found::Nothing if styles == [None, None] => nothing,
        Found::Nothing => match b3::read(headers) {
            Found::Here(said) => Incoming {
                parent: said.place.map(|place| place.parent),
                decision: said.decision,
                is_short: said.place.is_some_and(|place| place.is_short),
                ..nothing
            },
            Found::Broken => Incoming { is_broken: true, ..nothing },
            Found::Nothing => nothing,
        },
    }
}

/// Whether a field is of a trace: one that is read, or written anew.
pub fn is_of_trace(name: &[u8]) -> bool {
    let of_w3c = [w3c::TRACEPARENT, w3c::TRACESTATE];
    let is_it = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
    of_w3c.iter().chain(&b3::ALL).any(is_it)
}

/// What becomes of the trace; `None`: the headers go on as they are. `may_force` is asked if it is the
/// caller who has the request recorded: by saying so, or by the number that it chose.
pub fn decide(
    incoming: &Incoming,
    sampler: &Sampler,
    fresh: impl FnOnce() -> Fresh,
    may_force: impl FnOnce() -> bool,
) -> Option<Carried> {
    let said = incoming.parent.and_then(|parent| parent.is_sampled);
    let wish = said.or(incoming.decision.map(Decision::is_sampled));
    if let Some(parent) = incoming.parent {
        let is_sampled = sampler.samples(parent.trace.get(), wish) && may_force();
        // What is not recorded, and was not to be, is none of ours.
        return (is_sampled || wish != Some(false)).then(|| Carried {
            trace: parent.trace,
            span: fresh().span,
            from: Some(parent.span),
            is_sampled,
            is_random: incoming.is_random,
        });
    }
    let begun = |is_sampled: &dyn Fn(NonZeroU128) -> bool| {
        let Fresh { trace, span } = fresh();
        let is_sampled = is_sampled(trace);
        Carried { trace, span, from: None, is_sampled, is_random: true }
    };
    let sampled = |trace: NonZeroU128| sampler.samples(trace.get(), wish);
    match wish {
        None if !incoming.is_broken && sampler.ratio <= 0.0 => None,
        None => Some(begun(&sampled)),
        Some(false) => {
            let carried = begun(&sampled);
            carried.is_sampled.then_some(carried)
        }
        Some(true) => {
            let carried = begun(&sampled);
            let is_sampled = carried.is_sampled && may_force();
            Some(Carried { is_sampled, ..carried })
        }
    }
}

impl Carried {
    /// For whoever wants to know of the request.
    pub fn ids(&self) -> TraceIds {
        TraceIds {
            trace: self.trace.get().to_be_bytes(),
            span: self.span.get().to_be_bytes(),
            parent: self.from.map(|from| from.get().to_be_bytes()),
            is_sampled: self.is_sampled,
        }
    }

    /// Writes it into the headers that were read: as W3C has it, and as B3 in the styles that came.
    pub fn write(&self, headers: &mut HeaderMap, incoming: &Incoming) {
        let parent =
            Parent { trace: self.trace, span: self.span, is_sampled: Some(self.is_sampled) };
        if !incoming.is_w3c || !w3c::is_good_state(headers) {
            headers.remove(w3c::TRACESTATE);
        }
        if let Some(value) = w3c::written(&parent, self.is_random) {
            headers.insert(w3c::TRACEPARENT, value);
        }
        let decision = match (self.is_sampled, incoming.decision) {
            (false, _) => Decision::Deny,
            (true, Some(Decision::Debug)) => Decision::Debug,
            (true, Some(Decision::Accept | Decision::Deny) | None) => Decision::Accept,
        };
        // What was begun here has 32 digits.
        let is_short = incoming.is_short && self.from.is_some();
        let place = b3::Place { parent, is_short };
        for style in incoming.styles.into_iter().flatten() {
            b3::write(headers, style, &b3::Written { place, from: self.from, decision });
        }
    }
}

#[cfg(test)]
mod tests;
