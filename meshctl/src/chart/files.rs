//! The chart's files as they are in this program. A test compares the list with `install/chart/heddle`.

use super::template::Source;

macro_rules! source {
    ($name:literal) => {
        Source {
            name: concat!("templates/", $name),
            text: include_str!(concat!("../../../install/chart/heddle/templates/", $name)),
        }
    };
}

/// What the chart says of itself.
pub const CHART: &str = include_str!("../../../install/chart/heddle/Chart.yaml");

/// The default values, with what they mean.
pub const VALUES: &str = include_str!("../../../install/chart/heddle/values.yaml");

/// The values for several replicas.
pub const HA_VALUES: &str = include_str!("../../../install/chart/heddle/values-ha.yaml");

/// What values may be.
pub const SCHEMA: &str = include_str!("../../../install/chart/heddle/values.schema.json");

/// What is told after installing.
pub const NOTES: &Source<'static> = &source!("NOTES.txt");

/// Definitions that all templates may include.
pub const HELPERS: [Source<'static>; 1] = [source!("_helpers.tpl")];

/// What becomes objects.
pub const TEMPLATES: &[Source<'static>] = &[
    source!("control-plane.yaml"),
    source!("crd-trafficpolicies.yaml"),
    source!("injector-settings.yaml"),
    source!("injector.yaml"),
    source!("network-policies.yaml"),
    source!("pod-disruption-budgets.yaml"),
    source!("pod-monitors.yaml"),
    source!("rbac-control-plane.yaml"),
    source!("rbac-injector.yaml"),
    source!("rbac-tap.yaml"),
    source!("service-accounts.yaml"),
    source!("services.yaml"),
    source!("webhook.yaml"),
];
