//! Turns the files of the user's directory into what the control plane reads and what this machine runs. Pure: files in,
//! a [`Reading`] out. Who copies the files is in `mirror`, who starts the pods in `supervisor`.

pub mod addresses;
pub mod documents;
pub mod endpoint_slice;
pub mod expand;
pub mod hosts;
pub mod object;
pub mod pod;
pub mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use heddle_model::identity::PodUid;
use heddle_model::names::ServiceName;
use serde_json::Value;

use crate::status::Problem;
use addresses::{Addresses, Exhausted, Families, Pool};
use documents::{Document, Unreadable};
use object::{Object, PodName};
use pod::PodPlan;
use service::ServicePlan;

/// Reads the directory again and again, and remembers what it gave to whom.
#[derive(Debug)]
pub struct Manifests {
    families: Families,
    /// Every file as it was read, with the objects that were in a document that cannot be read any more: an error
    /// changes nothing that runs.
    good: BTreeMap<PathBuf, Vec<Document>>,
    pods: BTreeMap<PodName, PodAssignment>,
    pod_addresses: Pool,
    services: BTreeMap<ServiceName, ServiceAssignment>,
    service_addresses: Pool,
}

/// What the directory means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// What the control plane reads, by the same relative names.
    pub outputs: BTreeMap<PathBuf, Vec<u8>>,
    /// The pods to run.
    pub pods: Vec<PodPlan>,
    /// The services that there are.
    pub services: Vec<ServicePlan>,
    /// What cannot be done.
    pub problems: Vec<Problem>,
}

/// What a pod was given, for as long as it is the same pod.
#[derive(Clone, Debug)]
struct PodAssignment {
    instance: u32,
    uid: PodUid,
    /// A pod whose specification changes is another pod: Kubernetes would not let it change either.
    spec: Value,
    meshed: bool,
    /// As it was last accepted.
    plan: Option<PodPlan>,
}

/// What a service was given, also while it is gone: clients may remember its addresses.
#[derive(Clone, Debug, Default)]
struct ServiceAssignment {
    /// Which virtual addresses it has, unless its file names some.
    number: Option<u32>,
    /// As it was last accepted; nothing once it is gone.
    plan: Option<ServicePlan>,
}

impl Manifests {
    /// A directory that was never read.
    pub fn new(families: Families) -> Self {
        Self {
            families,
            good: BTreeMap::new(),
            pods: BTreeMap::new(),
            pod_addresses: Pool::of_pods(),
            services: BTreeMap::new(),
            service_addresses: Pool::of_services(),
        }
    }

    /// Reads the files, by their names relative to the directory. `new_uid` makes up the UID of a pod that has none.
    pub fn read(
        &mut self,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        mut new_uid: impl FnMut() -> PodUid,
    ) -> Reading {
        let mut reading = Reading::default();
        let good = self.take_good(files, &mut reading);
        self.reserve_addresses(&good);
        let namespaces = object::injection_by_namespace(good.values().flatten());
        for (file, documents) in &good {
            let mut changed = documents.clone();
            for value in changed.iter_mut().flat_map(Document::objects_mut) {
                let mut visit = Visit { file, reading: &mut reading, namespaces: &namespaces };
                self.object(value, &mut visit, &mut new_uid);
            }
            if !reading.outputs.contains_key(file) {
                reading.outputs.insert(file.clone(), documents::print(documents, &changed));
            }
        }
        self.good = good;
        self.forget_others(&reading);
        reading
    }

    /// The documents to go by. Those of a file of which some cannot be read include the objects that were in it before
    /// and are nowhere now: what cannot be read is not deleted.
    fn take_good(
        &mut self,
        files: &BTreeMap<PathBuf, Vec<u8>>,
        reading: &mut Reading,
    ) -> BTreeMap<PathBuf, Vec<Document>> {
        let former = std::mem::take(&mut self.good);
        let parsed: BTreeMap<_, _> =
            files.iter().map(|(file, content)| (file, documents::parse(content))).collect();
        let present: BTreeSet<_> = parsed
            .values()
            .flat_map(|file| &file.documents)
            .flat_map(Document::objects)
            .filter_map(object::claimed)
            .collect();
        let lost = |file: &Path| -> Vec<Document> {
            let objects = former.get(file).into_iter().flatten().flat_map(Document::objects);
            let is_lost =
                |value: &&Value| object::claimed(value).is_some_and(|it| !present.contains(&it));
            objects.filter(is_lost).cloned().map(Document::of).collect()
        };
        let mut good = BTreeMap::new();
        for (file, parsed) in &parsed {
            let mut documents = parsed.documents.clone();
            if !parsed.unreadable.is_empty() {
                documents.extend(lost(file));
            }
            for unreadable in &parsed.unreadable {
                if *unreadable == Unreadable::NotText
                    && let Some(content) = files.get(*file)
                {
                    // Copied as it is, so that the control plane can say so on its status too.
                    reading.outputs.insert((*file).clone(), content.clone());
                }
                reading.problems.push(Problem {
                    file: (*file).clone(),
                    object: String::new(),
                    field: String::new(),
                    message: unreadable.to_string(),
                    blocking: false,
                });
            }
            good.insert((*file).clone(), documents);
        }
        good
    }

    fn object(
        &mut self,
        value: &mut Value,
        visit: &mut Visit<'_>,
        new_uid: &mut impl FnMut() -> PodUid,
    ) {
        let object = match Object::read(value) {
            Ok(object) => object,
            Err(fault) => {
                visit.no_object(value, fault);
                return self.keep(value, visit);
            }
        };
        match object.kind.as_str() {
            "Pod" => self.pod(&object, value, visit, new_uid),
            "Service" => self.service(&object, value, visit),
            kind if object::RUNS_PODS.contains(&kind) => visit.problem(
                &object,
                Fault::new("", format!("a local mesh runs no {kind}; write its pods as Pods")),
            ),
            _ => {}
        }
    }

    fn pod(
        &mut self,
        object: &Object,
        value: &mut Value,
        visit: &mut Visit<'_>,
        new_uid: &mut impl FnMut() -> PodUid,
    ) {
        let name = object.pod_name();
        if visit.reading.pods.iter().any(|pod| pod.name == name) {
            visit.problem(object, Fault::new("metadata.name", "a second pod of this name"));
            return;
        }
        let outcome = pod::Draft::read(object, value, visit.namespaces)
            .and_then(|draft| self.settle(&name, draft, &visit.reading.pods, new_uid));
        match outcome {
            Ok((mut plan, notices)) => {
                pod::fill_in(value, &plan);
                plan.manifest = value.clone();
                if let Some(assignment) = self.pods.get_mut(&name) {
                    assignment.plan = Some(plan.clone());
                }
                visit.reading.pods.push(plan);
                for notice in notices {
                    visit.notice(object, notice);
                }
            }
            Err(faults) => {
                for fault in faults {
                    visit.problem(object, fault);
                }
                self.keep(value, visit);
            }
        }
    }

    /// As Kubernetes refuses a bad update, what runs goes on as it was.
    fn keep(&self, value: &mut Value, visit: &mut Visit<'_>) {
        let (pods, services) = (&mut visit.reading.pods, &mut visit.reading.services);
        match object::claimed(value) {
            Some(("Pod", name)) => {
                let plan = self.pods.get(&name).and_then(|given| given.plan.clone());
                if let Some(plan) = plan.filter(|_| pods.iter().all(|pod| pod.name != name)) {
                    value.clone_from(&plan.manifest);
                    pods.push(plan);
                }
            }
            Some(("Service", PodName { namespace, name })) => {
                let name = ServiceName { namespace, name };
                let Some(given) = self.services.get(&name) else { return };
                let is_new = services.iter().all(|service| service.name != name);
                if let Some(plan) = given.plan.clone().filter(|_| is_new) {
                    // The control plane keeps what it knows of it too, and says what is wrong: so it is shown the new
                    // text, but with the addresses, should it accept what is not accepted here.
                    if given.number.is_some() && value.get("spec").is_some_and(Value::is_object) {
                        service::fill_in(value, &plan);
                    }
                    services.push(plan);
                }
            }
            Some(_) | None => {}
        }
    }

    /// Gives a pod its place. One that cannot have it takes nothing from the pod that runs.
    fn settle(
        &mut self,
        name: &PodName,
        draft: pod::Draft,
        others: &[PodPlan],
        new_uid: &mut impl FnMut() -> PodUid,
    ) -> Result<(PodPlan, Vec<Fault>), Vec<Fault>> {
        if draft.uid.as_ref().is_some_and(|uid| others.iter().any(|other| other.uid == *uid)) {
            return Err(vec![Fault::new("metadata.uid", "a second pod with this UID")]);
        }
        let exhausted = |error: Exhausted| vec![Fault::new("metadata.name", error.to_string())];
        let former = self.assign(name, &draft, new_uid).map_err(exhausted)?;
        let given = self.pods.get(name).ok_or_else(|| exhausted(Exhausted))?;
        let addresses = Addresses::of_pod(given.instance, self.families);
        let placed = draft.place(given.instance, given.uid.clone(), addresses);
        if let Some(former) = former {
            let unused = match placed {
                Ok(_) => Some(former),
                Err(_) => self.pods.insert(name.clone(), former),
            };
            if let Some(unused) = unused {
                self.pod_addresses.give_back(unused.instance);
            }
        }
        placed
    }

    /// Sees to it that the pod has an assignment; returns the one that was replaced.
    fn assign(
        &mut self,
        name: &PodName,
        draft: &pod::Draft,
        new_uid: &mut impl FnMut() -> PodUid,
    ) -> Result<Option<PodAssignment>, Exhausted> {
        let same = self.pods.get(name).is_some_and(|given| {
            given.spec == draft.spec
                && given.meshed == draft.meshed
                && draft.uid.as_ref().is_none_or(|uid| *uid == given.uid)
        });
        if same {
            return Ok(None);
        }
        let instance = self.pod_addresses.take()?;
        let uid = draft.uid.clone().unwrap_or_else(new_uid);
        let (spec, meshed) = (draft.spec.clone(), draft.meshed);
        let assignment = PodAssignment { instance, uid, spec, meshed, plan: None };
        Ok(self.pods.insert(name.clone(), assignment))
    }

    fn service(&mut self, object: &Object, value: &mut Value, visit: &mut Visit<'_>) {
        let name = object.service_name();
        if visit.reading.services.iter().any(|service| service.name == name) {
            visit.problem(object, Fault::new("metadata.name", "a second service of this name"));
            return;
        }
        let mut plan = match ServicePlan::read(object, value) {
            Ok(plan) => plan,
            Err(fault) => {
                visit.problem(object, fault);
                return self.keep(value, visit);
            }
        };
        let given = self.services.entry(name).or_default();
        if plan.wants_addresses() {
            let number = match given.number {
                Some(number) => Ok(number),
                None => self.service_addresses.take(),
            };
            match number {
                Ok(number) => {
                    given.number = Some(number);
                    plan.addresses = Addresses::of_service(number, self.families).all();
                    service::fill_in(value, &plan);
                }
                Err(error) => {
                    return visit.problem(object, Fault::new("spec.clusterIP", error.to_string()));
                }
            }
        }
        given.plan = Some(plan.clone());
        visit.reading.services.push(plan);
    }

    /// Keeps the addresses that services name themselves from being given to others.
    fn reserve_addresses(&mut self, good: &BTreeMap<PathBuf, Vec<Document>>) {
        for value in good.values().flatten().flat_map(Document::objects) {
            for number in service::own_addresses(value).filter_map(addresses::number_of_service) {
                self.service_addresses.reserve(number);
            }
        }
    }

    /// A pod that is gone and comes back is another one; a service keeps its addresses, which clients may remember.
    fn forget_others(&mut self, reading: &Reading) {
        let present: BTreeSet<_> = reading.pods.iter().map(|pod| &pod.name).collect();
        let gone: Vec<_> =
            self.pods.keys().filter(|name| !present.contains(name)).cloned().collect();
        for name in gone {
            if let Some(former) = self.pods.remove(&name) {
                self.pod_addresses.give_back(former.instance);
            }
        }
        let present: BTreeSet<_> = reading.services.iter().map(|service| &service.name).collect();
        for (_, given) in self.services.iter_mut().filter(|(name, _)| !present.contains(name)) {
            given.plan = None;
        }
    }
}

/// One walk over one file.
struct Visit<'a> {
    file: &'a Path,
    reading: &'a mut Reading,
    namespaces: &'a BTreeMap<String, Value>,
}

impl Visit<'_> {
    fn problem(&mut self, object: &Object, fault: Fault) {
        self.add(object, fault, true);
    }

    /// Says so only of what would be run here; of the rest the control plane does.
    fn no_object(&mut self, value: &Value, fault: Fault) {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        if ["Pod", "Service"].contains(&kind) {
            self.reading.problems.push(Problem {
                file: self.file.to_owned(),
                object: kind.to_owned(),
                field: fault.field,
                message: fault.message,
                blocking: true,
            });
        }
    }

    fn notice(&mut self, object: &Object, fault: Fault) {
        self.add(object, fault, false);
    }

    fn add(&mut self, object: &Object, fault: Fault, blocking: bool) {
        self.reading.problems.push(Problem {
            file: self.file.to_owned(),
            object: object.reference().to_string(),
            field: fault.field,
            message: fault.message,
            blocking,
        });
    }
}

/// What is wrong with one field of an object, and what would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, such as `spec.hostNetwork`.
    pub field: String,
    /// What is wrong, and what would do.
    pub message: String,
}

impl Fault {
    /// A fault in `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests;
