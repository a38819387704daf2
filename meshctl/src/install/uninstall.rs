//! `meshctl uninstall`: what is deleted and what stays, with the reason. Nothing is deleted that is not named first.

use std::time::Duration;

use heddle_injector::annotations::INJECTED;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::Value;

use super::arguments::{DeletionFormat, UninstallArguments};
use super::found::{self, CONTROL_PLANE};
use super::plan::MANAGED_BY;
use super::tell;
use crate::chart::kind::Kind;
use crate::chart::manifest::ObjectId;
use crate::failure::Failure;
use crate::kubernetes::client::{self, Cluster};
use crate::kubernetes::field;
use crate::kubernetes::objects::{Filter, resource};
use crate::output::{self, Colour};
use crate::run::Ending;
use crate::table::{self, Cell};

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It is deleted.
    Delete,
    /// It stays.
    Keep,
}

/// An object, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// Its kind.
    pub kind: String,
    /// Where it is; empty: in no namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What happens to it.
    pub fate: Fate,
    /// Why.
    pub reason: String,
    #[serde(skip)]
    resource: ApiResource,
}

/// What is in the cluster of the mesh.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What `meshctl install` applied, in the order of kinds.
    pub applied: Vec<ObjectId>,
    /// What the mesh itself made: resource, namespace and name.
    pub made: Vec<(ApiResource, String, String)>,
    /// The Secret of the authority is there.
    pub authority: bool,
    /// Definitions of heddle.dev, with the number of their objects.
    pub definitions: Vec<(String, usize)>,
    /// The mesh's namespace was made by `meshctl install`; `None`: it is not there.
    pub own_namespace: Option<bool>,
}

/// `meshctl uninstall`.
pub async fn run(arguments: UninstallArguments, colour: Colour) -> Result<Ending, Failure> {
    let cluster = client::connect(&arguments.mesh.cluster()).await?;
    let namespace = arguments.mesh.namespace.as_str();
    let meshes = found::meshes(&cluster).await?;
    let foreign =
        meshes.iter().find(|mesh| mesh.namespace == namespace && mesh.managed_by != MANAGED_BY);
    if let Some(mesh) = foreign {
        return Err(Failure::new(
            format!("the mesh in {namespace} was installed by {}", mesh.managed_by),
            format!(
                "begin with `helm uninstall heddle -n {namespace}`; then `meshctl uninstall` removes what the mesh made itself"
            ),
        ));
    }
    let facts = facts(&cluster).await?;
    let items = items(&facts, namespace, arguments.purge);
    output::print(&rendered(&items, arguments.output, colour)?)?;
    warn_of_proxies(&cluster).await?;
    if !arguments.apply {
        tell("nothing was deleted: say --apply to do it\n");
        return Ok(Ending::Good);
    }
    delete(&cluster, &items, arguments.timeout.0).await?;
    tell("done\n");
    Ok(Ending::Good)
}

async fn facts(cluster: &Cluster) -> Result<Facts, Failure> {
    let namespace = cluster.mesh_namespace.as_str();
    let mut made = Vec::new();
    let secrets = resource("v1", "Secret", "secrets");
    let leases = resource("coordination.k8s.io/v1", "Lease", "leases");
    let config_maps = Kind::ConfigMap.resource();
    let own = [
        (&secrets, "heddle-injector-tls"),
        (&leases, "heddle-control-plane"),
        (&config_maps, "heddle-rotation"),
    ];
    for (resource, name) in own {
        if cluster.get(resource, Some(namespace), name).await?.is_some() {
            made.push((resource.clone(), namespace.to_owned(), name.to_owned()));
        }
    }
    let anchors = Filter { fields: "metadata.name=heddle-trust-anchors", ..Filter::default() };
    for object in cluster.list(&config_maps, anchors).await? {
        let (namespace, name) = (field::namespace(&object), field::name(&object));
        made.push((config_maps.clone(), namespace.to_owned(), name.to_owned()));
    }
    let authority = cluster.get(&secrets, Some(namespace), AUTHORITY).await?.is_some();
    let mut definitions = Vec::new();
    let all = cluster.list(&Kind::CustomResourceDefinition.resource(), Filter::default()).await?;
    for object in all.iter().filter(|object| field::text(object, "/spec/group") == GROUP) {
        definitions.push((field::name(object).to_owned(), count(cluster, object).await?));
    }
    let found = cluster.get(&Kind::Namespace.resource(), None, namespace).await?;
    let own_namespace =
        found.map(|object| field::label(&object, "app.kubernetes.io/managed-by") == MANAGED_BY);
    let applied = found::applied(cluster).await?;
    Ok(Facts { applied, made, authority, definitions, own_namespace })
}

/// How many objects a definition has.
async fn count(cluster: &Cluster, definition: &Value) -> Result<usize, Failure> {
    let versions = field::list(definition, "/spec/versions");
    let served = versions.iter().find(|version| version.get("served") == Some(&Value::Bool(true)));
    let version = served.map(|version| field::text(version, "/name")).unwrap_or_default();
    let kind = field::text(definition, "/spec/names/kind");
    let plural = field::text(definition, "/spec/names/plural");
    let resource = resource(&format!("{GROUP}/{version}"), kind, plural);
    Ok(cluster.list(&resource, Filter::default()).await?.len())
}

/// What happens to each, in the order in which it happens.
pub fn items(facts: &Facts, namespace: &str, purge: bool) -> Vec<Item> {
    let mut items = Vec::new();
    let mut add =
        |resource: ApiResource, namespace: &str, name: &str, keep: Option<&str>, reason: &str| {
            items.push(Item {
                kind: resource.kind.clone(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                fate: if keep.is_some() { Fate::Keep } else { Fate::Delete },
                reason: keep.unwrap_or(reason).to_owned(),
                resource,
            });
        };
    // The webhook first, so that no pod waits for an injector that is going.
    for id in facts.applied.iter().rev() {
        if !matches!(id.kind, Kind::Namespace | Kind::CustomResourceDefinition) {
            let within = id.namespace.as_deref().unwrap_or_default();
            add(id.kind.resource(), within, &id.name, None, "installed by meshctl");
        }
    }
    for (resource, within, name) in &facts.made {
        add(resource.clone(), within, name, None, "made by the mesh");
    }
    let keep = |reason: &'static str| (!purge).then_some(reason);
    if facts.authority {
        let kept = keep(
            "the authority's keys: a mesh installed again keeps its trust anchors (--purge deletes it)",
        );
        let secrets = resource("v1", "Secret", "secrets");
        add(secrets, namespace, AUTHORITY, kept, "the authority's keys");
    }
    for (name, objects) in &facts.definitions {
        let kept = format!("its {objects} objects would be deleted with it (--purge deletes it)");
        let kept = (!purge).then_some(kept.as_str());
        let reason = format!("with its {objects} objects");
        add(Kind::CustomResourceDefinition.resource(), "", name, kept, &reason);
    }
    match facts.own_namespace {
        None => {}
        Some(true) => {
            let kept = keep("holds what stays (--purge deletes it)");
            add(Kind::Namespace.resource(), "", namespace, kept, "made by meshctl install");
        }
        Some(false) => {
            let kept = Some("not made by meshctl install");
            add(Kind::Namespace.resource(), "", namespace, kept, "");
        }
    }
    items
}

async fn delete(cluster: &Cluster, items: &[Item], patience: Duration) -> Result<(), Failure> {
    let namespace = Some(cluster.mesh_namespace.as_str());
    let doomed = || items.iter().filter(|item| item.fate == Fate::Delete);
    let is_first = |item: &&Item| {
        [Kind::MutatingWebhookConfiguration, Kind::Deployment]
            .map(Kind::resource)
            .contains(&item.resource)
    };
    for item in doomed().filter(is_first) {
        delete_one(cluster, item).await?;
    }
    // A control plane that still runs would make again what is deleted below.
    let pods = Filter { namespace, labels: CONTROL_PLANE, ..Filter::default() };
    let gone = cluster.wait_gone(&resource("v1", "Pod", "pods"), pods, patience).await?;
    if !gone {
        let remedy = "see why its pods do not end (`kubectl describe pods`), and say it again";
        let what = "the control plane still runs, so that what it makes cannot be deleted";
        return Err(Failure::new(what, remedy));
    }
    for item in doomed().filter(|item| !is_first(item)) {
        delete_one(cluster, item).await?;
    }
    for item in doomed() {
        let fields = format!("metadata.name={}", item.name);
        let within = (!item.namespace.is_empty()).then_some(item.namespace.as_str());
        let filter = Filter { namespace: within, fields: &fields, ..Filter::default() };
        if !cluster.wait_gone(&item.resource, filter, patience).await? {
            return Err(Failure::new(
                format!("{} {} is still being deleted", item.kind, item.name),
                "see what holds it: `kubectl get ... -o yaml` names its finalizers",
            ));
        }
    }
    Ok(())
}

async fn delete_one(cluster: &Cluster, item: &Item) -> Result<(), Failure> {
    let within = (!item.namespace.is_empty()).then_some(item.namespace.as_str());
    cluster.delete(&item.resource, within, &item.name).await?;
    tell(&format!("deleted {} {}\n", item.kind, item.name));
    Ok(())
}

/// Proxies outlive the mesh: they go when their pods do.
async fn warn_of_proxies(cluster: &Cluster) -> Result<(), Failure> {
    let pods = cluster.list(&resource("v1", "Pod", "pods"), Filter::default()).await?;
    let mut namespaces = std::collections::BTreeMap::<&str, usize>::new();
    for pod in pods.iter().filter(|pod| field::has_annotation(pod, INJECTED)) {
        *namespaces.entry(field::namespace(pod)).or_default() += 1;
    }
    for (namespace, count) in namespaces {
        tell(&format!(
            "warning: {count} pods of {namespace} have a proxy, which gets no new certificate without a mesh: \
             kubectl label namespace {namespace} heddle.dev/inject-; kubectl rollout restart deployment -n {namespace}\n"
        ));
    }
    Ok(())
}

fn rendered(items: &[Item], format: DeletionFormat, colour: Colour) -> Result<String, Failure> {
    let bug = "report this as a bug of meshctl";
    match format {
        DeletionFormat::Table => Ok(table(items, colour)),
        DeletionFormat::Name => {
            let doomed = items.iter().filter(|item| item.fate == Fate::Delete);
            Ok(doomed.map(|item| format!("{}/{}\n", item.kind.to_lowercase(), item.name)).collect())
        }
        DeletionFormat::Json => serde_json::to_string_pretty(items)
            .map(|text| text + "\n")
            .map_err(|error| Failure::new("cannot write this as JSON", bug).because(&error)),
        DeletionFormat::Yaml => serde_saphyr::to_string(&items)
            .map_err(|error| Failure::new("cannot write this as YAML", bug).because(&error)),
    }
}

fn table(items: &[Item], colour: Colour) -> String {
    if items.is_empty() {
        return "There is nothing of the mesh in this cluster.\n".to_owned();
    }
    let rows: Vec<Vec<Cell>> = items
        .iter()
        .map(|item| {
            let fate = match item.fate {
                Fate::Delete => Cell::bad("delete"),
                Fate::Keep => Cell::good("keep"),
            };
            let plain = |text: &str| Cell::plain(text);
            vec![
                fate,
                plain(&item.kind),
                plain(&item.namespace),
                plain(&item.name),
                plain(&item.reason),
            ]
        })
        .collect();
    table::render(&["", "KIND", "NAMESPACE", "NAME", "WHY"], &rows, colour)
}

/// The Secret with the authority's keys.
const AUTHORITY: &str = "heddle-authority";

/// The group of our own resources.
const GROUP: &str = "heddle.dev";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let id = |kind: Kind, name: &str| ObjectId {
            kind,
            namespace: kind.is_namespaced().then(|| "mesh".to_owned()),
            name: name.to_owned(),
        };
        Facts {
            applied: vec![
                id(Kind::Namespace, "mesh"),
                id(Kind::CustomResourceDefinition, "trafficpolicies.heddle.dev"),
                id(Kind::ClusterRole, "heddle-injector"),
                id(Kind::Deployment, "heddle-control-plane"),
                id(Kind::MutatingWebhookConfiguration, "heddle-injector"),
            ],
            made: vec![
                (Kind::ConfigMap.resource(), "shop".to_owned(), "heddle-trust-anchors".to_owned()),
                (
                    resource("coordination.k8s.io/v1", "Lease", "leases"),
                    "mesh".to_owned(),
                    "heddle-control-plane".to_owned(),
                ),
            ],
            authority: true,
            definitions: vec![("trafficpolicies.heddle.dev".to_owned(), 3)],
            own_namespace: Some(true),
        }
    }

    #[test]
    fn what_holds_keys_or_the_users_objects_stays() {
        insta::assert_snapshot!(table(&items(&facts(), "mesh", false), Colour::Never));
    }

    #[test]
    fn purge_deletes_everything() {
        let items = items(&facts(), "mesh", true);
        assert!(items.iter().all(|item| item.fate == Fate::Delete), "{items:?}");
        assert_eq!(items.first().unwrap().kind, "MutatingWebhookConfiguration");
        assert_eq!(items.last().unwrap().kind, "Namespace");
    }

    #[test]
    fn a_namespace_of_somebody_else_stays() {
        let foreign = Facts { own_namespace: Some(false), ..facts() };
        let items = items(&foreign, "mesh", true);
        assert_eq!(items.last().unwrap().fate, Fate::Keep);
        let nothing = table(&super::items(&Facts::default(), "mesh", true), Colour::Never);
        assert!(nothing.starts_with("There is nothing"), "{nothing}");
    }
}
