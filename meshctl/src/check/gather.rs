//! Looks at a cluster. What cannot be seen becomes a sentence, and the rest is looked at all the same.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use heddle_injector::annotations::INJECT;
use heddle_injector::containers::{PROXY_CONTAINER, REDIRECT_CONTAINER};
use heddle_injector::patch::Presence;
use heddle_injector::report;
use heddle_proto::admin::admin_client::AdminClient;
use heddle_proto::admin::{self, GetIdentityRequest, IdentityStatus};
use heddle_runtime::clock;
use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::client::Body;
use serde_json::Value;
use tonic::transport::Channel;

use super::facts::{
    Api, Coverage, Definition, Facts, Mesh, Node, PodSecurity, Seen, Stage, Webhook,
};
use super::judge::{
    cluster as judge,
    mesh::{ISSUER, SERVING, TRUST_ANCHORS},
};
use super::permissions::{self, Permission};
use super::{api_ports, certificates, probe};
use crate::chart::kind::Kind;
use crate::failure::Failure;
use crate::install::{found, rollout};
use crate::kubernetes::client::Cluster;
use crate::kubernetes::control_plane;
use crate::kubernetes::field;
use crate::kubernetes::objects::{Filter, resource};

/// All facts for the stage.
pub async fn facts(cluster: &Cluster, stage: Stage) -> Facts {
    let namespace = cluster.mesh_namespace.clone();
    let meshes = said(found::meshes(cluster).await)
        .map(|meshes| meshes.into_iter().map(|mesh| mesh.namespace).collect::<Vec<_>>());
    let is_there = meshes.as_ref().is_ok_and(|meshes| meshes.contains(&namespace));
    let mesh = match stage {
        Stage::After if is_there => Some(Box::pin(mesh(cluster)).await),
        Stage::Before | Stage::After => None,
    };
    Facts {
        stage,
        own_version: env!("CARGO_PKG_VERSION").to_owned(),
        api: api(cluster).await,
        nodes: nodes(cluster).await,
        permissions: permissions(cluster, stage).await,
        definitions: definitions(cluster).await,
        api_ports: api_ports::gather(cluster, stage).await,
        meshes,
        mesh,
        namespace,
    }
}

fn said<T>(result: Result<T, Failure>) -> Seen<T> {
    result.map_err(|failure| failure.headline())
}

async fn api(cluster: &Cluster) -> Seen<Api> {
    let request = Request::get("/version").body(Body::empty());
    let request = request.map_err(|error| error.to_string())?;
    let asked = clock::now();
    let answer = cluster.client.send(request).await.map_err(|error| error.to_string())?;
    let date = answer.headers().get(http::header::DATE).and_then(|value| value.to_str().ok());
    let time = date.and_then(http_date);
    let version =
        cluster.client.apiserver_version().await.map_err(|error| error.to_string())?.git_version;
    Ok(Api { address: cluster.address.clone(), version, time, asked })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7), the one form that servers write.
fn http_date(text: &str) -> Option<SystemTime> {
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<&str> = rest.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second, "GMT"] = parts.as_slice() else {
        return None;
    };
    let number = |text: &str| text.parse::<u8>().ok();
    let month = MONTHS.iter().position(|name| name == month)?;
    let month = time::Month::try_from(u8::try_from(month).ok()? + 1).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, number(day)?).ok()?;
    let time = time::Time::from_hms(number(hour)?, number(minute)?, number(second)?).ok()?;
    Some(time::PrimitiveDateTime::new(date, time).assume_utc().into())
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

async fn nodes(cluster: &Cluster) -> Seen<Vec<Node>> {
    let nodes = said(cluster.list(&resource("v1", "Node", "nodes"), Filter::default()).await)?;
    let leases = resource("coordination.k8s.io/v1", "Lease", "leases");
    let filter = Filter { namespace: Some("kube-node-lease"), ..Filter::default() };
    // Without them, kernels are told all the same.
    let leases = cluster.list(&leases, filter).await.unwrap_or_default();
    let renewed = |name: &str| {
        let lease = leases.iter().find(|lease| field::name(lease) == name)?;
        timestamp(field::text(lease, "/spec/renewTime"))
    };
    let node = |node: &Value| {
        let text = |pointer: &str| {
            node.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let name = text("/metadata/name");
        Node {
            renewed: renewed(&name),
            kernel: text("/status/nodeInfo/kernelVersion"),
            system: text("/status/nodeInfo/operatingSystem"),
            name,
        }
    };
    Ok(nodes.iter().map(node).collect())
}

/// `2026-11-26T04:28:39.123456Z`, to the second.
fn timestamp(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Vec<&str> = date.split('-').collect();
    let time: Vec<&str> = time.split(['.', ':']).collect();
    let ([year, month, day], [hour, minute, second, ..]) = (date.as_slice(), time.as_slice())
    else {
        return None;
    };
    let number = |text: &str| text.parse::<u8>().ok();
    let month = time::Month::try_from(number(month)?).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, number(day)?).ok()?;
    let time = time::Time::from_hms(number(hour)?, number(minute)?, number(second)?).ok()?;
    Some(time::PrimitiveDateTime::new(date, time).assume_utc().into())
}

async fn permissions(cluster: &Cluster, stage: Stage) -> Seen<Vec<(Permission, bool)>> {
    let mut answers = Vec::new();
    for permission in permissions::needed(stage, &cluster.mesh_namespace) {
        let body = permissions::review(&permission).to_string().into_bytes();
        let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| error.to_string())?;
        let answer: Value =
            cluster.client.request(request).await.map_err(|error| error.to_string())?;
        let allowed = answer.pointer("/status/allowed") == Some(&Value::Bool(true));
        answers.push((permission, allowed));
    }
    Ok(answers)
}

async fn definitions(cluster: &Cluster) -> Seen<Vec<Definition>> {
    let resource = Kind::CustomResourceDefinition.resource();
    let mut definitions = Vec::new();
    for name in judge::definition_names() {
        let found = said(cluster.get(&resource, None, &name).await)?;
        let versions = found.as_ref().map(|found| field::list(found, "/spec/versions"));
        let served = versions
            .unwrap_or_default()
            .iter()
            .filter(|version| version.get("served") == Some(&Value::Bool(true)))
            .map(|version| field::text(version, "/name").to_owned())
            .collect();
        definitions.push(Definition { name, served });
    }
    Ok(definitions)
}

async fn mesh(cluster: &Cluster) -> Mesh {
    let own = Filter {
        namespace: Some(&cluster.mesh_namespace),
        labels: "app.kubernetes.io/name=heddle",
        ..Filter::default()
    };
    let deployments = said(cluster.list(&Kind::Deployment.resource(), own).await).map(|found| {
        let one = |object: &Value| {
            let name = field::name(object).to_owned();
            (name, rollout::progress(Kind::Deployment, Some(object)))
        };
        found.iter().map(one).collect()
    });
    let pods = said(cluster.list(&resource("v1", "Pod", "pods"), Filter::default()).await);
    let is_own = |pod: &&Value| {
        field::namespace(pod) == cluster.mesh_namespace
            && field::label(pod, "app.kubernetes.io/name") == "heddle"
    };
    let own_pods: Vec<Value> = pods.iter().flatten().filter(is_own).cloned().collect();
    let secret = serving_secret(cluster).await;
    let serving = secret.as_ref().map_err(Clone::clone);
    let serving = serving.and_then(|secret| certificates::read(&key(secret, "tls.crt")?));
    let [anchors, issuers] = identity(cluster).await;
    Mesh {
        deployments,
        complaints: rollout::complaints(&own_pods),
        certificates: vec![
            (TRUST_ANCHORS.to_owned(), anchors),
            (ISSUER.to_owned(), issuers),
            (SERVING.to_owned(), serving),
        ],
        webhook: webhook(cluster, secret).await,
        probe: probe::run(cluster).await,
        coverage: coverage(cluster, pods.as_deref().map_err(Clone::clone)).await,
        versions: pods.map(|pods| versions(&pods)),
    }
}

/// Trust anchors and issuers, as control planes tell: the keys' Secret need not be read for it.
async fn identity(cluster: &Cluster) -> [Seen<Vec<super::facts::Certificate>>; 2] {
    let ask = |mut client: AdminClient<Channel>| {
        async move { Ok(client.get_identity(GetIdentityRequest {}).await?.into_inner()) }.boxed()
    };
    let answers = match said(control_plane::ask_all(cluster, ask).await) {
        Ok(answers) => answers,
        Err(why) => return [Err(why.clone()), Err(why)],
    };
    let told: Vec<IdentityStatus> =
        answers.into_iter().filter_map(|answer| answer.said.ok()).collect();
    let anchors = told.iter().flat_map(|status| &status.anchors);
    let anchors = anchors.filter_map(|anchor| anchor.certificate.clone());
    let issuers = told.iter().filter_map(|status| status.issuer.clone());
    [distinct(anchors), distinct(issuers)]
}

/// Replicas tell of the same ones.
fn distinct(
    told: impl Iterator<Item = admin::Certificate>,
) -> Seen<Vec<super::facts::Certificate>> {
    let by_fingerprint: BTreeMap<String, admin::Certificate> =
        told.map(|one| (one.fingerprint.clone(), one)).collect();
    by_fingerprint.into_values().map(certificate).collect()
}

fn certificate(told: admin::Certificate) -> Seen<super::facts::Certificate> {
    let time = |seconds: i64| {
        let seconds = u64::try_from(seconds).ok().map(Duration::from_secs);
        let time = seconds.and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(seconds));
        time.ok_or_else(|| format!("{seconds:?} is no time"))
    };
    let (from, until) = (time(told.not_before)?, time(told.not_after)?);
    Ok(super::facts::Certificate { subject: told.subject, from, until })
}

async fn serving_secret(cluster: &Cluster) -> Seen<Value> {
    let namespace = Some(cluster.mesh_namespace.as_str());
    let resource = resource("v1", "Secret", "secrets");
    let found = said(cluster.get(&resource, namespace, "heddle-injector-tls").await)?;
    found.ok_or_else(|| "there is no Secret heddle-injector-tls yet".to_owned())
}

fn key(secret: &Value, name: &str) -> Seen<Vec<u8>> {
    let text = secret.get("data").and_then(|data| data.get(name)).and_then(Value::as_str);
    let text = text.ok_or_else(|| format!("the Secret has no {name}"))?;
    STANDARD.decode(text).map_err(|error| format!("{name} cannot be read: {error}"))
}

async fn webhook(cluster: &Cluster, secret: Seen<Value>) -> Seen<Webhook> {
    let resource = Kind::MutatingWebhookConfiguration.resource();
    let found = said(cluster.get(&resource, None, "heddle-injector").await)?;
    let found = found.ok_or("there is no MutatingWebhookConfiguration heddle-injector")?;
    let webhooks = field::list(&found, "/webhooks");
    let mut bundles = Vec::new();
    for webhook in webhooks {
        let name = webhook["name"].as_str().unwrap_or_default().to_owned();
        let bundle = field::text(webhook, "/clientConfig/caBundle");
        bundles.push((name, STANDARD.decode(bundle).unwrap_or_default()));
    }
    let policy = webhooks.first().and_then(|webhook| webhook["failurePolicy"].as_str());
    Ok(Webhook {
        bundles,
        failure_policy: policy.unwrap_or_default().to_owned(),
        authority: secret.and_then(|secret| key(&secret, "ca.crt")),
    })
}

async fn coverage(cluster: &Cluster, pods: Result<&[Value], String>) -> Seen<Coverage> {
    let namespaces = said(cluster.list(&Kind::Namespace.resource(), Filter::default()).await)?;
    let pods = pods?;
    let is_ours = |name: &str| [PROXY_CONTAINER, REDIRECT_CONTAINER].contains(&name);
    let complaints = pods.iter().flat_map(|pod| {
        let namespace = field::namespace(pod);
        let complaints = rollout::of_containers(pod, is_ours).into_iter();
        complaints.map(move |complaint| format!("{namespace}: {complaint}"))
    });
    let complaints = complaints.collect();
    let forbidden = forbidden(&namespaces, pods);
    let pods: Vec<Pod> = read_all(pods)?;
    let namespaces: Vec<Namespace> = read_all(&namespaces)?;
    let meshed = pods.iter().filter(|pod| Presence::of(pod) == Presence::Whole).count();
    Ok(Coverage { meshed, complaints, findings: report::report(&pods, &namespaces), forbidden })
}

/// Namespaces that ask for proxies, or have a pod that does, and enforce what refuses them.
fn forbidden(namespaces: &[Value], pods: &[Value]) -> Vec<(String, PodSecurity)> {
    let asks = |object: &Value| field::label(object, INJECT) == "enabled";
    let level = |namespace: &Value| PodSecurity::of_label(field::label(namespace, ENFORCE));
    let named = |namespace: &&Value| {
        let name = field::name(namespace);
        asks(namespace) || pods.iter().any(|pod| field::namespace(pod) == name && asks(pod))
    };
    let found = namespaces.iter().filter(named);
    found.filter_map(|one| Some((field::name(one).to_owned(), level(one)?))).collect()
}

/// What a namespace says of its pods. Source: Kubernetes' Pod Security Admission.
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

fn read_all<T: serde::de::DeserializeOwned>(objects: &[Value]) -> Seen<Vec<T>> {
    let read = objects.iter().map(|object| serde_json::from_value(object.clone()));
    read.collect::<Result<_, _>>().map_err(|error| format!("an object cannot be read: {error}"))
}

/// By component, how many containers run which tag of our images.
fn versions(pods: &[Value]) -> BTreeMap<String, BTreeMap<String, usize>> {
    let mut versions: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for pod in pods {
        let of_mesh = field::label(pod, "app.kubernetes.io/name") == "heddle";
        let lists = ["/spec/initContainers", "/spec/containers"];
        let containers = lists.into_iter().filter_map(|pointer| pod.pointer(pointer)?.as_array());
        for container in containers.flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            let component = match name {
                PROXY_CONTAINER => "proxy",
                "control-plane" | "injector" if of_mesh => name,
                _ => continue,
            };
            let image = container["image"].as_str().unwrap_or_default();
            let tag = image.rsplit_once(':').map_or("no tag", |(_, tag)| tag);
            let counts = versions.entry(component.to_owned()).or_default();
            *counts.entry(tag.to_owned()).or_default() += 1;
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn times_are_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(at(784_111_777)));
        assert_eq!(timestamp("1994-11-06T08:49:37.123456Z"), Some(at(784_111_777)));
        assert_eq!(timestamp("1994-11-06T08:49:37Z"), Some(at(784_111_777)));
        for bad in ["", "yesterday", "1994-13-06T08:49:37Z", "1994-11-06T08:49:37+01:00"] {
            assert_eq!((http_date(bad), timestamp(bad)), (None, None), "case: {bad}");
        }
    }

    #[test]
    fn a_namespace_is_named_if_it_refuses_the_proxy_that_is_asked_for() {
        let namespace = |name: &str, inject: &str, enforce: &str| json!({"metadata": {"name": name, "labels": {INJECT: inject, ENFORCE: enforce}}});
        let pod = |namespace: &str, inject: &str| json!({"metadata": {"namespace": namespace, "name": "a", "labels": {INJECT: inject}}});
        let namespaces = [
            namespace("asks", "enabled", "restricted"),
            namespace("asks-too", "enabled", "baseline"),
            namespace("may", "enabled", "privileged"),
            namespace("says-nothing", "enabled", ""),
            namespace("asks-not", "disabled", "restricted"),
            namespace("has-one-that-asks", "", "baseline"),
        ];
        let pods = [pod("has-one-that-asks", "enabled"), pod("asks-not", "disabled")];
        let found = forbidden(&namespaces, &pods);
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, level)| (name.as_str(), level.as_str())).collect();
        assert_eq!(
            found,
            [("asks", "restricted"), ("asks-too", "baseline"), ("has-one-that-asks", "baseline")]
        );
    }

    #[test]
    fn versions_are_counted_by_component() {
        let pods = [
            json!({"metadata": {"labels": {"app.kubernetes.io/name": "heddle"}},
                "spec": {"containers": [{"name": "injector", "image": "heddle/injector:0.1.0"}]}}),
            json!({"metadata": {}, "spec": {
                "initContainers": [{"name": "heddle-proxy", "image": "r.example.com:5000/heddle/proxy:0.1.0"}],
                "containers": [{"name": "injector", "image": "other:1"}]}}),
        ];
        let counted = versions(&pods);
        assert_eq!(counted["proxy"]["0.1.0"], 1);
        assert_eq!(counted["injector"].len(), 1, "another's injector is not ours");
    }
}
