//! Which namespaces lack the trust anchors, and which cannot have them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use heddle_model::installation::{HEDDLE, PART_OF};
use heddle_tls::digest::Digest;

/// The ConfigMap that was found in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// It is the mesh's, by its label.
    pub ours: bool,
    /// Nobody can write to it any more.
    pub immutable: bool,
    /// Of the anchors in it; of nothing, if there are none.
    pub text: Digest,
}

/// Why a namespace is not given the anchors. Whatever is done there is done to proxies there alone, so that
/// nobody else waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Somebody else's ConfigMap has the name.
    Foreign,
    /// Ours was made immutable with something else in it.
    Immutable,
    /// The API server does not take it there, for this reason.
    Refused(String),
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where to write the anchors, and whether there is a ConfigMap of ours to write them to.
    pub write: Vec<(String, bool)>,
    /// Where they cannot be written, and why.
    pub lacking: BTreeMap<String, Lack>,
}

/// What there is to decide from.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// By namespace.
    pub found: &'a BTreeMap<String, Found>,
    /// Where a write was refused lately, and why.
    pub refused: &'a BTreeMap<String, String>,
}

/// Decides. Ours are kept current also where they are not wanted any more: a pod may still be there.
pub fn plan(wanted: impl IntoIterator<Item = String>, seen: Seen<'_>, text: Digest) -> Plan {
    let Seen { found, refused } = seen;
    let ours = found.iter().filter(|(_, found)| found.ours).map(|(name, _)| name.clone());
    let all: BTreeSet<String> = wanted.into_iter().chain(ours).collect();
    let mut plan = Plan::default();
    for namespace in all {
        let found = found.get(&namespace);
        let lack = match (found, refused.get(&namespace)) {
            (Some(found), _) if !found.ours => Lack::Foreign,
            (Some(found), _) if found.text == text => continue,
            (Some(found), _) if found.immutable => Lack::Immutable,
            (Some(_) | None, Some(reason)) => Lack::Refused(reason.clone()),
            (Some(_) | None, None) => {
                plan.write.push((namespace, found.is_some()));
                continue;
            }
        };
        plan.lacking.insert(namespace, lack);
    }
    plan
}

/// What is read after "the trust anchors cannot be kept".
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => write!(
                f,
                "the ConfigMap is not the mesh's (no label {PART_OF}: {HEDDLE}); it is left alone: \
                 rename it, or delete it"
            ),
            Self::Immutable => {
                f.write_str("the ConfigMap is immutable, and holds other ones: delete it")
            }
            Self::Refused(reason) => write!(f, "the API server refuses: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use heddle_tls::digest;

    use super::*;

    #[test]
    fn anchors_are_written_where_they_lack_and_never_over_what_is_not_ours() {
        let text = |text: &str| digest::of(text.as_bytes());
        let found = |ours, held: &str| Found { ours, immutable: false, text: text(held) };
        let fixed = |ours, held: &str| Found { immutable: true, ..found(ours, held) };
        let refused = || Lack::Refused("no".to_owned());
        for (case, wanted, there, refuses, write, lack) in [
            ("a new namespace", true, None, false, Some(false), None),
            ("as it should be", true, Some(found(true, "new")), false, None, None),
            ("edited, or of before", true, Some(found(true, "old")), false, Some(true), None),
            ("emptied", true, Some(found(true, "")), false, Some(true), None),
            ("somebody else's", true, Some(found(false, "old")), false, None, Some(Lack::Foreign)),
            ("not wanted any more", false, Some(found(true, "old")), false, Some(true), None),
            ("somebody else's, not wanted", false, Some(found(false, "old")), false, None, None),
            ("not wanted", false, None, false, None, None),
            ("immutable", true, Some(fixed(true, "old")), false, None, Some(Lack::Immutable)),
            ("immutable, and as it should be", true, Some(fixed(true, "new")), false, None, None),
            (
                "immutable, not wanted",
                false,
                Some(fixed(true, "old")),
                false,
                None,
                Some(Lack::Immutable),
            ),
            ("refused", true, Some(found(true, "old")), true, None, Some(refused())),
            ("refused, and new", true, None, true, None, Some(refused())),
            (
                "refused, and as it should be by now",
                true,
                Some(found(true, "new")),
                true,
                None,
                None,
            ),
        ] {
            let shop = || "shop".to_owned();
            let there = there.map(|found| (shop(), found)).into_iter().collect();
            let refused = refuses.then(|| (shop(), "no".to_owned())).into_iter().collect();
            let expected = Plan {
                write: write.map(|exists| (shop(), exists)).into_iter().collect(),
                lacking: lack.map(|lack| (shop(), lack)).into_iter().collect(),
            };
            let seen = Seen { found: &there, refused: &refused };
            assert_eq!(plan(wanted.then(shop), seen, text("new")), expected, "case: {case}");
        }
    }
}
