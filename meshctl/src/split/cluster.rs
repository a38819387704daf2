//! Changes weights on the API server, unless somebody changed the object meanwhile.

use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::Value;

use crate::failure::Failure;
use crate::kubernetes::client::{Cluster, failed};
use crate::kubernetes::objects::{FIELD_MANAGER, resource};
use crate::split::arguments::DryRun;
use crate::split::plan::Change;
use crate::split::{owner, weights};

/// Changes them, or lets the API server check it all the same.
pub async fn set(
    cluster: &Cluster,
    change: &Change,
    dry_run: Option<DryRun>,
    force: bool,
) -> Result<(), Failure> {
    let (group, plural) = group(&change.kind)?;
    let version = served_version(cluster, group, &change.kind).await?;
    let resource = resource(&format!("{group}/{version}"), &change.kind, plural);
    let object = cluster.get(&resource, Some(&change.namespace), &change.name).await?;
    let object: Value = object.ok_or_else(|| {
        let remedy = "see `meshctl routes`: somebody has just deleted it";
        Failure::new(format!("{} does not exist", change.title()), remedy)
    })?;
    if let Some(owner) = owner::of(&object, change.place).filter(|_| !force) {
        let remedy = "change it there, or use --force, and see it set back";
        return Err(Failure::new(format!("{} is not yours to change", change.title()), remedy)
            .because_of(owner));
    }
    let patch = weights::patch(&object, change)?;
    let parameters = PatchParams {
        dry_run: dry_run.is_some(),
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &change.namespace, &resource);
    let patched = api.patch(&change.name, &parameters, &Patch::Merge(&patch)).await;
    match patched {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let remedy = "look at it (`meshctl split`), and try again";
            let failure =
                Failure::new(format!("somebody has just changed {}", change.title()), remedy);
            Err(failure.because_of(status.message.as_str()))
        }
        Err(error) => Err(failed(cluster, &format!("change {}", change.title()), &error)),
    }
}

fn group(kind: &str) -> Result<(&'static str, &'static str), Failure> {
    match kind {
        "TrafficSplit" => Ok(("split.smi-spec.io", "trafficsplits")),
        "HTTPRoute" => Ok((GATEWAY_API, "httproutes")),
        "GRPCRoute" => Ok((GATEWAY_API, "grpcroutes")),
        "TLSRoute" => Ok((GATEWAY_API, "tlsroutes")),
        "TCPRoute" => Ok((GATEWAY_API, "tcproutes")),
        other => {
            let remedy = "change its weights by hand: `kubectl edit`";
            Err(Failure::new(format!("the weights of a {other} cannot be set"), remedy))
        }
    }
}

/// The version of a group in which the API server has the kind: the one that it prefers, if it does.
async fn served_version(cluster: &Cluster, group: &str, kind: &str) -> Result<String, Failure> {
    let attempt = format!("find {kind} of {group}");
    let groups = cluster.client.list_api_groups().await;
    let groups = groups.map_err(|error| failed(cluster, &attempt, &error))?;
    let found = groups.groups.into_iter().find(|known| known.name == group);
    let preferred = found.as_ref().and_then(|found| found.preferred_version.as_ref());
    let versions = found.iter().flat_map(|found| &found.versions);
    for version in preferred.into_iter().chain(versions) {
        let listed = cluster.client.list_api_group_resources(&version.group_version).await;
        let listed = listed.map_err(|error| failed(cluster, &attempt, &error))?;
        if listed.resources.iter().any(|known| known.kind == kind) {
            return Ok(version.version.clone());
        }
    }
    let remedy = "install its CustomResourceDefinition";
    Err(Failure::new(format!("the API server does not know {kind} of {group}"), remedy))
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";

#[cfg(test)]
mod tests;
