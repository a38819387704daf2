//! Whether a request counts as failed. Pure.

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should, or the client is to blame.
    Succeeded,
    /// The server, or the mesh, is to blame.
    Failed,
}

/// What was told of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: Option<i64>,
    /// The status of gRPC: its number or its name.
    pub grpc: Option<String>,
    /// Why the proxy says that it failed.
    pub error: Option<String>,
}

/// A status of HTTP from 500 fails, and one of gRPC that tells of a fault of the server; so does an answer that the
/// proxy says broke off. What the proxy answered with a status from 400 to 499 is the client's fault.
/// Source: the semantic conventions of OpenTelemetry for the status of server spans, of HTTP and of gRPC.
pub fn decide(answer: &Answer) -> Outcome {
    let Answer { status, grpc, error } = answer;
    let fails_http = status.is_some_and(|status| status >= 500);
    let fails_grpc = grpc.as_deref().is_some_and(|grpc| {
        let grpc = grpc.to_ascii_uppercase();
        GRPC_FAULTS.iter().any(|(number, name)| *number == grpc || *name == grpc)
    });
    // Some name the status itself as the error.
    let reason = error.as_deref().filter(|error| error.parse::<u16>().is_err());
    let broke_off = reason.is_some() && status.is_none_or(|status| status < 400);
    if fails_http || fails_grpc || broke_off { Outcome::Failed } else { Outcome::Succeeded }
}

/// Those of gRPC that a server is to blame for, and Heddle's own for an answer that broke off.
const GRPC_FAULTS: [(&str, &str); 7] = [
    ("2", "UNKNOWN"),
    ("4", "DEADLINE_EXCEEDED"),
    ("12", "UNIMPLEMENTED"),
    ("13", "INTERNAL"),
    ("14", "UNAVAILABLE"),
    ("15", "DATA_LOSS"),
    ("BROKEN", "BROKEN"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_the_mesh_fail_and_clients_do_not() {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for (case, status, grpc, error, fails) in [
            ("fine", Some(200), "", "", false),
            ("not found", Some(404), "", "", false),
            ("not found, named as the error", Some(404), "", "404", false),
            ("the server's fault", Some(500), "", "500", true),
            ("answered by the mesh", Some(503), "", "no_endpoint", true),
            ("too many, by the mesh", Some(429), "", "rate_limited", false),
            ("the client went away", Some(499), "", "client_cancelled", false),
            ("broken after the head", Some(200), "", "response_broken", true),
            ("never answered", None, "", "connect", true),
            ("gRPC, fine", Some(200), "0", "", false),
            ("gRPC, not found", Some(200), "5", "", false),
            ("gRPC, unavailable", Some(200), "14", "", true),
            ("gRPC, by name", Some(200), "DEADLINE_EXCEEDED", "", true),
            ("gRPC, by name, fine", Some(200), "OK", "", false),
            ("gRPC, broken", Some(200), "broken", "", true),
            ("nothing is known", None, "", "", false),
        ] {
            let answer = Answer { status, grpc: text(grpc), error: text(error) };
            let expected = if fails { Outcome::Failed } else { Outcome::Succeeded };
            assert_eq!(decide(&answer), expected, "case: {case}");
        }
    }
}
