//! HAProxy's settings: two threads as Envoy has; connections to the other side shared among clients, and kept also when
//! there are a thousand of them; mutual TLS 1.3 with the cipher that all others use; everything else as it comes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;

use crate::certificates::server_name;
use crate::system::{READY_PORT, Service, Side};

/// Writes the settings and says how to run with them.
pub fn command(program: &Path, side: Side, peer: Ipv4Addr, folder: &Path) -> Result<Vec<String>> {
    let file = folder.join(format!("haproxy-{}.cfg", side.name()));
    std::fs::write(&file, settings(side, peer, folder))?;
    let (program, file) = (program.to_string_lossy(), file.to_string_lossy());
    Ok([&*program, "-db", "-q", "-f", &*file].map(str::to_owned).to_vec())
}

fn settings(side: Side, peer: Ipv4Addr, folder: &Path) -> String {
    let mut text = format!(
        "global\n  nbthread 2\n  maxconn 8000\n  tune.pool-low-fd-ratio 60\n  tune.pool-high-fd-ratio 70\n\
         defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  http-reuse always\n\
         frontend ready\n  mode http\n  bind 0.0.0.0:{READY_PORT}\n  monitor-uri /ready\n"
    );
    for service in Service::ALL {
        let (mode, protocol, alpn) = match service {
            Service::Http1 => ("http", "", " alpn http/1.1"),
            Service::Http2 => ("http", " proto h2", " alpn h2"),
            Service::Echo | Service::Once | Service::Sink => ("tcp", "", ""),
        };
        let folder = folder.display();
        let own = side.name();
        let tls = format!(
            " ssl crt {folder}/{own}-both.pem ca-file {folder}/authority.pem verify required \
             ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256{alpn}"
        );
        let (listen, dial) = match side {
            Side::Client => {
                let name = server_name(Side::Server);
                let tls = format!("{tls} sni str({name}) verifyhost {name}");
                let listen = format!("0.0.0.0:{}{protocol}", service.outbound_port());
                (listen, format!("{peer}:{}{tls}{protocol}", service.wire_port()))
            }
            Side::Server => {
                let listen = format!("0.0.0.0:{}{tls}{protocol}", service.inbound_port());
                (listen, format!("{peer}:{}{protocol}", service.port()))
            }
        };
        let port = service.port();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "listen p{port}\n  mode {mode}\n  bind {listen}\n  server s{port} {dial}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_ask_for_a_certificate() {
        for side in Side::BOTH {
            let text = settings(side, Ipv4Addr::LOCALHOST, Path::new("/folder"));
            let encrypted = text.matches("verify required ssl-min-ver TLSv1.3").count();
            assert_eq!(encrypted, Service::ALL.len(), "{text}");
        }
    }
}
