//! The application in the pods of the Gateway API's conformance suite: a server that answers with what it saw
//! of a request, and a client that the suite runs in the same container and whose output it reads. It stands
//! in for the suite's own image.
//!
//! The words are the suite's: it looks for `Hostname=` and the like with regular expressions, and takes the
//! first it finds. Source: `utils/echo/parse.go` of sigs.k8s.io/gateway-api/conformance.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use hyper::header::HOST;
use hyper::{HeaderMap, Request, Version};

pub mod client;
mod grpc;
pub mod server;
mod tls;

/// Where a request arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The name of the pod.
    hostname: String,
    /// The port that was connected to.
    port: u16,
    /// Who connected.
    client: SocketAddr,
}

/// What a server tells of a request, line by line.
fn lines<B>(request: &Request<B>, place: &Place) -> String {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| text(request.headers(), HOST.as_str())).unwrap_or_default();
    // The name first: a header that a client sent might have the same words in its value.
    let mut lines = vec![
        format!("Hostname={}", place.hostname),
        format!("ServicePort={}", place.port),
        format!("Host={host}"),
        format!("URL={path}"),
        format!("Method={}", request.method()),
        format!("Proto={}", protocol(request.version())),
        format!("IP={}", address(place.client)),
    ];
    for (name, value) in request.headers() {
        lines.push(format!("RequestHeader={name}:{}", String::from_utf8_lossy(value.as_bytes())));
    }
    lines.join("\n")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        // No other version is served here; the type is open.
        _ => "HTTP",
    }
}

/// Without the form in which a socket for both families shows one of IPv4.
fn address(client: SocketAddr) -> IpAddr {
    client.ip().to_canonical()
}

/// The name of this pod, as its network sees it. Fails without a `/proc`.
pub fn hostname() -> Result<String> {
    let text = std::fs::read_to_string(HOSTNAME_FILE).context(HOSTNAME_FILE)?;
    Ok(text.trim().to_owned())
}

/// What `uname` reads, and every container has.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

#[cfg(test)]
mod tests;
