//! `meshctl uninstall`: what is deleted and what stays, with the reason. Nothing is deleted that is not named first.

use std::time::Duration;

use heddle_model::installation::{
    AUTHORITY_SECRET, CONTROL_PLANE_LEASE, CONTROL_PLANE_SELECTOR, ROTATION_CONFIG_MAP,
    TRUST_ANCHORS_CONFIG_MAP,
};
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::Value;

use super::arguments::UninstallArguments;
use super::found;
use super::meshed::{self, Meshed};
use super::plan::MANAGED_BY;
use super::tell;
use crate::chart::kind::Kind;
use crate::chart::manifest::ObjectId;
use crate::failure::Failure;
use crate::kubernetes::client::{self, Cluster};
use crate::kubernetes::field;
use crate::kubernetes::objects::{Filter, resource};
use crate::output::{self, Colour, Output};
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
    /// Pods with a proxy.
    pub meshed: Vec<Meshed>,
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
    print(&items, &arguments, colour)?;
    tell(&meshed::warning(&facts.meshed));
    if !arguments.apply {
        tell("nothing was deleted: say --apply to do it\n");
        return Ok(Ending::Good);
    }
    if !arguments.force {
        may_go(&facts.meshed)?;
    }
    delete(&cluster, &items, arguments.timeout.0).await?;
    tell("done\n");
    Ok(Ending::Good)
}

/// A mesh that goes before its proxies takes them with it, when their certificates run out.
fn may_go(meshed: &[Meshed]) -> Result<(), Failure> {
    let pods: usize = meshed.iter().map(|meshed| meshed.pods.len()).sum();
    if pods == 0 {
        return Ok(());
    }
    let namespaces: Vec<&str> = meshed.iter().map(|meshed| meshed.namespace.as_str()).collect();
    let (pods, have) =
        if pods == 1 { ("1 pod".to_owned(), "has") } else { (format!("{pods} pods"), "have") };
    let what = format!("nothing was deleted: {pods} in {} {have} a proxy", namespaces.join(", "));
    Err(Failure::new(
        what,
        "make them anew without one, by the commands above, and say it again; or say --force: the traffic of these pods ends when their certificates run out",
    ))
}

async fn seen(cluster: &Cluster) -> Result<meshed::Seen, Failure> {
    let list = async |resource: &ApiResource| cluster.list(resource, Filter::default()).await;
    let mut workloads = Vec::new();
    for (kind, plural) in [
        ("Deployment", "deployments"),
        ("StatefulSet", "statefulsets"),
        ("DaemonSet", "daemonsets"),
    ] {
        for mut workload in list(&resource("apps/v1", kind, plural)).await? {
            // Lists do not repeat it.
            if let Some(fields) = workload.as_object_mut() {
                fields.insert("kind".to_owned(), kind.into());
            }
            workloads.push(workload);
        }
    }
    Ok(meshed::Seen {
        pods: list(&resource("v1", "Pod", "pods")).await?,
        namespaces: list(&Kind::Namespace.resource()).await?,
        workloads,
    })
}

async fn facts(cluster: &Cluster) -> Result<Facts, Failure> {
    let namespace = cluster.mesh_namespace.as_str();
    let mut made = Vec::new();
    let secrets = resource("v1", "Secret", "secrets");
    let leases = resource("coordination.k8s.io/v1", "Lease", "leases");
    let config_maps = Kind::ConfigMap.resource();
    let own = [
        (&secrets, "heddle-injector-tls"),
        (&leases, CONTROL_PLANE_LEASE),
        (&config_maps, ROTATION_CONFIG_MAP),
    ];
    for (resource, name) in own {
        if cluster.get(resource, Some(namespace), name).await?.is_some() {
            made.push((resource.clone(), namespace.to_owned(), name.to_owned()));
        }
    }
    let fields = format!("metadata.name={TRUST_ANCHORS_CONFIG_MAP}");
    let anchors = Filter { fields: &fields, ..Filter::default() };
    for object in cluster.list(&config_maps, anchors).await? {
        let (namespace, name) = (field::namespace(&object), field::name(&object));
        made.push((config_maps.clone(), namespace.to_owned(), name.to_owned()));
    }
    let authority = cluster.get(&secrets, Some(namespace), AUTHORITY_SECRET).await?.is_some();
    let mut definitions = Vec::new();
    let all = cluster.list(&Kind::CustomResourceDefinition.resource(), Filter::default()).await?;
    for object in all.iter().filter(|object| field::text(object, "/spec/group") == GROUP) {
        definitions.push((field::name(object).to_owned(), count(cluster, object).await?));
    }
    let found = cluster.get(&Kind::Namespace.resource(), None, namespace).await?;
    let own_namespace =
        found.map(|object| field::label(&object, "app.kubernetes.io/managed-by") == MANAGED_BY);
    let applied = found::applied(cluster).await?;
    let meshed = meshed::meshed(&seen(cluster).await?);
    Ok(Facts { applied, made, authority, definitions, meshed, own_namespace })
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
        let is_mounted = name == TRUST_ANCHORS_CONFIG_MAP
            && facts.meshed.iter().any(|meshed| meshed.namespace == *within);
        let kept = is_mounted.then_some("pods with a proxy mount it, and could not start again");
        add(resource.clone(), within, name, kept, "made by the mesh");
    }
    let keep = |reason: &'static str| (!purge).then_some(reason);
    if facts.authority {
        let kept = keep(
            "the authority's keys: a mesh installed again keeps its trust anchors (--purge deletes it)",
        );
        let secrets = resource("v1", "Secret", "secrets");
        add(secrets, namespace, AUTHORITY_SECRET, kept, "the authority's keys");
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
    let pods = Filter { namespace, labels: CONTROL_PLANE_SELECTOR, ..Filter::default() };
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

fn print(items: &[Item], arguments: &UninstallArguments, colour: Colour) -> Result<(), Failure> {
    match arguments.output {
        format @ (Output::Table | Output::Wide) => {
            let table = table(items, format == Output::Wide, colour);
            output::print(&table::headed(table, arguments.no_headers))
        }
        Output::Name => {
            let doomed = items.iter().filter(|item| item.fate == Fate::Delete);
            let line = |item: &Item| format!("{}/{}\n", item.kind.to_lowercase(), item.name);
            output::print(&doomed.map(line).collect::<String>())
        }
        Output::Json => output::print_json(&items),
        Output::Yaml => output::print_yaml(&items),
    }
}

fn table(items: &[Item], wide: bool, colour: Colour) -> String {
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
            let mut row = vec![
                fate,
                plain(&item.kind),
                plain(&item.namespace),
                plain(&item.name),
                plain(&item.reason),
            ];
            if wide {
                row.insert(2, plain(&item.resource.api_version));
            }
            row
        })
        .collect();
    let mut header = vec!["FATE", "KIND", "NAMESPACE", "NAME", "WHY"];
    if wide {
        header.insert(2, "APIVERSION");
    }
    table::render(&header, &rows, colour)
}

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
            meshed: Vec::new(),
            own_namespace: Some(true),
        }
    }

    #[test]
    fn what_holds_keys_or_the_users_objects_stays() {
        insta::assert_snapshot!(table(&items(&facts(), "mesh", false), false, Colour::Never));
    }

    #[test]
    fn purge_deletes_everything() {
        let items = items(&facts(), "mesh", true);
        assert!(items.iter().all(|item| item.fate == Fate::Delete), "{items:?}");
        assert_eq!(items.first().unwrap().kind, "MutatingWebhookConfiguration");
        assert_eq!(items.last().unwrap().kind, "Namespace");
    }

    #[test]
    fn pods_with_a_proxy_keep_what_they_mount_and_are_asked_about() {
        let meshed = |namespace: &str| Meshed {
            namespace: namespace.to_owned(),
            pods: vec!["api-1".to_owned(), "api-2".to_owned()],
            commands: Vec::new(),
        };
        let anchors = |meshed: Vec<Meshed>, purge: bool| {
            let items = items(&Facts { meshed, ..facts() }, "mesh", purge);
            items.into_iter().find(|item| item.name == TRUST_ANCHORS_CONFIG_MAP).unwrap().fate
        };
        assert_eq!(anchors(vec![meshed("shop")], true), Fate::Keep, "also where all is purged");
        assert_eq!(anchors(vec![meshed("other")], false), Fate::Delete);
        may_go(&[]).unwrap();
        let refused = may_go(&[meshed("shop"), meshed("other")]).unwrap_err().to_string();
        assert!(refused.contains("4 pods in shop, other have a proxy"), "{refused}");
        assert!(refused.contains("--force"), "{refused}");
    }

    #[test]
    fn a_namespace_of_somebody_else_stays() {
        let foreign = Facts { own_namespace: Some(false), ..facts() };
        let items = items(&foreign, "mesh", true);
        assert_eq!(items.last().unwrap().fate, Fate::Keep);
        let nothing = table(&super::items(&Facts::default(), "mesh", true), false, Colour::Never);
        assert!(nothing.starts_with("There is nothing"), "{nothing}");
    }
}
