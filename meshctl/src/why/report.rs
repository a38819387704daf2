//! What a call would meet, for machines: the JSON of `meshctl why -o json`. Its fields are stable.

use schemars::JsonSchema;
use serde::Serialize;

/// The whole answer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct WhyReport {
    /// Whether every such call would be served.
    pub served: bool,
    /// One word: `served`, `passed_through`, `answered`, `partly`, or why not. Those of docs/errors.md are among them.
    pub outcome: &'static str,
    /// The same in a sentence.
    pub verdict: String,
    /// What would do, where something fails; null: nothing does.
    pub remedy: Option<String>,
    /// Of the configuration that this follows from.
    pub version: u64,
    /// Whether the caller's proxy has acknowledged that; null: it has none, or was not asked.
    pub acknowledged: Option<bool>,
    /// `mtls`, `plaintext`, `refused`, or `mixed`; null: nothing would be connected to.
    pub tls: Option<&'static str>,
    /// Who issues the mesh's certificates; null: not known.
    pub issuer: Option<Issuer>,
    /// Step by step, in the order in which a call meets them.
    pub steps: Vec<Step>,
    /// The rule that wins; null: there is none, or none is asked.
    pub rule: Option<Rule>,
    /// All rules that were candidates, in their order.
    pub candidates: Vec<Candidate>,
    /// Where it goes, each with its share.
    pub backends: Vec<Backend>,
}

/// The issuer of the mesh's certificates.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Issuer {
    /// As its own certificate names it.
    pub subject: String,
    /// Of its own certificate, in seconds since 1970.
    pub not_after: i64,
}

/// One step.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// `caller`, `name`, `service`, `config`, `route`, `backend`, `policy`, `tls`.
    pub step: &'static str,
    /// How it goes.
    pub state: State,
    /// The object that it comes from, such as `Service shop/api`; may be empty.
    pub object: String,
    /// For people.
    pub says: String,
    /// What would do; null: nothing fails.
    pub remedy: Option<String>,
}

/// How a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should.
    Good,
    /// It goes, and somebody may want to know how.
    Note,
    /// It does not.
    Fails,
}

/// The rule that wins.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Rule {
    /// The route; empty: the service's own default.
    pub object: String,
    /// Where in it; empty: the service's own default.
    pub field: String,
    /// Its condition in short; `*`: everything.
    pub condition: String,
    /// What is done to requests, in short.
    pub filters: Vec<String>,
}

/// A rule that was a candidate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Candidate {
    /// The route; empty: the service's own default.
    pub object: String,
    /// Where in it.
    pub field: String,
    /// Its hosts and its condition, in short.
    pub condition: String,
    /// `wins`, `holds` (and comes later), `other_host` or `does_not_hold`.
    pub verdict: &'static str,
}

/// A backend and its share.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Backend {
    /// Such as `shop/api-v1:8080`.
    pub backend: String,
    /// Its weight.
    pub weight: u32,
    /// Its share, such as `90 %`.
    pub share: String,
    /// Why its share fails, one word; null: it does not.
    pub fails: Option<&'static str>,
    /// How many of its endpoints are ready.
    pub ready: usize,
    /// What is behind it, ready or not.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Endpoint {
    /// With its port.
    pub address: String,
    /// As namespace/name; empty: no pod of the cluster has the address.
    pub pod: String,
    /// Its zone; empty: not known.
    pub zone: String,
    /// Whether it gets requests.
    pub ready: bool,
    /// Whether a proxy is beside it.
    pub meshed: bool,
    /// `strict` or `permissive`; null: it has no proxy.
    pub inbound_mode: Option<&'static str>,
    /// `mtls`, `plaintext` or `refused`.
    pub tls: &'static str,
    /// Who must answer there; null: anybody.
    pub identity: Option<String>,
    /// When its certificate expires, in seconds since 1970; null: not known here.
    pub certificate_not_after: Option<i64>,
}
