//! The mesh's tests on a real Kubernetes: `cargo test -p heddle-cluster --test cluster`. One module per theme; all that do
//! not end or break it share one cluster, which ends with this process.
//!
//! `HEDDLE_CLUSTER` names a cluster that is up already and is to be used instead; `HEDDLE_CLUSTER_BINARIES` is what
//! `heddle-cluster up --binaries` takes. What installs and uninstalls has a cluster of its own, or the one that
//! `HEDDLE_INSTALL_CLUSTER` names.

#[cfg(test)]
mod cluster {
    mod continuity;
    mod control_plane;
    mod dashboard;
    mod helm;
    mod injection;
    mod install;
    mod leftovers;
    mod mesh;
    mod operation;
    mod probes;
    mod real;
    mod renewal;
    mod rotation;
    mod routes;
    mod shared;
    mod shop;
    mod shows;
    mod signals;
    mod tap;
    mod tokens;
    mod told;
    mod traffic;
    mod unheard;
    mod wire;
}
