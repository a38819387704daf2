//! What tells the memory's series apart. Texts that many series have are kept once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Seen from the workload whose proxy counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// It was called.
    Inbound,
    /// It called.
    Outbound,
}

/// What was between the two proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Mutual TLS.
    Mtls,
    /// Nothing.
    Plaintext,
}

/// What tells a series from the others of its proxy. Empty texts: not said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    /// Seen from the workload.
    pub direction: Direction,
    /// What was called, as `namespace/name:port`.
    pub service: Arc<str>,
    /// What it was sent to, likewise, or a word for what is outside of the mesh.
    pub backend: Arc<str>,
    /// The route that decided so.
    pub route: Arc<str>,
    /// Who called, of inbound ones.
    pub peer: Arc<str>,
    /// How.
    pub transport: Transport,
}

/// The texts of all labels.
#[derive(Debug, Default)]
pub struct Texts(Mutex<HashSet<Arc<str>>>);

impl Texts {
    /// The same labels, of texts that are shared.
    pub fn share(&self, labels: Labels) -> Labels {
        let Labels { direction, service, backend, route, peer, transport } = labels;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut one = |text: Arc<str>| match known.get(&text) {
            Some(known) => Arc::clone(known),
            None => {
                known.insert(Arc::clone(&text));
                text
            }
        };
        Labels {
            direction,
            service: one(service),
            backend: one(backend),
            route: one(route),
            peer: one(peer),
            transport,
        }
    }

    /// Forgets those that no series has any more.
    pub fn forget_unused(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|text| Arc::strong_count(text) > 1);
        known.shrink_to_fit();
    }

    /// What they take, about.
    pub fn bytes(&self) -> usize {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let texts: usize = known.iter().map(|text| text.len() + TEXT_OVERHEAD_BYTES).sum();
        texts + known.capacity() * size_of::<Arc<str>>()
    }
}

/// Two counters of an `Arc`, and what the allocator adds.
const TEXT_OVERHEAD_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_kept_once_and_as_long_as_they_are_used() {
        let texts = Texts::default();
        let labels = || Labels {
            direction: Direction::Outbound,
            service: "shop/api:80".into(),
            backend: "shop/api:80".into(),
            route: "".into(),
            peer: "".into(),
            transport: Transport::Mtls,
        };
        let (one, other) = (texts.share(labels()), texts.share(labels()));
        assert!(Arc::ptr_eq(&one.service, &other.backend));
        texts.forget_unused();
        assert_eq!(texts.0.lock().unwrap().len(), 2);
        drop((one, other));
        texts.forget_unused();
        assert!(texts.0.lock().unwrap().is_empty());
    }
}
