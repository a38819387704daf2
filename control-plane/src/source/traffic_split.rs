//! The fields of SMI's TrafficSplit, v1alpha1 to v1alpha4, as they are written. What they mean is in
//! `translate/traffic_split.rs`.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Visitor};

/// `spec` of a TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TrafficSplitSpec {
    /// The service that clients call.
    pub service: String,
    /// Where its requests go.
    #[serde(default)]
    pub backends: Vec<TrafficSplitBackend>,
    /// References to HTTPRouteGroups; from v1alpha3 on.
    #[serde(default)]
    pub matches: Vec<TrafficSplitMatch>,
}

/// One backend of a TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TrafficSplitBackend {
    /// A service in the same namespace.
    pub service: String,
    /// Its share.
    pub weight: Weight,
}

/// A reference to an HTTPRouteGroup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSplitMatch {
    /// `specs.smi-spec.io`.
    #[serde(default)]
    pub api_group: Option<String>,
    /// `HTTPRouteGroup`.
    pub kind: String,
    /// The group's name.
    pub name: String,
}

/// A weight as it was written: a whole number, or a quantity such as `500m` (v1alpha1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weight {
    /// `10`.
    Number(i64),
    /// `500m`, `"1"`, `0.5`.
    Text(String),
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WeightVisitor)
    }
}

struct WeightVisitor;

impl Visitor<'_> for WeightVisitor {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a weight: a whole number, or a quantity such as 500m")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Weight, E> {
        Ok(Weight::Number(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Weight, E> {
        Ok(Weight::Text(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Weight, E> {
        Ok(Weight::Text(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Weight, E> {
        Ok(Weight::Text(value.to_owned()))
    }
}
