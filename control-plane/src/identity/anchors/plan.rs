//! Which namespaces lack the trust anchors. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The label of all that is the mesh's.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Its value.
pub const HEDDLE: &str = "heddle";

/// The ConfigMap that was found in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// It is the mesh's, by its label.
    pub ours: bool,
    /// The anchors in it; empty: none.
    pub text: String,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where to write the anchors, and whether there is a ConfigMap of ours to write them to.
    pub write: Vec<(String, bool)>,
    /// Where somebody else's is in the way.
    pub foreign: Vec<String>,
}

/// Decides. Ours are kept current also where they are not wanted any more: a pod may still be there.
pub fn plan(
    wanted: impl IntoIterator<Item = String>,
    found: &BTreeMap<String, Found>,
    text: &str,
) -> Plan {
    let ours = found.iter().filter(|(_, found)| found.ours).map(|(name, _)| name.clone());
    let all: BTreeSet<String> = wanted.into_iter().chain(ours).collect();
    let mut plan = Plan::default();
    for namespace in all {
        match found.get(&namespace) {
            None => plan.write.push((namespace, false)),
            Some(found) if !found.ours => plan.foreign.push(namespace),
            Some(found) if found.text != text => plan.write.push((namespace, true)),
            Some(_) => {}
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_written_where_they_lack_and_never_over_what_is_not_ours() {
        let found = |ours, text: &str| Found { ours, text: text.to_owned() };
        for (case, wanted, there, write, foreign) in [
            ("a new namespace", true, None, Some(false), false),
            ("as it should be", true, Some(found(true, "new")), None, false),
            ("edited, or of before", true, Some(found(true, "old")), Some(true), false),
            ("emptied", true, Some(found(true, "")), Some(true), false),
            ("somebody else's", true, Some(found(false, "old")), None, true),
            ("not wanted any more", false, Some(found(true, "old")), Some(true), false),
            ("somebody else's, not wanted", false, Some(found(false, "old")), None, false),
            ("not wanted", false, None, None, false),
        ] {
            let wanted = wanted.then(|| "shop".to_owned());
            let there = there.map(|found| ("shop".to_owned(), found)).into_iter().collect();
            let expected = Plan {
                write: write.map(|exists| ("shop".to_owned(), exists)).into_iter().collect(),
                foreign: foreign.then(|| "shop".to_owned()).into_iter().collect(),
            };
            assert_eq!(plan(wanted, &there, "new"), expected, "case: {case}");
        }
    }
}
