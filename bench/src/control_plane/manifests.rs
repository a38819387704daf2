//! The files that the control plane reads: manifests, tokens and their hashes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use heddle_local::mirror::write_atomically;
use rand::RngCore as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::control_plane::plan::{NAMESPACE, POD_PORT, PORT, Plan, Pod, Service};

/// Where they are.
#[derive(Clone, Debug)]
pub struct Files(PathBuf);

impl Files {
    /// Writes all of them below a folder.
    pub fn write(folder: &Path, plan: &Plan) -> Result<Self> {
        let files = Self(folder.to_owned());
        for folder in ["manifests/services", "manifests/slices", "tokens", "state"] {
            fs::create_dir_all(files.0.join(folder))?;
        }
        for service in &plan.services {
            let path = files.manifests().join("services").join(format!("{}.yaml", service.name));
            fs::write(path, documents(&objects(service)))?;
            files.write_slice(service, true)?;
        }
        files.write_tokens(plan)?;
        Ok(files)
    }

    /// What the control plane reads.
    pub fn manifests(&self) -> PathBuf {
        self.0.join("manifests")
    }

    /// Where it keeps its keys.
    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    /// Hashes of tokens.
    pub fn join_tokens(&self) -> PathBuf {
        self.0.join("join-tokens.json")
    }

    /// The token of one proxy.
    pub fn token(&self, proxy: usize) -> PathBuf {
        self.0.join("tokens").join(proxy.to_string())
    }

    /// What the control plane says.
    pub fn log(&self) -> PathBuf {
        self.0.join("control-plane.log")
    }

    /// Writes one slice anew, whole; the last endpoint is ready, or is not.
    pub fn write_slice(&self, service: &Service, ready: bool) -> Result<()> {
        let path = self.manifests().join("slices").join(format!("{}.yaml", service.name));
        let text = documents(&[slice(service, ready)]);
        write_atomically(&path, text.as_bytes()).with_context(|| path.display().to_string())
    }

    fn write_tokens(&self, plan: &Plan) -> Result<()> {
        let mut owners = BTreeMap::new();
        for (number, proxy) in plan.proxies.iter().enumerate() {
            let mut token = [0_u8; 32];
            rand::rng().fill_bytes(&mut token);
            let token = hexadecimal(&token);
            let service = plan.services.get(proxy.service).context("the proxy's service")?;
            let uid = &plan.pod(proxy).context("the proxy's pod")?.uid;
            let owner =
                json!({"namespace": NAMESPACE, "serviceAccount": service.name, "podUid": uid});
            owners.insert(hexadecimal(&Sha256::digest(&token)), owner);
            fs::write(self.token(number), token)?;
        }
        Ok(fs::write(self.join_tokens(), serde_json::to_vec_pretty(&owners)?)?)
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// JSON is YAML.
fn documents(objects: &[Value]) -> String {
    objects.iter().map(|object| format!("---\n{object:#}\n")).collect()
}

/// The service and its pods.
fn objects(service: &Service) -> Vec<Value> {
    let ports = json!([{"name": "http", "port": PORT, "targetPort": POD_PORT}]);
    let labels = json!({"app": service.name});
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": NAMESPACE},
        "spec": {
            "clusterIP": service.address,
            "clusterIPs": [service.address],
            "selector": labels,
            "ports": ports,
        },
    });
    let pods = service.pods.iter().map(|pod| self::pod(service, pod));
    std::iter::once(object).chain(pods).collect()
}

fn pod(service: &Service, pod: &Pod) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": NAMESPACE,
            "uid": pod.uid,
            "labels": {"app": service.name},
            "annotations": {"heddle.dev/injected": "true"},
        },
        "spec": {
            "serviceAccountName": service.name,
            "nodeName": node(pod),
            "containers": [{"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": POD_PORT}]}],
        },
        "status": {"phase": "Running", "podIP": pod.address, "podIPs": [{"ip": pod.address}]},
    })
}

fn slice(service: &Service, last_is_ready: bool) -> Value {
    let last = service.pods.len().saturating_sub(1);
    let endpoints = service.pods.iter().enumerate().map(|(place, pod)| {
        json!({
            "addresses": [pod.address],
            "conditions": {"ready": place != last || last_is_ready},
            "nodeName": node(pod),
            "zone": "east",
            "targetRef": {"kind": "Pod", "name": pod.name, "namespace": NAMESPACE, "uid": pod.uid},
        })
    });
    let endpoints: Vec<Value> = endpoints.collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-ipv4", service.name),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": POD_PORT}],
        "endpoints": endpoints,
    })
}

/// A hundred nodes.
fn node(pod: &Pod) -> String {
    format!("node-{}", pod.address.octets().iter().map(|byte| u32::from(*byte)).sum::<u32>() % 100)
}
