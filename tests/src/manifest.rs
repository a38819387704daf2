//! Kubernetes objects for worlds, as text. JSON, which is YAML too and leaves no question of quoting.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// A pod with one container.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    name: String,
    namespace: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    command: Vec<String>,
    ports: Vec<u16>,
    user: Option<u32>,
}

impl Pod {
    /// A pod whose label `app` and service account are its name, and which does nothing.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
            .label("app", name)
            .command(&["sleep", "infinity"])
    }

    /// Where it is; `default` if nothing is said.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Sets a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What it runs.
    #[must_use]
    pub fn command<S: AsRef<str>>(mut self, command: &[S]) -> Self {
        self.command = command.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// A port that it is not ready without.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// As which user it runs.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Without a proxy.
    #[must_use]
    pub fn unmeshed(self) -> Self {
        self.annotation("heddle.dev/inject", "disabled")
    }

    /// Takes connections of the mesh only.
    #[must_use]
    pub fn strict(self) -> Self {
        self.annotation("heddle.dev/inbound-mode", "strict")
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<Value> =
            self.ports.iter().map(|port| json!({ "containerPort": port })).collect();
        let mut container = json!({
            "name": "application",
            "image": "none",
            "command": self.command,
            "ports": ports,
        });
        if let (Some(user), Some(container)) = (self.user, container.as_object_mut()) {
            container.insert("securityContext".to_owned(), json!({ "runAsUser": user }));
        }
        let namespace = self.namespace.as_deref().unwrap_or("default");
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": self.labels,
                "annotations": self.annotations,
            },
            "spec": { "serviceAccountName": self.name, "containers": [container] },
        });
        write!(f, "{pod}")
    }
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct Service {
    name: String,
    selector: BTreeMap<String, String>,
    ports: Vec<Value>,
    annotations: BTreeMap<String, String>,
    is_headless: bool,
}

impl Service {
    /// A service that selects the label `app` of its own name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }.selector("app", name)
    }

    /// Selects something else instead.
    #[must_use]
    pub fn selector(mut self, label: &str, value: &str) -> Self {
        self.selector = BTreeMap::from([(label.to_owned(), value.to_owned())]);
        self
    }

    /// Selects nothing: somebody else writes its EndpointSlices.
    #[must_use]
    pub fn without_selector(mut self) -> Self {
        self.selector.clear();
        self
    }

    /// Sets an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Has no virtual address: its name stands for its pods.
    #[must_use]
    pub fn headless(mut self) -> Self {
        self.is_headless = true;
        self
    }

    /// A port whose protocol nobody declares.
    #[must_use]
    pub fn port(mut self, port: u16, target: u16) -> Self {
        let name = format!("p{port}");
        self.ports.push(json!({ "name": name, "port": port, "targetPort": target }));
        self
    }

    /// A port that declares its protocol.
    #[must_use]
    pub fn port_speaking(mut self, port: u16, target: u16, app_protocol: &str) -> Self {
        let name = format!("p{port}");
        self.ports.push(json!({
            "name": name, "port": port, "targetPort": target, "appProtocol": app_protocol,
        }));
        self
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut spec = json!({ "ports": self.ports });
        if let (false, Some(spec)) = (self.selector.is_empty(), spec.as_object_mut()) {
            spec.insert("selector".to_owned(), json!(self.selector));
        }
        if let (true, Some(spec)) = (self.is_headless, spec.as_object_mut()) {
            spec.insert("clusterIP".to_owned(), json!("None"));
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "annotations": self.annotations },
            "spec": spec,
        });
        write!(f, "{service}")
    }
}

/// An SMI TrafficSplit of the same name as its service.
pub fn traffic_split(service: &str, backends: &[(&str, u32)]) -> String {
    let backends: Vec<Value> = backends
        .iter()
        .map(|(backend, weight)| json!({ "service": backend, "weight": weight }))
        .collect();
    json!({
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": { "name": service },
        "spec": { "service": service, "backends": backends },
    })
    .to_string()
}

/// Several objects in one file.
pub fn documents<D: fmt::Display>(objects: &[D]) -> String {
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}
