//! What is kept of the authority: its texts, and how far a rotation is. Pure: texts in, texts out; where
//! they are kept is in `store.rs`.

use std::time::{Duration, SystemTime};

use heddle_model::identity::TrustDomain;
use heddle_tls::authority::texts::{
    ISSUER, NEXT_ROOT, NotParsed, Parsed, ROOT, TRUST_ANCHORS, Texts,
};
use heddle_tls::authority::{Authority, AuthorityError};
use zeroize::Zeroizing;

use crate::identity::rotation::{Kind, LeftOut, Move, Rotation, Rotations, Step};

/// How far a rotation is, as JSON.
pub const ROTATION: &str = "rotation.json";

/// The names of all texts, in an order in which they can be written one after the other: whatever is
/// written last, what is there can be read, and is trusted by whoever trusted what was there.
pub const NAMES: [&str; 5] = [TRUST_ANCHORS, ROOT, ISSUER, NEXT_ROOT, ROTATION];

/// An authority, and how far its rotation is.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Signs.
    pub authority: Authority,
    /// What is under way.
    pub rotations: Rotations,
}

/// As it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptTexts {
    texts: Texts,
    rotation: Option<String>,
}

/// What was read.
#[derive(Debug)]
pub enum Read {
    /// There is no authority yet.
    Nothing,
    /// It was kept whole.
    Whole(Kept),
    /// A part of it is new, and has to be kept.
    Amended(Kept),
}

/// Why what is kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] NotParsed),
    /// How far its rotation is.
    #[error("{ROTATION} cannot be used; move it away to go on without a rotation")]
    Rotation(#[source] serde_json::Error),
}

/// Why a rotation was not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// One at a time.
    #[error("a rotation of the {0} is under way")]
    UnderWay(Kind),
    /// The keys for it are elsewhere, or cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Proxies are waited for at one step of a root's rotation alone.
    #[error("no rotation is under way that waits for proxies to acknowledge trust anchors")]
    NothingToLeaveOut,
    /// Whoever leaves out so many means something else.
    #[error("a rotation leaves out no more than {LEFT_OUT_LIMIT} pods")]
    TooManyLeftOut,
}

impl KeptTexts {
    /// Takes each text by its name.
    pub fn read(mut text: impl FnMut(&'static str) -> Option<Zeroizing<String>>) -> Self {
        let mut public = |name| text(name).map(|text| text.to_string());
        let (trust_anchors, rotation) = (public(TRUST_ANCHORS), public(ROTATION));
        let texts = Texts {
            root: text(ROOT),
            next_root: text(NEXT_ROOT),
            issuer: text(ISSUER),
            trust_anchors,
        };
        Self { texts, rotation }
    }

    /// A text by its name; `None`: there is none, and there should be none where it is kept.
    pub fn get(&self, name: &str) -> Option<&str> {
        match name {
            ROOT => self.texts.root.as_ref().map(|text| text.as_str()),
            NEXT_ROOT => self.texts.next_root.as_ref().map(|text| text.as_str()),
            ISSUER => self.texts.issuer.as_ref().map(|text| text.as_str()),
            TRUST_ANCHORS => self.texts.trust_anchors.as_deref(),
            ROTATION => self.rotation.as_deref(),
            _ => None,
        }
    }
}

impl Kept {
    /// A new authority.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<Self, AuthorityError> {
        let authority = Authority::create(trust_domain.clone(), now)?;
        Ok(Self { authority, rotations: Rotations::default() })
    }

    /// Reads what is kept. Refuses what [`Authority::from_texts`] refuses, rather than replace a trust
    /// anchor that others trust.
    pub fn read(
        texts: &KeptTexts,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Read, Unreadable> {
        let rotations = match &texts.rotation {
            None => Rotations::default(),
            Some(text) => serde_json::from_str(text).map_err(Unreadable::Rotation)?,
        };
        Ok(match Authority::from_texts(&texts.texts, trust_domain, now)? {
            Parsed::Nothing => Read::Nothing,
            Parsed::Whole(authority) => Read::Whole(Self { authority, rotations }),
            Parsed::WithNewIssuer(authority) => Read::Amended(Self { authority, rotations }),
        })
    }

    /// As it is kept.
    pub fn to_texts(&self) -> KeptTexts {
        // Nothing in it can fail to be JSON.
        let rotation = serde_json::to_string(&self.rotations).ok();
        KeptTexts { texts: self.authority.to_texts(), rotation }
    }

    /// Begins a rotation, with its first step.
    pub fn begin(&self, kind: Kind, now: SystemTime) -> Result<Self, NotBegun> {
        if let Some(current) = &self.rotations.current {
            return Err(NotBegun::UnderWay(current.kind));
        }
        let (authority, longest_leaf) = match kind {
            Kind::Root => (self.authority.with_next_root(now)?, self.rotations.longest_leaf),
            Kind::Issuer => (self.authority.with_new_issuer(now)?, None),
        };
        let current = Some(Rotation::begun(kind, self.rotations.longest_leaf, now));
        let rotations = Rotations { current, longest_leaf, ..self.rotations.clone() };
        Ok(Self { authority, rotations })
    }

    /// A new issuer while a trust anchor is announced, which may take long: below the anchor of before.
    /// What is kept of lifetimes goes on, since it is of both issuers from now on.
    pub fn with_issuer_renewed(&self, now: SystemTime) -> Result<Self, AuthorityError> {
        let authority = self.authority.with_new_issuer(now)?;
        Ok(Self { authority, rotations: self.rotations.clone() })
    }

    /// The same, with pods whose proxies are not waited for.
    pub fn leaving_out(&self, pods: &[LeftOut]) -> Result<Self, NotBegun> {
        let mut rotations = self.rotations.clone();
        let current = rotations.current.as_mut().filter(|one| one.step == Step::Announced);
        let current = current.ok_or(NotBegun::NothingToLeaveOut)?;
        for pod in pods {
            if !current.without.contains(pod) {
                current.without.push(pod.clone());
            }
        }
        if current.without.len() > LEFT_OUT_LIMIT {
            return Err(NotBegun::TooManyLeftOut);
        }
        Ok(Self { authority: self.authority.clone(), rotations })
    }

    /// The same, with certificates of this lifetime allowed for; `None`: they are already.
    pub fn allowing(&self, leaf_lifetime: Duration) -> Option<Self> {
        let seconds = leaf_lifetime.as_secs();
        if self.rotations.longest_leaf.is_some_and(|longest| longest >= seconds) {
            return None;
        }
        let rotations = Rotations { longest_leaf: Some(seconds), ..self.rotations.clone() };
        Some(Self { authority: self.authority.clone(), rotations })
    }

    /// What follows from a move; `None`: nothing, since it is to wait.
    pub fn after(&self, next: &Move, now: SystemTime) -> Result<Option<Self>, AuthorityError> {
        let Some(rotation) = &self.rotations.current else { return Ok(None) };
        let at =
            |step| Rotations { current: Some(rotation.at(step, now)), ..self.rotations.clone() };
        let (authority, rotations) = match next {
            Move::Wait(_) => return Ok(None),
            Move::Switch => {
                let switched = rotation.at(Step::Switched, now);
                let current =
                    Some(Rotation { longest_leaf: self.rotations.longest_leaf, ..switched });
                let rotations = Rotations { current, longest_leaf: None, ..self.rotations.clone() };
                (self.authority.with_switched_issuer(now)?, rotations)
            }
            Move::TurnOver => (self.authority.clone(), at(Step::TurningOver)),
            Move::End => (
                match rotation.kind {
                    Kind::Root => self.authority.with_current_anchor_only()?,
                    Kind::Issuer => self.authority.clone(),
                },
                Rotations {
                    current: None,
                    last: Some(rotation.ended(now)),
                    longest_leaf: self.rotations.longest_leaf,
                },
            ),
        };
        Ok(Some(Self { authority, rotations }))
    }
}

/// Whoever has more that do not acknowledge has another problem.
const LEFT_OUT_LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        heddle_runtime::clock::now()
    }

    fn kept() -> Kept {
        Kept::create(&"cluster.local".parse().unwrap(), now()).unwrap()
    }

    fn written_and_read(kept: &Kept) -> Kept {
        let texts = kept.to_texts();
        let copied =
            KeptTexts::read(|name| texts.get(name).map(|text| Zeroizing::new(text.to_owned())));
        assert_eq!(copied, texts);
        let read = Kept::read(&copied, &"cluster.local".parse().unwrap(), now()).unwrap();
        let Read::Whole(kept) = read else { panic!("{read:?}") };
        kept
    }

    #[test]
    fn a_rotation_goes_on_from_what_is_kept_after_each_step() {
        let first = kept();
        let mut kept = written_and_read(&first.begin(Kind::Root, now()).unwrap());
        assert!(matches!(kept.begin(Kind::Issuer, now()), Err(NotBegun::UnderWay(Kind::Root))));
        let wait = Move::Wait(crate::identity::rotation::Waiting::TrustAnchors);
        assert!(kept.after(&wait, now()).unwrap().is_none());
        for (next, step, anchors) in [
            (Move::Switch, Some(Step::Switched), 2),
            (Move::TurnOver, Some(Step::TurningOver), 2),
            (Move::End, None, 1),
        ] {
            kept = written_and_read(&kept.after(&next, now()).unwrap().unwrap());
            let current = kept.rotations.current.as_ref().map(|rotation| rotation.step);
            assert_eq!(current, step, "after {next:?}");
            assert_eq!(kept.authority.bundle().anchors_der().count(), anchors, "after {next:?}");
        }
        assert_ne!(kept.authority.bundle(), first.authority.bundle());
        assert_eq!(kept.rotations.last.unwrap().kind, Kind::Root);
    }

    #[test]
    fn an_issuer_is_replaced_below_the_same_anchor() {
        let first = kept();
        let begun = written_and_read(&first.begin(Kind::Issuer, now()).unwrap());
        assert_ne!(begun.authority.issuer_digest(), first.authority.issuer_digest());
        let ended = begun.after(&Move::TurnOver, now()).unwrap().unwrap();
        let ended = ended.after(&Move::End, now() + Duration::from_secs(9)).unwrap().unwrap();
        assert_eq!(ended.authority.bundle(), first.authority.bundle());
        assert!(ended.after(&Move::End, now()).unwrap().is_none());
    }

    #[test]
    fn certificates_that_lived_longer_when_they_were_signed_are_waited_for() {
        let day = Duration::from_secs(86_400);
        let hour = Duration::from_secs(3_600);
        let longest = |kept: &Kept| {
            let of_before =
                kept.rotations.current.as_ref().and_then(|current| current.longest_leaf);
            (of_before, kept.rotations.longest_leaf)
        };
        let first = kept().allowing(day).unwrap();
        assert!(first.allowing(hour).is_none(), "those of a day live on");
        let begun = first.begin(Kind::Issuer, now()).unwrap().allowing(hour).unwrap();
        assert_eq!(longest(&written_and_read(&begun)), (Some(86_400), Some(3_600)));
        let announced = first.begin(Kind::Root, now()).unwrap();
        assert_eq!(longest(&announced), (None, Some(86_400)));
        // Two issuers have signed before the switch; the longer of the two lifetimes counts.
        let renewed = announced.with_issuer_renewed(now()).unwrap();
        assert_ne!(renewed.authority.issuer_digest(), announced.authority.issuer_digest());
        assert_eq!(renewed.authority.bundle(), announced.authority.bundle());
        assert!(renewed.authority.has_next_root());
        let switched = renewed.after(&Move::Switch, now()).unwrap().unwrap();
        assert_eq!(longest(&switched.allowing(hour).unwrap()), (Some(86_400), Some(3_600)));
        let ended = switched.after(&Move::TurnOver, now()).unwrap().unwrap();
        let ended = ended.allowing(hour).unwrap().after(&Move::End, now()).unwrap().unwrap();
        assert_eq!(longest(&ended), (None, Some(3_600)));
    }

    #[test]
    fn a_proxy_is_left_out_only_while_proxies_are_waited_for() {
        let pod = LeftOut { pod_uid: "u-1".to_owned(), name: "shop/api".to_owned() };
        let first = kept();
        let refused = first.leaving_out(std::slice::from_ref(&pod)).unwrap_err();
        assert!(matches!(refused, NotBegun::NothingToLeaveOut));
        let announced = first.begin(Kind::Root, now()).unwrap();
        let left_out = announced.leaving_out(&[pod.clone(), pod.clone()]).unwrap();
        let current = written_and_read(&left_out).rotations.current.unwrap();
        assert_eq!(current.without, std::slice::from_ref(&pod));
        let many: Vec<_> = (0..=LEFT_OUT_LIMIT)
            .map(|index| LeftOut { pod_uid: format!("u-{index}"), name: String::new() })
            .collect();
        assert!(matches!(announced.leaving_out(&many), Err(NotBegun::TooManyLeftOut)));
        let switched = left_out.after(&Move::Switch, now()).unwrap().unwrap();
        assert!(matches!(switched.leaving_out(&[pod]), Err(NotBegun::NothingToLeaveOut)));
    }

    /// A directory is written one text after the other, and the machine may lose power at any time.
    #[test]
    fn whatever_is_written_last_can_be_read() {
        let announced = kept().begin(Kind::Root, now()).unwrap();
        let switched = announced.after(&Move::Switch, now()).unwrap().unwrap();
        let ended = switched.after(&Move::TurnOver, now()).unwrap().unwrap();
        let ended = ended.after(&Move::End, now()).unwrap().unwrap();
        let (first, domain) = (kept(), "cluster.local".parse().unwrap());
        for (case, before, after) in [
            ("the first", None, first.clone()),
            ("a new anchor", Some(first.clone()), first.begin(Kind::Root, now()).unwrap()),
            ("a new issuer", Some(first.clone()), first.begin(Kind::Issuer, now()).unwrap()),
            ("the issuer below a new anchor", Some(announced), switched.clone()),
            ("the end", Some(switched), ended),
        ] {
            let (old, new) = (before.map(|kept| kept.to_texts()), after.to_texts());
            for written in 0..=NAMES.len() {
                let texts = KeptTexts::read(|name| {
                    let position = NAMES.iter().position(|one| *one == name).unwrap();
                    let from = if position < written { Some(&new) } else { old.as_ref() };
                    from?.get(name).map(|text| Zeroizing::new(text.to_owned()))
                });
                let read = Kept::read(&texts, &domain, now());
                let read =
                    read.unwrap_or_else(|error| panic!("{case}, {written} written: {error}"));
                assert_eq!(matches!(read, Read::Nothing), old.is_none() && written < 2, "{case}");
            }
        }
    }
}
