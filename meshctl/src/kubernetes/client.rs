//! A client of the API server, from a kubeconfig file as kubectl reads it.

use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::failure::Failure;
use crate::kubernetes::arguments::ClusterArguments;

/// A cluster that can be asked. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    /// Asks its API server.
    pub client: Client,
    /// Where objects are looked for that are named without a namespace: the context's.
    pub default_namespace: String,
    /// Where the mesh is installed.
    pub mesh_namespace: String,
    /// Of the API server, for messages.
    pub address: String,
}

/// Reads the kubeconfig and makes a client. Nothing is asked of the cluster yet.
///
/// Inside of a pod, and with no kubeconfig at all, the pod's own service account is used.
pub async fn connect(arguments: &ClusterArguments) -> Result<Cluster, Failure> {
    let mut config = config(arguments).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let default_namespace = config.default_namespace.clone();
    let address = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| {
        Failure::new(
            format!("cannot make a client for the cluster at {address}"),
            "check the certificates and the credentials of the kubeconfig's context",
        )
        .because(&error)
    })?;
    let mesh_namespace = arguments.mesh_namespace.clone();
    Ok(Cluster { client, default_namespace, mesh_namespace, address })
}

async fn config(arguments: &ClusterArguments) -> Result<Config, Failure> {
    let options =
        KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
    let read = match files(arguments) {
        Some(files) => read_all(&files),
        None => Kubeconfig::read(),
    };
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            let named = arguments.names_a_cluster();
            // As kubectl does: a pod needs no file.
            return match Config::incluster() {
                Ok(config) if !named => Ok(config),
                Ok(_) | Err(_) => Err(unusable(&error)),
            };
        }
    };
    Config::from_custom_kubeconfig(read, &options).await.map_err(|error| unusable(&error))
}

/// The files that were named; `None`: the usual one.
fn files(arguments: &ClusterArguments) -> Option<Vec<PathBuf>> {
    let named = arguments.kubeconfig.as_ref()?;
    let files: Vec<_> =
        std::env::split_paths(named).filter(|path| !path.as_os_str().is_empty()).collect();
    (!files.is_empty()).then_some(files)
}

/// All of them as one; of several, those that do not exist are left out, as kubectl does.
fn read_all(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    let several = files.len() > 1;
    let there = files.iter().filter(|file| !several || file.exists());
    there.into_iter().try_fold(Kubeconfig::default(), |merged, file| {
        Kubeconfig::read_from(file).and_then(|next| merged.merge(next))
    })
}

fn unusable(error: &KubeconfigError) -> Failure {
    Failure::new(
        "cannot tell which cluster is meant",
        "give a --kubeconfig FILE and a --context NAME of it (`kubectl config get-contexts` lists them)",
    )
    .because(error)
}

/// What a failed request to the API server says to people: what was attempted, and what would do.
pub fn failed(cluster: &Cluster, attempt: &str, error: &kube::Error) -> Failure {
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    let remedy = match code {
        401 => {
            "log in again: the API server does not accept the kubeconfig's credentials".to_owned()
        }
        403 => "ask for the permission that the message names".to_owned(),
        404 => "check the name and the namespace, and `meshctl check`".to_owned(),
        _ => format!("check that the API server at {} can be reached", cluster.address),
    };
    because(Failure::new(format!("cannot {attempt}"), remedy), error)
}

/// Adds why a request failed: what the API server says for people, where it says something.
pub fn because(failure: Failure, error: &kube::Error) -> Failure {
    if let kube::Error::Api(status) = error
        && !status.message.is_empty()
    {
        return failure.because_of(status.message.as_str());
    }
    failure.because(error)
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cluster")
            .field("address", &self.address)
            .field("mesh_namespace", &self.mesh_namespace)
            .finish_non_exhaustive()
    }
}

/// For the connection and its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer. Forwarded connections are pinged more often.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kubernetes::arguments::DEFAULT_MESH_NAMESPACE;

    fn arguments(kubeconfig: Option<&str>, context: Option<&str>) -> ClusterArguments {
        ClusterArguments {
            kubeconfig: kubeconfig.map(Into::into),
            context: context.map(ToOwned::to_owned),
            mesh_namespace: DEFAULT_MESH_NAMESPACE.to_owned(),
        }
    }

    fn kubeconfig(context: &str, port: u16) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\n\
             clusters: [{{name: {context}, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
             users: [{{name: {context}, user: {{}}}}]\n\
             contexts: [{{name: {context}, context: {{cluster: {context}, user: {context}, namespace: of-{context}}}}}]\n"
        )
    }

    #[tokio::test]
    async fn the_first_file_of_several_tells_the_context_unless_one_is_named() {
        let place = tempfile::tempdir().unwrap();
        let [first, second, absent] =
            ["first", "second", "absent"].map(|name| place.path().join(name));
        fs::write(&first, kubeconfig("first", 1)).unwrap();
        fs::write(&second, kubeconfig("second", 2)).unwrap();
        let both = std::env::join_paths([&absent, &first, &second]).unwrap();
        let both = both.to_str().unwrap();
        for (case, named, context, expected) in [
            ("one file", second.to_str().unwrap(), None, "of-second"),
            ("the first of several", both, None, "of-first"),
            ("a context of the second", both, Some("second"), "of-second"),
        ] {
            let cluster = connect(&arguments(Some(named), context)).await.unwrap();
            assert_eq!(cluster.default_namespace, expected, "case: {case}");
        }
    }

    #[tokio::test]
    async fn a_cluster_that_nobody_can_tell_is_a_failure_with_a_remedy() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("config");
        fs::write(&file, kubeconfig("shop", 1)).unwrap();
        for (case, named, context, expected) in [
            ("no such file", "/nonexistent/config", None, "/nonexistent/config"),
            ("no such context", file.to_str().unwrap(), Some("other"), "other"),
        ] {
            let failure = connect(&arguments(Some(named), context)).await.unwrap_err().to_string();
            assert!(failure.contains(expected), "case: {case}: {failure}");
            assert!(failure.contains("--context NAME"), "case: {case}: {failure}");
        }
    }
}
