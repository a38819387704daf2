//! The way of a request for machines. The fields are stable; docs/tap.md has them. Pure.

use heddle_report::tap::{Exchange, seconds};
use schemars::JsonSchema;
use serde::Serialize;

use crate::trace::tree;

/// A trace.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TraceReport {
    /// In hexadecimal.
    pub trace_id: String,
    /// What all proxies took together.
    pub proxy_seconds: f64,
    /// Calls that no other call led to.
    pub calls: Vec<Call>,
    /// Namespaces whose proxies were asked; empty: all.
    pub namespaces: Vec<String>,
    /// Requests of the trace that proxies or others left out.
    pub left_out: u64,
}

/// One call, as both of its ends saw it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Call {
    /// By the caller's proxy.
    pub outbound: Option<Exchange>,
    /// By the proxy of who was asked.
    pub inbound: Option<Exchange>,
    /// What both proxies took of it.
    pub proxy_seconds: f64,
    /// What whoever was asked called for it.
    pub calls: Vec<Call>,
}

impl TraceReport {
    /// Of these calls.
    pub fn new(trace_id: String, calls: &[tree::Call]) -> Self {
        let proxies = calls.iter().map(tree::Call::all_proxy_nanos).fold(0, u64::saturating_add);
        Self {
            trace_id,
            proxy_seconds: seconds(proxies),
            calls: calls.iter().map(Call::new).collect(),
            namespaces: Vec::new(),
            left_out: 0,
        }
    }
}

impl Call {
    fn new(call: &tree::Call) -> Self {
        let told = |told: &Option<heddle_proto::tap::Exchange>| {
            told.as_ref().map(|told| Exchange::new(told, false))
        };
        Self {
            outbound: told(&call.outbound),
            inbound: told(&call.inbound),
            proxy_seconds: seconds(call.proxy_nanos()),
            calls: call.calls.iter().map(Self::new).collect(),
        }
    }
}
