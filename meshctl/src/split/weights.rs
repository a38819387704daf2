//! The weights of an object as JSON: as they are, and as they are to be. Pure.

use serde_json::Value;

use crate::failure::Failure;
use crate::kubernetes::field;
use crate::split::plan::Change;

/// The object with the new weights and all else as it is. Fails where it is not the object that the plan was made for.
pub fn changed(object: &Value, change: &Change) -> Result<Value, Failure> {
    let pointer = change.place.pointer();
    let there: Vec<&str> = field::list(object, &pointer)
        .iter()
        .map(|backend| {
            backend.get(change.place.name_field()).and_then(Value::as_str).unwrap_or_default()
        })
        .collect();
    let wanted: Vec<&str> = change.weights.iter().map(|(name, _)| name.as_str()).collect();
    if there != wanted {
        let why = format!(
            "it has {}, and the control plane told of {}",
            there.join(", "),
            wanted.join(", ")
        );
        let remedy = "try again in a moment: somebody has just changed it";
        return Err(Failure::new(format!("{} has other backends by now", change.title()), remedy)
            .because_of(why));
    }
    let mut object = object.clone();
    let backends = object.pointer_mut(&pointer).and_then(Value::as_array_mut);
    for (backend, (_, weight)) in backends.into_iter().flatten().zip(&change.weights) {
        if let Some(backend) = backend.as_object_mut() {
            backend.insert("weight".to_owned(), Value::from(*weight));
        }
    }
    Ok(object)
}

/// What is sent to the API server: the list that has the weights, whole, and the version of the object that it was
/// made from. Lists of routes are atomic, so that a merge patch takes nothing else away.
pub fn patch(object: &Value, change: &Change) -> Result<Value, Failure> {
    let changed = changed(object, change)?;
    let spec = match change.place {
        crate::split::plan::Place::Split => "backends",
        crate::split::plan::Place::Rule(_) => "rules",
    };
    let list = changed.pointer(&format!("/spec/{spec}")).cloned().unwrap_or_default();
    let version = field::text(object, "/metadata/resourceVersion");
    Ok(serde_json::json!({
        "metadata": { "resourceVersion": version },
        "spec": { spec: list },
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::split::plan::Place;

    fn change(place: Place, weights: &[(&str, u32)]) -> Change {
        Change {
            kind: "HTTPRoute".to_owned(),
            namespace: "shop".to_owned(),
            name: "api".to_owned(),
            file: String::new(),
            place,
            weights: weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
        }
    }

    #[test]
    fn a_patch_has_the_new_weights_and_the_version_that_they_replace() {
        let route = json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"hostnames": ["a"], "rules": [
                {"backendRefs": [{"name": "x", "port": 1}]},
                {"backendRefs": [{"name": "v1", "port": 1, "weight": 1}, {"name": "v2", "port": 1}]},
            ]},
        });
        let patch = patch(&route, &change(Place::Rule(1), &[("v1", 90), ("v2", 10)])).unwrap();
        assert_eq!(patch["metadata"], json!({"resourceVersion": "7"}));
        assert_eq!(patch["spec"]["rules"][0], route["spec"]["rules"][0]);
        assert_eq!(
            patch["spec"]["rules"][1]["backendRefs"],
            json!([{"name": "v1", "port": 1, "weight": 90}, {"name": "v2", "port": 1, "weight": 10}])
        );
        assert_eq!(patch["spec"].get("hostnames"), None);
    }

    #[test]
    fn an_object_that_was_changed_meanwhile_is_left_alone() {
        let split = json!({"spec": {"backends": [{"service": "v1", "weight": 1}]}});
        let failure = changed(&split, &change(Place::Split, &[("v1", 1), ("v2", 1)])).unwrap_err();
        assert!(failure.to_string().contains("other backends by now"), "{failure}");
    }
}
