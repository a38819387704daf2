//! Applies objects on the server's side, one after another, and says what became of each.

use std::fmt;

use serde_json::Value;

use super::arguments::{ApplyArguments, ObjectFormat};
use super::{render, tell};
use crate::chart::kind::Kind;
use crate::chart::manifest::{Manifest, ObjectId};
use crate::failure::Failure;
use crate::kubernetes::client::{self, Cluster, failed};
use crate::kubernetes::objects::ApplyOptions;
use crate::output;
use crate::table;

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was there, and differed.
    Configured,
    /// It was there, and was as it should be.
    Unchanged,
    /// Its namespace is not there yet, so a dry run cannot tell.
    NotTried,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::NotTried => "not tried: its namespace is not there yet",
        })
    }
}

/// Applies all of them, in their order. Each is told at once; in other formats than names, all of them at the end.
pub async fn all(
    cluster: &Cluster,
    manifests: &[Manifest],
    options: ApplyOptions,
    arguments: &ApplyArguments,
) -> Result<(), Failure> {
    let format = arguments.output;
    let mut applied = Vec::new();
    let note = if options.dry_run { " (server dry run)" } else { "" };
    let names = matches!(format, None | Some(ObjectFormat::Name));
    for manifest in manifests {
        let id = manifest.id();
        let (outcome, object) = one(cluster, manifest, options).await?;
        let line = format!("{id} {outcome}{note}\n");
        if names {
            output::print(&line)?
        } else {
            tell(&line)
        }
        applied.push(Manifest { object, ..manifest.clone() });
    }
    match format {
        None | Some(ObjectFormat::Name) => Ok(()),
        Some(ObjectFormat::Json) => {
            output::print(&render::list(applied.iter().map(|manifest| &manifest.object))?)
        }
        Some(format @ (ObjectFormat::Yaml | ObjectFormat::Wide)) => {
            let anew = applied.into_iter().map(|one| Manifest::of(one.kind, &one.file, one.object));
            let text = render::objects(&anew.collect::<Vec<_>>(), format, output::Colour::Never)?;
            let no_headers = format == ObjectFormat::Wide && arguments.no_headers;
            output::print(&table::headed(text, no_headers))
        }
    }
}

async fn one(
    cluster: &Cluster,
    manifest: &Manifest,
    options: ApplyOptions,
) -> Result<(Outcome, Value), Failure> {
    let id = manifest.id();
    let resource = manifest.kind.resource();
    let before = cluster.get(&resource, id.namespace.as_deref(), &id.name).await?;
    match cluster.apply(&resource, &manifest.object, options).await {
        Ok(after) => Ok((outcome(before.as_ref(), &after), after)),
        Err(kube::Error::Api(status))
            if status.code == 404 && options.dry_run && manifest.kind.is_namespaced() =>
        {
            Ok((Outcome::NotTried, manifest.object.clone()))
        }
        Err(error) => Err(refused(cluster, &id, &error)),
    }
}

fn outcome(before: Option<&Value>, after: &Value) -> Outcome {
    // A dry run gives the old resource version back, so what else changed is looked at; who wrote a field does not count.
    let plain = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            metadata.remove("resourceVersion");
            metadata.remove("generation");
        }
        object
    };
    match before {
        None => Outcome::Created,
        Some(before) if plain(before) == plain(after) => Outcome::Unchanged,
        Some(_) => Outcome::Configured,
    }
}

fn refused(cluster: &Cluster, id: &ObjectId, error: &kube::Error) -> Failure {
    let attempt = format!("apply {id}");
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    if code == 409 {
        let remedy = format!(
            "see who else writes it (`kubectl get {id} --show-managed-fields -o yaml`), and take it over with --force-conflicts"
        );
        return client::because(Failure::new(format!("cannot {attempt}"), remedy), error);
    }
    if code == 403 && matches!(id.kind, Kind::ClusterRole | Kind::Role) {
        let remedy = "install as somebody who has all permissions that the mesh gets: a cluster administrator";
        return client::because(Failure::new(format!("cannot {attempt}"), remedy), error);
    }
    failed(cluster, &attempt, error)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_became_of_an_object_is_told_by_what_changed() {
        let object = |version: &str, data: &str| json!({"metadata": {"resourceVersion": version}, "data": data});
        for (case, before, after, expected) in [
            ("new", None, object("1", "a"), Outcome::Created),
            ("the same", Some(object("1", "a")), object("1", "a"), Outcome::Unchanged),
            ("the same by another", Some(object("1", "a")), object("2", "a"), Outcome::Unchanged),
            ("changed, tried only", Some(object("1", "a")), object("1", "b"), Outcome::Configured),
        ] {
            assert_eq!(outcome(before.as_ref(), &after), expected, "case: {case}");
        }
    }
}
