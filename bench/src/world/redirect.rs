//! The redirect of the systems that bring none: the same kind of rule in the same place as Heddle's own, for the ports
//! of the application.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::system::{Service, Side};

/// Rules for `nft -f -`. `server` is where the client's connections go.
pub fn rules(side: Side, server: Ipv4Addr) -> String {
    let mut rules = String::new();
    for service in Service::ALL {
        // Writing to a string does not fail.
        let _ = match side {
            Side::Client => writeln!(
                rules,
                "    ip daddr {server} tcp dport {} redirect to :{}",
                service.port(),
                service.outbound_port()
            ),
            Side::Server => writeln!(
                rules,
                "    tcp dport {} redirect to :{}",
                service.wire_port(),
                service.inbound_port()
            ),
        };
    }
    let hook = match side {
        Side::Client => "output",
        Side::Server => "prerouting",
    };
    format!(
        "table ip bench {{\n  chain {hook} {{\n    type nat hook {hook} priority -100;\n{rules}  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_redirects_what_comes_its_way() {
        let server = Ipv4Addr::new(10, 0, 0, 2);
        let client = rules(Side::Client, server);
        assert!(client.contains("type nat hook output"), "{client}");
        assert!(client.contains("ip daddr 10.0.0.2 tcp dport 8080 redirect to :20080"), "{client}");
        let server = rules(Side::Server, server);
        assert!(server.contains("type nat hook prerouting"), "{server}");
        assert!(server.contains("tcp dport 18080 redirect to :22080"), "{server}");
    }
}
