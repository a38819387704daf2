//! The wire contract of the mesh: generated messages and services, and the only conversion between
//! them and the model.

pub mod codec;
pub mod convert;
mod show;

/// `heddle.identity.v1`: certificates.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod identity {
    tonic::include_proto!("heddle.identity.v1");
}

/// `heddle.discovery.v1`: configuration.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod discovery {
    tonic::include_proto!("heddle.discovery.v1");
}

/// `heddle.admin.v1`: what the control plane knows, for meshctl.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod admin {
    tonic::include_proto!("admin/heddle.admin.v1");
}

/// `heddle.peers.v1`: what the replicas of a control plane tell each other.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod peers {
    tonic::include_proto!("heddle.peers.v1");
}

/// `heddle.telemetry.v1`: what the control plane remembers of the traffic.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod telemetry {
    tonic::include_proto!("heddle.telemetry.v1");
}

/// `heddle.tap.v1`: single requests while they happen.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::too_many_lines,
    reason = "generated"
)]
pub mod tap {
    tonic::include_proto!("heddle.tap.v1");
}
