//! The command line of `heddle-cluster`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use heddle_cluster::binaries::Source;
use heddle_cluster::directory::Name;
use heddle_cluster::image::capabilities::Capabilities;
use heddle_cluster::options::{DEFAULT_NODES, NODES_LIMIT};
use heddle_runtime::duration;

/// A real Kubernetes for tests, on this machine, in namespaces of its own
#[derive(Parser)]
#[command(name = "heddle-cluster", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    User(UserCommand),
    #[command(flatten)]
    Part(Part),
}

#[derive(Subcommand)]
pub(crate) enum UserCommand {
    /// Starts a cluster, which lives until it is ended
    Up(Start),
    /// Ends a cluster, and removes what one that was killed has left
    Down(Which),
    /// Starts a cluster, runs a command that finds it by KUBECONFIG, and ends the cluster with it
    Run {
        #[command(flatten)]
        start: Start,
        /// The command; `kubectl` is on its path
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Prints what runs on every node
    Status(Which),
    /// Prints the variables that a shell wants: `eval "$(heddle-cluster env)"`
    Env(Which),
    /// Runs a command on a node, in its network and with its files
    Exec {
        #[command(flatten)]
        which: Which,
        /// The node
        #[arg(long, default_value = "node1")]
        node: String,
        /// The command
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Ends a component of a node, such as kube-apiserver, and leaves it ended
    Stop(Component),
    /// Starts it again
    Start(Component),
    /// Has a component of a node stand still, such as kubelet: the node is not heard of, and its pods run on
    Freeze(Component),
    /// Lets it go on
    Thaw(Component),
    /// Makes the usual images from the programs in a folder and gives them to all nodes
    Reload {
        #[command(flatten)]
        which: Which,
        /// As of `up`
        #[arg(long, default_value = "release")]
        binaries: Source,
    },
    /// Gives all nodes the images of archives
    Load {
        #[command(flatten)]
        which: Which,
        /// Archives as `docker save` writes them
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Makes an archive of an image from files
    Image(ImageArguments),
    /// Builds Kubernetes, unless it is built, and prints the folder with its programs
    Build,
    /// Builds the programs of the mesh and of its tests for a release, and prints the folder with them
    Programs,
}

#[derive(Args)]
pub(crate) struct Which {
    /// The cluster's name: several may live at once
    #[arg(long, default_value = "heddle")]
    pub(crate) name: Name,
}

#[derive(Args)]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) which: Which,
    /// How many nodes
    #[arg(long, default_value_t = DEFAULT_NODES, value_parser = clap::value_parser!(u8).range(1..=i64::from(NODES_LIMIT)))]
    pub(crate) nodes: u8,
    /// Where the programs in the mesh's images come from: "release" builds them, "none" makes no such images, anything
    /// else is a folder with programs that are built already
    #[arg(long, default_value = "release")]
    pub(crate) binaries: Source,
    /// Archives of more images
    #[arg(long = "image", value_name = "ARCHIVE")]
    pub(crate) images: Vec<PathBuf>,
    /// How long to wait while another cluster of this name lives
    #[arg(long, default_value = "0s")]
    pub(crate) wait: duration::Text,
}

#[derive(Args)]
pub(crate) struct Component {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The node
    #[arg(long, default_value = "node1")]
    pub(crate) node: String,
    /// As `status` prints it
    pub(crate) component: String,
}

#[derive(Args)]
pub(crate) struct ImageArguments {
    /// What it is called, such as heddle/proxy:0.1.0
    #[arg(long)]
    pub(crate) image: String,
    /// A program, stripped and with its libraries
    #[arg(long = "program", value_name = "/PATH=FILE", value_parser = pair)]
    pub(crate) programs: Vec<(String, String)>,
    /// A file as it is
    #[arg(long = "file", value_name = "/PATH=FILE", value_parser = pair)]
    pub(crate) files: Vec<(String, String)>,
    /// Capabilities that a program has whoever starts it, such as cap_net_admin,cap_net_raw
    #[arg(long = "capabilities", value_name = "/PATH=LIST", value_parser = grant)]
    pub(crate) capabilities: Vec<(String, Capabilities)>,
    /// What runs; its words one by one
    #[arg(long)]
    pub(crate) entrypoint: Vec<String>,
    /// As whom
    #[arg(long, default_value = "")]
    pub(crate) user: String,
    /// The archive
    #[arg(long, short)]
    pub(crate) output: PathBuf,
}

/// What a cluster consists of; for the cluster to start.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// Makes the namespaces and cleans up.
    #[command(hide = true)]
    World { options: String },
    /// The first process of the PID namespace.
    #[command(hide = true)]
    Init {
        #[arg(long)]
        state_directory: PathBuf,
    },
    /// Starts the nodes.
    #[command(hide = true)]
    Supervisor {
        #[arg(long)]
        state_directory: PathBuf,
    },
    /// A node.
    #[command(hide = true)]
    Node {
        #[arg(long)]
        state_directory: PathBuf,
        #[arg(long)]
        number: u8,
    },
    /// The cluster's name server.
    #[command(hide = true)]
    Dns {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        kubeconfig: PathBuf,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (path, rest) = text.split_once('=').ok_or("want /PATH=FILE")?;
    Ok((path.to_owned(), rest.to_owned()))
}

fn grant(text: &str) -> Result<(String, Capabilities), String> {
    let (path, list) = pair(text)?;
    Ok((path, list.parse().map_err(|error: anyhow::Error| error.to_string())?))
}
