//! Which custom kinds a cluster serves, and at which versions. A kind that is not there is looked for
//! again and again; one that was there counts as gone only when its definition is gone: an API server
//! that just started may serve a part of its kinds only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::source::kubernetes::kind::{Definition, KINDS, Kind};

/// Where kinds are served, by name. Those that are not in it are not decided yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog(BTreeMap<&'static str, Served>);

/// Where a kind is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// At this group and version.
    At(&'static str),
    /// Nowhere, for now.
    Absent,
}

impl Catalog {
    /// Where a kind is served; `None`: that is not known yet.
    pub fn of(&self, kind: &Kind) -> Option<Served> {
        match kind.definition {
            Definition::BuiltIn(api_version) => Some(Served::At(api_version)),
            Definition::Custom(_) => self.0.get(kind.kind).copied(),
        }
    }
}

/// Looks which kinds there are.
pub struct Explorer {
    client: Client,
    catalog: watch::Sender<Catalog>,
    look_again: Arc<Notify>,
}

impl Explorer {
    /// Tells `catalog`; looks at once when `look_again` says so.
    pub fn new(client: Client, catalog: watch::Sender<Catalog>, look_again: Arc<Notify>) -> Self {
        Self { client, catalog, look_again }
    }

    /// Looks for as long as it is polled.
    pub async fn run(self) {
        loop {
            match timeout(LOOK_TIMEOUT, self.look()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    warn!(%error, "cannot find out which kinds the API server has; trying again");
                }
                Err(_) => warn!("the API server does not say which kinds it has; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.look_again.notified() => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
    }

    async fn look(&self) -> Result<(), kube::Error> {
        let served = self.served().await?;
        let former = self.catalog.borrow().clone();
        let mut found = Catalog::default();
        for kind in &KINDS {
            let Definition::Custom(versions) = kind.definition else { continue };
            let before = former.of(kind);
            let at = served.get(kind.kind).and_then(|served| newest(versions, served));
            let now = match (at, before) {
                (Some(version), _) => Some(Served::At(version)),
                (None, Some(Served::Absent)) => Some(Served::Absent),
                (None, _) if self.is_absent(kind, versions).await? => Some(Served::Absent),
                (None, before) => before,
            };
            if now != before {
                match now {
                    Some(Served::At(version)) => info!(kind = kind.kind, version, "kind found"),
                    Some(Served::Absent) => {
                        info!(kind = kind.kind, "the API server has no such kind; waiting for it");
                    }
                    None => {}
                }
            }
            if let Some(now) = now {
                found.0.insert(kind.kind, now);
            }
        }
        self.catalog.send_if_modified(|catalog| {
            let differs = *catalog != found;
            *catalog = found;
            differs
        });
        Ok(())
    }

    /// The groups and versions that serve each kind, of those that are read.
    async fn served(&self) -> Result<BTreeMap<String, BTreeSet<String>>, kube::Error> {
        let wanted: BTreeSet<&str> = KINDS
            .iter()
            .filter_map(|kind| match kind.definition {
                Definition::Custom(versions) => Some(versions),
                Definition::BuiltIn(_) => None,
            })
            .flatten()
            .copied()
            .collect();
        let groups = self.client.list_api_groups().await?;
        let versions = groups.groups.into_iter().flat_map(|group| group.versions);
        let versions = versions.map(|version| version.group_version);
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for version in versions.filter(|version| wanted.contains(version.as_str())) {
            let resources = match self.client.list_api_group_resources(&version).await {
                Ok(resources) => resources.resources,
                Err(kube::Error::Api(status)) if status.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            // Those with a slash are parts of others.
            for resource in resources.into_iter().filter(|one| !one.name.contains('/')) {
                found.entry(resource.kind).or_default().insert(version.clone());
            }
        }
        Ok(found)
    }

    /// Whether a kind that is not served is not defined either, or not at a version that is read.
    async fn is_absent(&self, kind: &Kind, versions: &[&str]) -> Result<bool, kube::Error> {
        let definitions: Api<DynamicObject> = Api::all_with(self.client.clone(), &definition());
        let name = format!("{}.{}", kind.plural, kind.group());
        let Some(found) = definitions.get_opt(&name).await? else { return Ok(true) };
        let served = served_versions(&found.data);
        let known = served.iter().any(|version| {
            let api_version = format!("{}/{version}", kind.group());
            versions.contains(&api_version.as_str())
        });
        if !known {
            warn!(
                kind = kind.kind,
                version = served.join(","),
                "no version of this kind is known that the API server has; waiting for one"
            );
        }
        Ok(!known)
    }
}

impl std::fmt::Debug for Explorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explorer").finish_non_exhaustive()
    }
}

/// The versions that a CustomResourceDefinition serves.
fn served_versions(definition: &Value) -> Vec<&str> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
    let served = versions
        .into_iter()
        .flatten()
        .filter(|version| version.get("served").and_then(Value::as_bool) == Some(true));
    served.filter_map(|version| version.get("name").and_then(Value::as_str)).collect()
}

/// The newest version of those that are served.
fn newest(read: &[&'static str], served: &BTreeSet<String>) -> Option<&'static str> {
    let of_both = read.iter().copied().filter(|version| served.contains(*version));
    of_both.max_by_key(|version| age(version))
}

/// Orders versions as Kubernetes does: v2 after v1 after v1beta1 after v1alpha2.
fn age(api_version: &str) -> (u32, u32, u32) {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let version = version.strip_prefix('v').unwrap_or(version);
    let number = |text: &str| text.parse().unwrap_or(0);
    if let Some((major, minor)) = version.split_once("beta") {
        return (1, number(major), number(minor));
    }
    if let Some((major, minor)) = version.split_once("alpha") {
        return (0, number(major), number(minor));
    }
    (2, number(version), 0)
}

fn definition() -> ApiResource {
    ApiResource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
    }
}

/// How soon a kind is found that was not there before.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long the API server may take for all kinds.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);
/// Several watches that fail at once ask once.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_version_that_is_served_and_read_is_taken() {
        let read = ["g/v1alpha2", "g/v1alpha10", "g/v1beta1", "g/v1", "g/v2alpha1"];
        for (case, served, expected) in [
            ("nothing", vec![], None),
            ("one that is not read", vec!["g/v3"], None),
            ("stable before everything", vec!["g/v1", "g/v2alpha1", "g/v1beta1"], Some("g/v1")),
            ("beta before alpha", vec!["g/v1beta1", "g/v2alpha1"], Some("g/v1beta1")),
            ("numbers are numbers", vec!["g/v1alpha2", "g/v1alpha10"], Some("g/v1alpha10")),
        ] {
            let served = served.into_iter().map(str::to_owned).collect();
            assert_eq!(newest(&read, &served), expected, "case: {case}");
        }
    }

    #[test]
    fn a_definition_tells_which_versions_it_serves() {
        let definition = json!({"spec": {"versions": [
            {"name": "v1", "served": true}, {"name": "v1beta1", "served": false}]}});
        assert_eq!(served_versions(&definition), ["v1"]);
        assert_eq!(served_versions(&json!({})), [""; 0]);
    }
}
