//! The command lines of the two programs of the mesh that run beside an application.

use crate::manifests::addresses::Addresses;
use crate::manifests::pod::PodPlan;
use crate::settings::Settings;

/// Takes the workload's traffic to its proxy.
pub fn redirect(settings: &Settings) -> Vec<String> {
    vec![
        settings.binary("heddle-proxy"),
        "redirect".to_owned(),
        format!("--inbound-port={INBOUND_PORT}"),
        format!("--outbound-port={OUTBOUND_PORT}"),
        format!("--exempt-mark={PROXY_MARK}"),
        format!("--skip-inbound-ports={ADMIN_PORT}"),
    ]
}

/// The proxy.
pub fn proxy(settings: &Settings, plan: &PodPlan) -> Vec<String> {
    let state = &settings.state;
    let gateway = Addresses::of_bridge(settings.families).v4;
    let mut argv = vec![
        settings.binary("heddle-proxy"),
        "run".to_owned(),
        format!("--control-plane={gateway}:{CONTROL_PLANE_PORT}"),
        format!("--trust-anchors={}", state.trust_anchors().display()),
        format!("--token-file={}", state.workload(plan.uid.as_str(), "token").display()),
        format!("--pod-uid={}", plan.uid),
        format!("--trust-domain={}", settings.config.trust_domain),
        format!("--outbound-port={OUTBOUND_PORT}"),
        format!("--inbound-port={INBOUND_PORT}"),
        format!("--admin-port={ADMIN_PORT}"),
        format!("--mark={PROXY_MARK}"),
        format!("--drain-grace={}s", plan.termination_grace.as_secs()),
    ];
    argv.extend_from_slice(&settings.config.proxy_arguments);
    argv
}

/// The mark of the proxy's own connections, which the redirect leaves alone. Any number that nothing else in a network
/// namespace of one's own uses.
const PROXY_MARK: u32 = 0x4845;
const OUTBOUND_PORT: u16 = 15_101;
const INBOUND_PORT: u16 = 15_106;
/// Where the proxy says whether it is ready.
pub const ADMIN_PORT: u16 = 15_190;
/// Where the control plane listens on the bridge.
pub const CONTROL_PLANE_PORT: u16 = 15_210;
/// The port of the control plane's metrics, on the bridge.
pub const CONTROL_PLANE_METRICS_PORT: u16 = 15_290;
