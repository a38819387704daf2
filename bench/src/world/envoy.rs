//! Envoy's settings: two workers, as sidecars usually have, no access log, mutual TLS 1.3; everything else as it comes.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::certificates::server_name;
use crate::system::{READY_PORT, Service, Side};

/// Writes the settings and says how to run with them.
pub fn command(program: &Path, side: Side, peer: Ipv4Addr, folder: &Path) -> Result<Vec<String>> {
    let file = folder.join(format!("envoy-{}.json", side.name()));
    std::fs::write(&file, serde_json::to_vec_pretty(&settings(side, peer, folder))?)?;
    let (program, file) = (program.to_string_lossy(), file.to_string_lossy());
    let words = [
        &*program,
        "--config-path",
        &*file,
        "--concurrency",
        "2",
        "--log-level",
        "error",
        "--disable-hot-restart",
    ];
    Ok(words.map(str::to_owned).to_vec())
}

fn settings(side: Side, peer: Ipv4Addr, folder: &Path) -> Value {
    let listeners: Vec<Value> =
        Service::ALL.iter().map(|service| listener(side, *service, folder)).collect();
    let clusters: Vec<Value> =
        Service::ALL.iter().map(|service| cluster(side, *service, peer, folder)).collect();
    json!({
        "admin": { "address": address("0.0.0.0", READY_PORT) },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn listener(side: Side, service: Service, folder: &Path) -> Value {
    let port = match side {
        Side::Client => service.outbound_port(),
        Side::Server => service.inbound_port(),
    };
    let filter = match service {
        Service::Http1 | Service::Http2 => http_filter(service),
        Service::Echo | Service::Once | Service::Sink => tcp_filter(service),
    };
    let mut chain = json!({ "filters": [filter] });
    if let (Side::Server, Some(chain)) = (side, chain.as_object_mut()) {
        let mut tls = tls(side, service, folder);
        tls.insert("@type".to_owned(), json!(format!("{TLS}.DownstreamTlsContext")));
        tls.insert("require_client_certificate".to_owned(), json!(true));
        chain.insert("transport_socket".to_owned(), socket(&Value::Object(tls)));
    }
    json!({
        "name": name(service),
        "address": address("0.0.0.0", port),
        "filter_chains": [chain],
    })
}

fn cluster(side: Side, service: Service, peer: Ipv4Addr, folder: &Path) -> Value {
    let port = match side {
        Side::Client => service.wire_port(),
        Side::Server => service.port(),
    };
    let endpoint = json!({ "endpoint": { "address": address(&peer.to_string(), port) } });
    let many = json!({
        "max_connections": UNLIMITED, "max_pending_requests": UNLIMITED, "max_requests": UNLIMITED,
    });
    let mut cluster = json!({
        "name": name(service),
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [many] },
        "load_assignment": {
            "cluster_name": name(service),
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
    });
    let Some(fields) = cluster.as_object_mut() else { return cluster };
    if service == Service::Http2 {
        let options = json!({ HTTP_OPTIONS: {
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": { "http2_protocol_options": {} },
        }});
        fields.insert("typed_extension_protocol_options".to_owned(), options);
    }
    if side == Side::Client {
        let mut tls = tls(side, service, folder);
        tls.insert("@type".to_owned(), json!(format!("{TLS}.UpstreamTlsContext")));
        tls.insert("sni".to_owned(), json!(server_name(Side::Server)));
        fields.insert("transport_socket".to_owned(), socket(&Value::Object(tls)));
    }
    cluster
}

fn http_filter(service: Service) -> Value {
    let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": name(service), "timeout": "0s" } });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    });
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name(service),
            "route_config": {
                "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }],
            },
            "http_filters": [router],
        },
    })
}

fn tcp_filter(service: Service) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": name(service),
            "cluster": name(service),
        },
    })
}

fn tls(side: Side, service: Service, folder: &Path) -> serde_json::Map<String, Value> {
    let file = |name: String| json!({ "filename": folder.join(name) });
    let protocols: &[&str] = match service {
        Service::Http1 => &["http/1.1"],
        Service::Http2 => &["h2"],
        Service::Echo | Service::Once | Service::Sink => &[],
    };
    let common = json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [{
            "certificate_chain": file(format!("{}.pem", side.name())),
            "private_key": file(format!("{}.key", side.name())),
        }],
        "validation_context": { "trusted_ca": file("authority.pem".to_owned()) },
        "alpn_protocols": protocols,
    });
    [("common_tls_context".to_owned(), common)].into_iter().collect()
}

fn socket(tls: &Value) -> Value {
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls })
}

fn address(host: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": host, "port_value": port } })
}

fn name(service: Service) -> String {
    format!("p{}", service.port())
}

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Its own limit of 1,024 is less than the connections that one scenario has.
const UNLIMITED: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_the_wire_is_tls() {
        let folder = Path::new("/folder");
        for service in Service::ALL {
            let inbound = listener(Side::Server, service, folder);
            let tls = &inbound["filter_chains"][0]["transport_socket"]["typed_config"];
            assert_eq!(tls["require_client_certificate"], true, "{inbound}");
            let outbound = cluster(Side::Client, service, Ipv4Addr::LOCALHOST, folder);
            assert_eq!(
                outbound["transport_socket"]["typed_config"]["sni"],
                "server.bench.internal"
            );
        }
    }
}
