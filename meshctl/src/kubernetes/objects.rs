//! Objects of any kind, as JSON: what is asked of the API server about them.

use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;

use super::client::{Cluster, failed};
use crate::failure::Failure;

/// A kind of objects that is only read.
pub fn resource(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// Which objects of a kind are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// `None`: those of all namespaces, or of none.
    pub namespace: Option<&'a str>,
    /// A selector of labels; empty: all.
    pub labels: &'a str,
    /// A selector of fields; empty: all.
    pub fields: &'a str,
}

/// How objects are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Everything is checked and nothing is kept.
    pub dry_run: bool,
    /// Fields that another manager owns are taken over.
    pub force: bool,
}

/// Who applies: `meshctl`.
pub const FIELD_MANAGER: &str = "meshctl";

/// At most this many objects in one answer; more come in several.
const PAGE_LIMIT: u32 = 500;

/// How many objects of a kind are read at all: more than the largest cluster has pods.
const LIST_LIMIT: usize = 500_000;

impl Cluster {
    fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        let client = self.client.clone();
        match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, resource),
            None => Api::all_with(client, resource),
        }
    }

    /// An object, or nothing where there is none (or no such kind).
    pub async fn get(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, Failure> {
        let found = self.api(resource, namespace).get_opt(name).await;
        let found = found
            .map_err(|error| failed(self, &format!("read {} {name}", resource.plural), &error))?;
        found.map(|object| json(&object)).transpose()
    }

    /// All objects that the filter lets pass; none where there is no such kind.
    pub async fn list(
        &self,
        resource: &ApiResource,
        filter: Filter<'_>,
    ) -> Result<Vec<Value>, Failure> {
        let api = self.api(resource, filter.namespace);
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let mut page = ListParams::default().limit(PAGE_LIMIT);
            page.label_selector = (!filter.labels.is_empty()).then(|| filter.labels.to_owned());
            page.field_selector = (!filter.fields.is_empty()).then(|| filter.fields.to_owned());
            page.continue_token = next.take();
            let listed = match api.list(&page).await {
                Ok(listed) => listed,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(found),
                Err(error) => {
                    return Err(failed(self, &format!("list {}", resource.plural), &error));
                }
            };
            for object in &listed.items {
                found.push(json(object)?);
            }
            next = listed.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() || found.len() > LIST_LIMIT {
                return Ok(found);
            }
        }
    }

    /// Applies an object on the server's side; gives it back as it is then.
    pub async fn apply(
        &self,
        resource: &ApiResource,
        object: &Value,
        options: ApplyOptions,
    ) -> Result<Value, kube::Error> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let api = self.api(resource, text("/metadata/namespace"));
        let mut parameters = PatchParams::apply(FIELD_MANAGER).validation_strict();
        parameters.dry_run = options.dry_run;
        parameters.force = options.force;
        let name = text("/metadata/name").unwrap_or_default();
        let applied = api.patch(name, &parameters, &Patch::Apply(object)).await?;
        serde_json::to_value(applied).map_err(kube::Error::SerdeError)
    }

    /// Deletes an object, and with it what it owns. Whether it was there.
    pub async fn delete(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<bool, Failure> {
        let api = self.api(resource, namespace);
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(failed(self, &format!("delete {} {name}", resource.plural), &error)),
        }
    }

    /// Waits until an object is gone; whether it is, within the time.
    pub async fn wait_gone(
        &self,
        resource: &ApiResource,
        filter: Filter<'_>,
        patience: Duration,
    ) -> Result<bool, Failure> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            if self.list(resource, filter).await?.is_empty() {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// Between two looks at what is waited for.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

fn json(object: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|error| {
        let remedy = "report this as a bug of meshctl";
        Failure::new("cannot read what the API server answered", remedy).because(&error)
    })
}
