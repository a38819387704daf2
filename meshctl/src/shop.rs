//! The demo's applications: a shop whose frontend asks an api, which asks a store. They know nothing
//! of a mesh. Hidden from the help, since they are for the demo, examples and tests only.

pub mod api;
pub mod frontend;
pub mod listen;
pub mod load;
pub mod serve;
pub mod stock;
pub mod store;

use http::header::{HeaderMap, HeaderName};

/// The response header that carries the api's version; the frontend passes it on.
pub const VERSION_HEADER: &str = "x-shop-version";

/// What says where a request is in a trace: whoever answers a request passes it on with those that it asks
/// for the answer, so that they are of the same trace. W3C's, and B3.
const OF_TRACES: [&str; 8] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

/// Those of a request's headers that are of a trace.
pub(crate) fn of_trace(headers: &HeaderMap) -> HeaderMap {
    let mut passed_on = HeaderMap::new();
    for name in OF_TRACES {
        for value in headers.get_all(name) {
            passed_on.append(HeaderName::from_static(name), value.clone());
        }
    }
    passed_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_a_trace_is_passed_on_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("traceparent", "00-1"),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("x-b3-sampled", "1"),
            ("cookie", "secret"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let passed_on = of_trace(&headers);
        headers.remove("cookie");
        assert_eq!(passed_on, headers);
    }
}
