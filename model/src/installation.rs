//! What the mesh's own objects are called in a cluster: one home for every part that makes, reads, selects or deletes
//! them. The chart in `install/` says the same, and a cluster that runs has them: a name here is not changed.

/// The Secret with the authority's keys, in the mesh's namespace.
pub const AUTHORITY_SECRET: &str = "heddle-authority";

/// The ConfigMap with the trust anchors, in every namespace with meshed pods.
pub const TRUST_ANCHORS_CONFIG_MAP: &str = "heddle-trust-anchors";

/// The ConfigMap in the mesh's namespace in which control planes tell each other what their proxies hold, while a
/// rotation is under way.
pub const ROTATION_CONFIG_MAP: &str = "heddle-rotation";

/// The Lease of the control plane that writes, in the mesh's namespace.
pub const CONTROL_PLANE_LEASE: &str = "heddle-control-plane";

/// Selects the control plane: its Deployment and its pods.
pub const CONTROL_PLANE_SELECTOR: &str =
    "app.kubernetes.io/name=heddle,app.kubernetes.io/component=control-plane";

/// The label of all that is the mesh's.
pub const PART_OF: &str = "app.kubernetes.io/part-of";

/// The value of [`PART_OF`].
pub const HEDDLE: &str = "heddle";

/// Selects all that is the mesh's.
pub const SELECTOR: &str = "app.kubernetes.io/part-of=heddle";
