//! The fields of TLSRoute, as they are written. What they mean is in `translate/connection_route.rs`.

use gateway_api::experimental::tlsroutes::{
    TlsRouteParentRefs, TlsRouteRules, TlsRouteUseDefaultGateways,
};
use serde::Deserialize;

/// `spec` of a TLSRoute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// v1 wants some; the versions before it have routes without any.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Services, and others.
    #[serde(default)]
    pub parent_refs: Option<Vec<TlsRouteParentRefs>>,
    /// Where connections go.
    pub rules: Vec<TlsRouteRules>,
    /// Of gateways; not the mesh's.
    #[serde(default)]
    pub use_default_gateways: Option<TlsRouteUseDefaultGateways>,
}
