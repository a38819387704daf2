//! What the mutating webhook does to a pod, as a pure library: whether the pod gets a proxy, and the
//! JSON patch that gives it one. The HTTPS server around it is not here.

pub mod annotations;
pub mod decision;
pub mod patch;
