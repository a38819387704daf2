//! The mesh as a whole, on real processes, namespaces and packets. One binary, one module per theme.
//! The programs are taken from beside this one: `cargo build --workspace --bins` makes them.

#[cfg(test)]
mod e2e {
    mod access_log;
    mod broken;
    mod bulk;
    mod canary;
    mod capture;
    mod cleanup;
    mod collector;
    mod collector_requests;
    mod collector_tls;
    mod command_line;
    mod control_plane_loss;
    mod dashboard;
    mod demo;
    mod drain;
    mod errors;
    mod floods;
    mod grpc;
    mod http1;
    mod interception;
    mod isolation;
    mod memory;
    mod observability;
    mod policy;
    mod protocols;
    mod refusal;
    mod renewal;
    mod replacement;
    mod rotation;
    mod routes;
    mod routing;
    mod secrets;
    mod slow_peers;
    mod stat;
    mod strict;
    mod tap;
    mod traces;
    mod upgrade;
    mod warm;
    mod why;
}
