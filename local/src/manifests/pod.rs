//! What to run for a Pod, and what of it cannot be run here. Reads and fills in one object; starts nothing.

mod limits;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use heddle_model::identity::PodUid;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Fault;
use super::addresses::Addresses;
use super::expand::expand;
use super::object::{self, Object, PodName};

/// A pod as it runs here.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPlan {
    /// Its name.
    pub name: PodName,
    /// Which of the pods of this world it is, counted from the first; no other has this number at the same time.
    pub instance: u32,
    /// Its UID.
    pub uid: PodUid,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its service account.
    pub service_account: String,
    /// Its labels, which services select by.
    pub labels: BTreeMap<String, String>,
    /// Whether a proxy stands beside it.
    pub meshed: bool,
    /// Its containers, each a process.
    pub containers: Vec<ContainerPlan>,
    /// Whether its processes are started again.
    pub restart: RestartPolicy,
    /// How long it may take to end after it was asked to.
    pub termination_grace: Duration,
    /// The object as the control plane reads it.
    pub manifest: Value,
}

/// A container as it runs here: a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Its name.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its variables.
    pub variables: Vec<(String, String)>,
    /// Where it runs; the root directory where it does not say.
    pub working_directory: PathBuf,
    /// The user it runs as; the world's own where it does not say.
    pub user: Option<RunAs>,
    /// The TCP ports that it declares.
    pub ports: Vec<ContainerPort>,
}

/// The user that a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// `runAsUser`.
    pub user: u32,
    /// `runAsGroup`; the user's number where there is none, so that it is nobody else's group.
    pub group: u32,
}

/// A port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, which services may target.
    pub name: Option<String>,
    /// Its number.
    pub number: u16,
}

/// Whether a process that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum RestartPolicy {
    /// Always.
    #[default]
    Always,
    /// When it has failed.
    OnFailure,
    /// Never.
    Never,
}

/// A pod that was read, but has no address yet.
#[derive(Debug)]
pub struct Draft {
    /// The UID that the file names.
    pub uid: Option<PodUid>,
    /// Whether a proxy is to stand beside it.
    pub meshed: bool,
    /// The specification as it was written.
    pub spec: Value,
    object: Object,
    typed: PodSpec,
    notices: Vec<Fault>,
}

impl Draft {
    /// Reads a pod; the faults are why it cannot run.
    pub fn read(
        object: &Object,
        value: &Value,
        namespaces: &BTreeMap<String, Value>,
    ) -> Result<Self, Vec<Fault>> {
        let typed: Body = object::typed(value).map_err(|fault| vec![fault])?;
        let mut faults = limits::cannot_run(&typed.spec);
        let uid = match &object.metadata.uid {
            Some(uid) => uid
                .parse()
                .map_err(|error: heddle_model::identity::InvalidIdentity| {
                    faults.push(Fault::new("metadata.uid", error.to_string()));
                })
                .ok(),
            None => None,
        };
        let meshed = wants_proxy(object, namespaces).unwrap_or_else(|fault| {
            faults.push(fault);
            false
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let spec = value.get("spec").cloned().unwrap_or_default();
        let notices = limits::left_out(&typed.spec);
        Ok(Self { uid, meshed, spec, object: object.clone(), typed: typed.spec, notices })
    }

    /// Gives it its place in the world. Beside the plan: what of it is left out.
    pub fn place(
        self,
        instance: u32,
        uid: PodUid,
        addresses: Addresses,
    ) -> Result<(PodPlan, Vec<Fault>), Vec<Fault>> {
        let mut plan = PodPlan {
            name: self.object.pod_name(),
            instance,
            uid,
            addresses,
            service_account: self.typed.service_account_name.unwrap_or_else(|| "default".into()),
            labels: self.object.metadata.labels.clone(),
            meshed: self.meshed,
            containers: Vec::new(),
            restart: self.typed.restart_policy,
            termination_grace: Duration::from_secs(self.typed.termination_grace_period_seconds),
            manifest: Value::Null,
        };
        let mut faults = Vec::new();
        for (index, container) in self.typed.containers.into_iter().enumerate() {
            let field = format!("spec.containers[{index}]");
            match container.plan(&field, &plan, &self.object, &self.typed.security_context) {
                Ok(container) => plan.containers.push(container),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok((plan, self.notices)) } else { Err(faults) }
    }
}

/// Writes into the object what Kubernetes and the injector would have written.
pub fn fill_in(value: &mut Value, plan: &PodPlan) {
    set(value, &["metadata", "uid"], json!(plan.uid.as_str()));
    if plan.meshed {
        set(value, &["metadata", "annotations", "heddle.dev/injected"], json!("true"));
    }
    let addresses: Vec<_> =
        plan.addresses.all().iter().map(|address| json!({"ip": address})).collect();
    set(value, &["status", "podIP"], json!(plan.addresses.v4));
    set(value, &["status", "podIPs"], json!(addresses));
}

/// The object of a pod that is on its way out, under a name of its own since another pod may have its name by now: it
/// stays in the mesh until it has finished.
pub fn ending(plan: &PodPlan) -> Value {
    let mut value = plan.manifest.clone();
    let name = format!("ending-{}-{}", plan.instance, plan.name.name);
    set(&mut value, &["metadata", "name"], json!(name));
    value
}

/// Sets the field at `path`, making the objects on the way.
pub(super) fn set(value: &mut Value, path: &[&str], to: Value) {
    let mut place = value;
    for name in path {
        if !place.is_object() {
            *place = json!({});
        }
        let Value::Object(fields) = place else { return };
        place = fields.entry(*name).or_insert(Value::Null);
    }
    *place = to;
}

#[derive(Debug, Deserialize)]
struct Body {
    spec: PodSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    containers: Vec<Container>,
    service_account_name: Option<String>,
    #[serde(default = "default_grace_seconds")]
    termination_grace_period_seconds: u64,
    #[serde(default)]
    restart_policy: RestartPolicy,
    #[serde(default)]
    security_context: SecurityContext,
    #[serde(default)]
    host_network: bool,
    #[serde(default, rename = "hostPID")]
    host_pid: bool,
    #[serde(default, rename = "hostIPC")]
    host_ipc: bool,
    #[serde(default)]
    init_containers: Vec<Value>,
    #[serde(default)]
    volumes: Vec<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecurityContext {
    run_as_user: Option<u32>,
    run_as_group: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    env_from: Vec<Value>,
    working_dir: Option<PathBuf>,
    #[serde(default)]
    security_context: SecurityContext,
    #[serde(default)]
    ports: Vec<DeclaredPort>,
    liveness_probe: Option<Value>,
    readiness_probe: Option<Value>,
    startup_probe: Option<Value>,
    lifecycle: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
    value_from: Option<ValueFrom>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValueFrom {
    field_ref: Option<FieldRef>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FieldRef {
    field_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeclaredPort {
    name: Option<String>,
    container_port: u16,
    protocol: Option<String>,
}

impl Container {
    fn plan(
        self,
        field: &str,
        pod: &PodPlan,
        object: &Object,
        of_pod: &SecurityContext,
    ) -> Result<ContainerPlan, Fault> {
        let mut variables: Vec<(String, String)> = Vec::new();
        for (index, variable) in self.env.into_iter().enumerate() {
            let value = match variable.value_from {
                None => expand(&variable.value, &variables),
                Some(from) => from.resolve(pod, object).ok_or_else(|| {
                    Fault::new(
                        format!("{field}.env[{index}].valueFrom"),
                        "not known here; write the value, or a fieldRef to metadata or status.podIP",
                    )
                })?,
            };
            variables.push((variable.name, value));
        }
        let user = self.security_context.run_as_user.or(of_pod.run_as_user);
        let group = self.security_context.run_as_group.or(of_pod.run_as_group);
        let words = self.command.iter().chain(&self.args);
        Ok(ContainerPlan {
            argv: words.map(|word| expand(word, &variables)).collect(),
            name: self.name,
            variables,
            working_directory: self.working_dir.unwrap_or_else(|| "/".into()),
            user: user.map(|user| RunAs { user, group: group.unwrap_or(user) }),
            ports: self
                .ports
                .into_iter()
                .filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
                .map(|port| ContainerPort { name: port.name, number: port.container_port })
                .collect(),
        })
    }
}

impl ValueFrom {
    fn resolve(&self, pod: &PodPlan, object: &Object) -> Option<String> {
        let path = &self.field_ref.as_ref()?.field_path;
        let key = |map: &BTreeMap<String, String>, prefix: &str| {
            let name = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
            Some(map.get(name).cloned().unwrap_or_default())
        };
        Some(match path.as_str() {
            "metadata.name" => pod.name.name.clone(),
            "metadata.namespace" => pod.name.namespace.clone(),
            "metadata.uid" => pod.uid.to_string(),
            "spec.serviceAccountName" => pod.service_account.clone(),
            "status.podIP" => pod.addresses.v4.to_string(),
            "status.podIPs" => {
                let all: Vec<_> = pod.addresses.all().iter().map(ToString::to_string).collect();
                all.join(",")
            }
            _ => key(&object.metadata.labels, "metadata.labels")
                .or_else(|| key(&object.metadata.annotations, "metadata.annotations"))?,
        })
    }
}

/// The pod's own word counts before its namespace's, and an annotation before a label.
fn wants_proxy(object: &Object, namespaces: &BTreeMap<String, Value>) -> Result<bool, Fault> {
    let of_namespace = |kind: &str| {
        let value = namespaces.get(object.namespace())?.get(kind)?.get(INJECT)?.as_str()?;
        Some(value.to_owned())
    };
    let metadata = &object.metadata;
    let words = [
        ("metadata.annotations", metadata.annotations.get(INJECT).cloned()),
        ("metadata.labels", metadata.labels.get(INJECT).cloned()),
        ("the namespace's annotations", of_namespace("annotations")),
        ("the namespace's labels", of_namespace("labels")),
    ];
    match words.into_iter().find_map(|(field, word)| Some((field, word?))) {
        None => Ok(true),
        Some((_, word)) if word == "enabled" => Ok(true),
        Some((_, word)) if word == "disabled" => Ok(false),
        Some((field, word)) => Err(Fault::new(
            format!("{field}[{INJECT}]"),
            format!("{word:?} is not known (want enabled or disabled)"),
        )),
    }
}

/// Kubernetes' own default.
fn default_grace_seconds() -> u64 {
    30
}

const INJECT: &str = "heddle.dev/inject";
