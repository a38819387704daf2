//! The fields of SMI's HTTPRouteGroup, as they are written. What they mean is in
//! `translate/http_route_group.rs`.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::{self, MapAccess, SeqAccess, Visitor};

/// An HTTPRouteGroup. v1alpha1 and v1alpha2 have no `spec`: their matches are beside the metadata.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteGroup {
    /// Group and version.
    pub api_version: String,
    /// As it was written.
    pub kind: String,
    /// Names, labels, annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// From v1alpha3 on.
    #[serde(default)]
    pub spec: Option<HttpRouteGroupSpec>,
    /// Up to v1alpha2.
    #[serde(default)]
    pub matches: Vec<GroupMatch>,
}

/// `spec` of an HTTPRouteGroup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HttpRouteGroupSpec {
    /// Any of these.
    #[serde(default)]
    pub matches: Vec<GroupMatch>,
}

/// One condition on requests; all parts that are set must hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupMatch {
    /// Its name.
    pub name: String,
    /// A regular expression over the path.
    #[serde(default)]
    pub path_regex: Option<String>,
    /// Any of these; `*` is every one.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Regular expressions over headers' values.
    #[serde(default)]
    pub headers: GroupHeaders,
}

/// Headers' names and regular expressions: a mapping, or a list of mappings as the examples of SMI
/// have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupHeaders(pub Vec<(String, String)>);

impl<'de> Deserialize<'de> for GroupHeaders {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = GroupHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers: names with regular expressions")
    }

    fn visit_unit<E: de::Error>(self) -> Result<GroupHeaders, E> {
        Ok(GroupHeaders::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GroupHeaders, A::Error> {
        let mut headers = Vec::new();
        while let Some(entry) = map.next_entry::<String, String>()? {
            headers.push(entry);
        }
        Ok(GroupHeaders(headers))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<GroupHeaders, A::Error> {
        let mut headers = Vec::new();
        while let Some(entry) = list.next_element::<BTreeMap<String, String>>()? {
            headers.extend(entry);
        }
        Ok(GroupHeaders(headers))
    }
}
