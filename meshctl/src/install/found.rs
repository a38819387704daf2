//! What is installed already, and whether this meshctl may install over it.

use std::collections::BTreeSet;

use heddle_model::installation::CONTROL_PLANE_SELECTOR;
use serde_json::{Map, Value};

use super::plan::{self, MANAGED_BY};
use super::tell;
use super::version::{self, Step};
use crate::chart::kind::Kind;
use crate::chart::manifest::{Manifest, ObjectId};
use crate::failure::Failure;
use crate::kubernetes::client::Cluster;
use crate::kubernetes::field;
use crate::kubernetes::objects::Filter;

/// A mesh in the cluster, by the Deployment of its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Where it is.
    pub namespace: String,
    /// Who installed it: `meshctl`, `Helm`.
    pub managed_by: String,
    /// Its version.
    pub version: String,
}

/// All meshes in the cluster; more than one is a mistake, since they would share names.
pub async fn meshes(cluster: &Cluster) -> Result<Vec<Mesh>, Failure> {
    let filter = Filter { labels: CONTROL_PLANE_SELECTOR, ..Filter::default() };
    let deployments = cluster.list(&Kind::Deployment.resource(), filter).await?;
    Ok(deployments.iter().map(mesh).collect())
}

fn mesh(deployment: &Value) -> Mesh {
    Mesh {
        namespace: field::namespace(deployment).to_owned(),
        managed_by: field::label(deployment, "app.kubernetes.io/managed-by").to_owned(),
        version: field::label(deployment, "app.kubernetes.io/version").to_owned(),
    }
}

/// Whether a mesh of this version may be installed into the namespace.
pub fn may_install(meshes: &[Mesh], namespace: &str, version: &str) -> Result<(), Failure> {
    let Some(mesh) = only(meshes, namespace)? else {
        return Ok(());
    };
    by_meshctl(mesh)?;
    let what = || {
        let there = &mesh.version;
        format!(
            "version {there} of the mesh is in {namespace}, and this meshctl installs {version}"
        )
    };
    match version::step(&mesh.version, version) {
        Ok(Step::Same) => Ok(()),
        Ok(Step::Forward) => {
            let remedy = format!("say so: `meshctl upgrade --mesh-namespace {namespace} --apply`");
            Err(Failure::new(what(), remedy))
        }
        Err(sentence) => {
            let remedy = "take the meshctl of the version that is there, or of one that may follow";
            Err(Failure::new(what(), remedy).because_of(sentence))
        }
    }
}

/// Whether the mesh in the namespace may be upgraded to this version; from which.
pub fn may_upgrade(meshes: &[Mesh], namespace: &str, version: &str) -> Result<String, Failure> {
    let Some(mesh) = only(meshes, namespace)? else {
        return Err(Failure::new(
            format!("there is no mesh in {namespace} to upgrade"),
            "install it (`meshctl install --apply`), or give the --mesh-namespace that it is in",
        ));
    };
    by_meshctl(mesh)?;
    match version::step(&mesh.version, version) {
        Ok(Step::Same | Step::Forward) => Ok(mesh.version.clone()),
        Err(sentence) => Err(Failure::new(
            format!("cannot upgrade the mesh in {namespace}"),
            "take the meshctl of a version that may follow",
        )
        .because_of(sentence)),
    }
}

/// The mesh in the namespace; fails when there is one elsewhere.
fn only<'a>(meshes: &'a [Mesh], namespace: &str) -> Result<Option<&'a Mesh>, Failure> {
    if let Some(other) = meshes.iter().find(|mesh| mesh.namespace != namespace) {
        return Err(Failure::new(
            format!("there is a mesh in the namespace {} already", other.namespace),
            format!(
                "name it (`--mesh-namespace {0}`), or uninstall it: `meshctl uninstall --mesh-namespace {0}`",
                other.namespace
            ),
        )
        .because_of(
            "a cluster has one mesh: two would write the same ClusterRoles and the same webhook",
        ));
    }
    Ok(meshes.first())
}

fn by_meshctl(mesh: &Mesh) -> Result<(), Failure> {
    if mesh.managed_by == MANAGED_BY {
        return Ok(());
    }
    let what = format!("the mesh in {} was installed by {}", mesh.namespace, mesh.managed_by);
    let remedy =
        format!("leave it to {}: `helm upgrade heddle ... -n {}`", mesh.managed_by, mesh.namespace);
    Err(Failure::new(what, remedy))
}

/// What the mesh was installed with; nothing, with a warning, where that is not recorded.
pub async fn recorded_values(cluster: &Cluster) -> Result<Value, Failure> {
    let resource = Kind::ConfigMap.resource();
    let namespace = Some(cluster.mesh_namespace.as_str());
    let record = cluster.get(&resource, namespace, plan::VALUES_CONFIG_MAP).await?;
    let Some(record) = record else {
        tell(&format!(
            "warning: there is no ConfigMap {}, so the defaults are taken\n",
            plan::VALUES_CONFIG_MAP
        ));
        return Ok(Value::Object(Map::new()));
    };
    plan::recorded(&record).ok_or_else(|| {
        Failure::new(
            format!("the ConfigMap {} cannot be read", plan::VALUES_CONFIG_MAP),
            "give all values (`-f`, `--set`) and say --reset-values",
        )
    })
}

/// Objects of an earlier version that are not among these. Definitions of resources stay: with them went their objects.
pub async fn stale(cluster: &Cluster, manifests: &[Manifest]) -> Result<Vec<ObjectId>, Failure> {
    let wanted: BTreeSet<ObjectId> = manifests.iter().map(Manifest::id).collect();
    let mut stale = applied(cluster).await?;
    stale.retain(|id| {
        !wanted.contains(id)
            && id.kind != Kind::Namespace
            && id.kind != Kind::CustomResourceDefinition
    });
    Ok(stale)
}

/// All objects that `meshctl install` applied, in the order of their kinds.
pub async fn applied(cluster: &Cluster) -> Result<Vec<ObjectId>, Failure> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let namespace = kind.is_namespaced().then_some(cluster.mesh_namespace.as_str());
        let filter = Filter { namespace, labels: plan::SELECTOR, ..Filter::default() };
        for object in cluster.list(&kind.resource(), filter).await? {
            let namespace = kind.is_namespaced().then(|| field::namespace(&object).to_owned());
            found.push(ObjectId { kind, namespace, name: field::name(&object).to_owned() });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(namespace: &str, managed_by: &str, version: &str) -> Mesh {
        Mesh {
            namespace: namespace.to_owned(),
            managed_by: managed_by.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn a_mesh_is_installed_once_and_then_upgraded() {
        for (case, meshes, installs, upgrades) in [
            ("none", vec![], true, false),
            ("the same", vec![mesh("m", "meshctl", "0.2.0")], true, true),
            ("older", vec![mesh("m", "meshctl", "0.1.0")], false, true),
            ("newer", vec![mesh("m", "meshctl", "0.3.0")], false, false),
            ("of Helm", vec![mesh("m", "Helm", "0.2.0")], false, false),
            ("elsewhere", vec![mesh("other", "meshctl", "0.2.0")], false, false),
            ("no version", vec![mesh("m", "meshctl", "")], false, false),
        ] {
            assert_eq!(may_install(&meshes, "m", "0.2.0").is_ok(), installs, "case: {case}");
            assert_eq!(may_upgrade(&meshes, "m", "0.2.0").is_ok(), upgrades, "case: {case}");
        }
    }

    #[test]
    fn a_refusal_names_the_way_on() {
        let older = may_install(&[mesh("m", "meshctl", "0.1.0")], "m", "0.2.0").unwrap_err();
        assert!(
            older.to_string().contains("meshctl upgrade --mesh-namespace m --apply"),
            "{older}"
        );
        let newer = may_upgrade(&[mesh("m", "meshctl", "0.3.0")], "m", "0.2.0").unwrap_err();
        assert!(newer.to_string().contains("the mesh is at 0.3.0"), "{newer}");
    }
}
