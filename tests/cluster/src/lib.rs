//! A real Kubernetes on one machine, in namespaces of its own.
//!
//! Whoever wants one holds a [`cluster::Cluster`]. The cluster itself consists of these processes, each started by the one
//! before: [`world`] makes the namespaces, [`heddle_local::init`] is the first process in them, [`supervisor`] makes the
//! nodes' network, and each [`node`] runs the programs of Kubernetes in namespaces of its own again.
//!
//! Everything is real but two things: the cluster's name server is [`dns`], and there is no registry of images, so that
//! every node is given them as archives ([`image`]). It keeps to this machine: no way leads out of its network.

pub mod addresses;
pub mod binaries;
pub mod bootstrap;
pub mod cgroups;
pub mod client;
pub mod cluster;
pub mod component;
pub mod control;
pub mod control_plane;
pub mod directory;
pub mod dns;
pub mod echo;
pub mod image;
pub mod kubernetes;
pub mod node;
pub mod options;
pub mod pki;
pub mod requirements;
pub mod supervisor;
pub mod wait;
pub mod worker;
pub mod world;
