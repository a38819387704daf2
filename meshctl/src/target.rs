//! Which mesh a command is about: one on this machine, or one in a cluster. Both answer the same questions.

use std::path::PathBuf;

use clap::Args;
use futures_util::future::BoxFuture;
use heddle_local::state_directory::{self, StateDirectory};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::admin::{self, AdminService};
use crate::failure::Failure;
use crate::kubernetes::arguments::ClusterArguments;
use crate::kubernetes::client::{self, Cluster};
use crate::kubernetes::control_plane::{self, Answer};
use crate::worlds;

/// Which mesh is meant, as typed.
#[derive(Clone, Debug, Args)]
pub struct TargetArguments {
    /// A local mesh; not needed while there is only one
    #[arg(long, conflicts_with_all = ["admin_socket", "context"])]
    pub name: Option<String>,
    /// The admin socket of a control plane on this machine
    #[arg(long, value_name = "PATH", conflicts_with = "context")]
    pub admin_socket: Option<PathBuf>,
    /// Otherwise a cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// What the help of these commands says of the choice.
pub const TARGET_AFTER_HELP: &str = "\
Which mesh is meant:
  --name, --admin-socket      one on this machine
  --context, --kubeconfig     one in a cluster; so does KUBECONFIG in the environment
  none of them                the local mesh, if one runs, and else the cluster of ~/.kube/config";

/// The mesh that is meant.
#[derive(Clone, Debug)]
pub enum Target {
    /// On this machine, at its admin socket.
    Local(PathBuf),
    /// In a cluster.
    Cluster(Cluster),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Socket,
    World,
    Cluster,
}

/// Whoever names something means it.
fn choose(arguments: &TargetArguments, local_meshes: usize) -> Choice {
    if arguments.admin_socket.is_some() {
        Choice::Socket
    } else if arguments.name.is_some() {
        Choice::World
    } else if arguments.cluster.names_a_cluster() || local_meshes == 0 {
        Choice::Cluster
    } else {
        Choice::World
    }
}

impl TargetArguments {
    /// Finds the mesh. Nothing is asked of it yet.
    pub async fn find(&self) -> Result<Target, Failure> {
        // A directory that cannot be listed holds no mesh that could be meant by saying nothing.
        let local_meshes = state_directory::running_worlds().map_or(0, |worlds| worlds.len());
        match (choose(self, local_meshes), &self.admin_socket) {
            (Choice::Socket, Some(socket)) => Ok(Target::Local(socket.clone())),
            (Choice::Socket | Choice::World, _) => {
                let directory = worlds::find(self.name.as_deref())?;
                Ok(Target::Local(StateDirectory::new(directory).admin_socket()))
            }
            (Choice::Cluster, _) => match client::connect(&self.cluster).await {
                Ok(cluster) => Ok(Target::Cluster(cluster)),
                Err(failure) if self.cluster.names_a_cluster() => Err(failure),
                Err(failure) => Err(failure.because_of(
                    "and no local mesh of this user runs (`meshctl local up DIRECTORY` starts one)",
                )),
            },
        }
    }
}

impl Target {
    /// Asks every control plane of the mesh; see [`control_plane::ask_all`].
    pub async fn ask_all<C, T, F>(&self, ask: F) -> Result<Vec<Answer<T>>, Failure>
    where
        C: AdminService,
        F: Fn(C) -> BoxFuture<'static, Result<T, tonic::Status>>,
    {
        match self {
            Self::Local(socket) => {
                let said = admin::ask(socket, ask).await?;
                Ok(vec![Answer { pod: String::new(), said: Ok(said) }])
            }
            Self::Cluster(cluster) => control_plane::ask_all(cluster, ask).await,
        }
    }

    /// Asks any control plane of the mesh: the first that is ready.
    pub async fn ask_any<C, T, F>(&self, ask: F) -> Result<T, Failure>
    where
        C: AdminService,
        F: Fn(C) -> BoxFuture<'static, Result<T, tonic::Status>>,
    {
        match self {
            Self::Local(socket) => admin::ask(socket, ask).await,
            Self::Cluster(cluster) => {
                let pods = control_plane::ready_pods(cluster).await?;
                let first = pods.first().map(String::as_str).unwrap_or_default();
                control_plane::ask_one(cluster, first, ask).await
            }
        }
    }

    /// Asks one control plane, by the name that [`Answer::pod`] told.
    pub async fn ask_at<C, T, F>(&self, pod: &str, ask: F) -> Result<T, Failure>
    where
        C: AdminService,
        F: Fn(C) -> BoxFuture<'static, Result<T, tonic::Status>>,
    {
        match self {
            Self::Local(socket) => admin::ask(socket, ask).await,
            Self::Cluster(cluster) => control_plane::ask_one(cluster, pod, ask).await,
        }
    }

    /// A connection to the admin port of any control plane of the mesh: the first that is ready.
    pub async fn open_admin_port(&self) -> Result<Box<dyn Stream>, Failure> {
        match self {
            Self::Local(socket) => match UnixStream::connect(socket).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(admin::unreachable(socket).because(&error)),
            },
            Self::Cluster(cluster) => Ok(Box::new(control_plane::open(cluster).await?)),
        }
    }

    /// The namespace that a name without one is of.
    pub fn default_namespace(&self) -> &str {
        match self {
            Self::Local(_) => "default",
            Self::Cluster(cluster) => &cluster.default_namespace,
        }
    }
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Those that answered, after telling on standard error of those that did not.
pub fn heard<T>(answers: Vec<Answer<T>>) -> Vec<(String, T)> {
    use std::io::Write as _;
    let mut heard = Vec::new();
    for Answer { pod, said } in answers {
        match said {
            Ok(said) => heard.push((pod, said)),
            Err(failure) => {
                // Nobody may be reading.
                let warning = format!("warning: what this one knows is missing: {failure}\n");
                let _ = std::io::stderr().lock().write_all(warning.as_bytes());
            }
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::arguments::DEFAULT_MESH_NAMESPACE;

    #[test]
    fn whoever_names_a_mesh_means_it_and_else_a_local_one_goes_first() {
        let typed =
            |name: Option<&str>, socket: Option<&str>, context: Option<&str>, file: &str| {
                TargetArguments {
                    name: name.map(Into::into),
                    admin_socket: socket.map(Into::into),
                    cluster: ClusterArguments {
                        kubeconfig: (file != "-").then(|| file.into()),
                        context: context.map(Into::into),
                        mesh_namespace: DEFAULT_MESH_NAMESPACE.to_owned(),
                    },
                }
            };
        for (case, arguments, local_meshes, expected) in [
            ("nothing, and one runs", typed(None, None, None, "-"), 1, Choice::World),
            ("nothing, and several run", typed(None, None, None, "-"), 2, Choice::World),
            ("nothing, and none runs", typed(None, None, None, "-"), 0, Choice::Cluster),
            ("an empty KUBECONFIG", typed(None, None, None, ""), 1, Choice::World),
            ("KUBECONFIG", typed(None, None, None, "/k"), 1, Choice::Cluster),
            ("a context", typed(None, None, Some("c"), "-"), 1, Choice::Cluster),
            ("a name beside KUBECONFIG", typed(Some("n"), None, None, "/k"), 1, Choice::World),
            ("a name, and none runs", typed(Some("n"), None, None, "-"), 0, Choice::World),
            ("a socket beside KUBECONFIG", typed(None, Some("s"), None, "/k"), 0, Choice::Socket),
        ] {
            assert_eq!(choose(&arguments, local_meshes), expected, "case: {case}");
        }
    }
}
