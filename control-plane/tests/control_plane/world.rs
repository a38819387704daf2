//! A control plane with a directory of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use heddle_control_plane::app::{self, Running};
use heddle_control_plane::config::{Config, Typed};
use heddle_model::identity::TrustDomain;
use heddle_proto::admin;
use heddle_proto::admin::admin_client::AdminClient;
use heddle_runtime::tasks::Tasks;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) running: Running,
    tasks: Tasks,
}

impl World {
    /// With the shop's files and a token for the pod `frontend`, and one for a pod `store`.
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("manifests")).unwrap();
        std::fs::write(root.path().join("manifests/shop.yaml"), SHOP).unwrap();
        std::fs::write(root.path().join("manifests/split.yaml"), split(90, 10)).unwrap();
        let owner = |uid: &str, account: &str| serde_json::json!({"namespace": "shop", "serviceAccount": account, "podUid": uid});
        let ours = serde_json::json!({"namespace": "heddle-system", "serviceAccount": "heddle-control-plane", "podUid": "impostor-1"});
        let tokens = serde_json::json!({
            hash("for the control plane"): ours,
            hash("secret"): owner("frontend-1", "frontend"),
            hash("secret of store"): owner("store-1", "store"),
            hash("stolen"): owner("frontend-1", "store"),
            hash("of the deleted"): owner("deleted-1", "default"),
        });
        std::fs::write(root.path().join("tokens.json"), tokens.to_string()).unwrap();
        let (running, tasks) = start_in(root.path().to_owned()).await;
        Self { root, running, tasks }
    }

    /// Ends the control plane, and starts another one with the same directories.
    pub(crate) async fn restart(&mut self) {
        self.tasks.shutdown(Duration::from_secs(5)).await;
        (self.running, self.tasks) = start_in(self.root.path().to_owned()).await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let directory = self.root.path().join("manifests");
        let partial = directory.join(format!(".{file}.partial"));
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, directory.join(file)).unwrap();
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let address = self.running.metrics_address.unwrap();
        crate::http::get(address, "/metrics").await.unwrap().1
    }

    /// To the admin socket.
    pub(crate) async fn admin(&self) -> Channel {
        let path = self.root.path().join("admin.sock");
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://admin").connect_with_connector(connect).await.unwrap()
    }

    pub(crate) async fn status(&self) -> admin::Status {
        let mut client = AdminClient::new(self.admin().await);
        let answer = client.get_status(admin::GetStatusRequest {}).await;
        answer.unwrap().into_inner()
    }

    /// Asks until the status is as wished, or tells how it is instead.
    pub(crate) async fn status_where(
        &self,
        wished: impl Fn(&admin::Status) -> bool,
    ) -> admin::Status {
        let mut last = None;
        let asked = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let status = self.status().await;
                if wished(&status) {
                    return status;
                }
                last = Some(status);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        asked.await.unwrap_or_else(|_| panic!("the status stays {last:#?}"))
    }
}

/// One condition of one object.
pub(crate) fn condition(status: &admin::Status, kind: &str, name: &str, condition: &str) -> String {
    status
        .objects
        .iter()
        .filter(|object| object.kind == kind && object.name == name)
        .flat_map(|object| &object.conditions)
        .find(|found| found.r#type == condition)
        .map(|found| format!("{} {} {}", found.status, found.reason, found.message))
        .unwrap_or_default()
}

async fn start_in(root: PathBuf) -> (Running, Tasks) {
    let path = |name: &str| Some(root.join(name).display().to_string());
    let config = Config::new(Typed {
        directory: path("manifests"),
        state_directory: path("state"),
        join_tokens: path("tokens.json"),
        listen: Some("127.0.0.1:0".into()),
        metrics_listen: Some("127.0.0.1:0".into()),
        admin_socket: path("admin.sock"),
        ..Typed::default()
    });
    let tasks = Tasks::new();
    let running = app::start(config.unwrap(), &tasks).await.unwrap();
    (running, tasks)
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn trust_domain() -> TrustDomain {
    "cluster.local".parse().unwrap()
}

pub(crate) fn split(stable: u32, canary: u32) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {{name: api, namespace: \
         shop}}\nspec:\n  service: api\n  backends:\n  - {{service: api-v1, weight: {stable}}}\n  - \
         {{service: api-v2, weight: {canary}}}\n"
    )
}

const SHOP: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: frontend, namespace: shop, uid: frontend-1, annotations: {heddle.dev/injected: 'true'}}
  spec: {serviceAccountName: frontend, containers: [{name: a, ports: [{containerPort: 8080}]}]}
  status: {podIP: 127.0.0.1}
- apiVersion: v1
  kind: Pod
  metadata: {name: api-v1, namespace: shop, uid: api-v1-1, annotations: {heddle.dev/injected: 'true'}}
  spec: {serviceAccountName: api, containers: [{name: a}]}
  status: {podIP: 10.42.0.3}
- {apiVersion: v1, kind: Service, metadata: {name: api, namespace: shop}, spec: {clusterIP: 10.43.0.1, ports: [{port: 80, name: http}]}}
- {apiVersion: v1, kind: Service, metadata: {name: api-v1, namespace: shop}, spec: {clusterIP: 10.43.0.2, ports: [{port: 80, name: http}]}}
- {apiVersion: v1, kind: Service, metadata: {name: api-v2, namespace: shop}, spec: {clusterIP: 10.43.0.3, ports: [{port: 80, name: http}]}}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: api-v1-a, namespace: shop, labels: {kubernetes.io/service-name: api-v1}}
  addressType: IPv4
  ports: [{name: http, port: 8080}]
  endpoints: [{addresses: [10.42.0.3], targetRef: {kind: Pod, uid: api-v1-1}}]
";
