//! Names and what they stand for.

use super::*;

fn service(stands_for: StandsFor) -> ServiceView {
    let port = PortView { name: "http".to_owned(), protocol: "tcp".to_owned(), port: 80 };
    ServiceView { stands_for, ports: vec![port] }
}

fn find(namespace: &str, name: &str) -> Option<ServiceView> {
    let endpoint = |address: [u8; 4], host_name: &str| EndpointView {
        address: address.into(),
        host_name: host_name.to_owned(),
    };
    match (namespace, name) {
        ("shop", "api") => Some(service(StandsFor::Addresses(vec![[10, 96, 0, 7].into()]))),
        ("shop", "store") => Some(service(StandsFor::Endpoints(vec![
            endpoint([10, 244, 1, 2], "store-0"),
            endpoint([10, 244, 2, 3], "10-244-2-3"),
        ]))),
        ("shop", "empty") => Some(service(StandsFor::Endpoints(Vec::new()))),
        ("shop", "outside") => Some(service(StandsFor::Name("example.com".to_owned()))),
        _ => None,
    }
}

fn answered(name: &str, kind: Kind) -> String {
    let question = Question { name: name.to_owned(), kind };
    match resolve(&question, find) {
        Outcome::NoSuchName => "no such name".to_owned(),
        Outcome::Records(records) => {
            let texts: Vec<String> = records
                .iter()
                .map(|record| match &record.data {
                    Data::Address(address) => address.to_string(),
                    Data::Name(name) => format!("-> {name}"),
                    Data::Service { port, target } => format!("{target}:{port}"),
                })
                .collect();
            texts.join(" ")
        }
    }
}

#[test]
fn a_name_stands_for_what_the_specification_says() {
    let cases = [
        ("a service", "api.shop.svc.cluster.local", Kind::Ipv4, "10.96.0.7"),
        ("letters of any size", "API.Shop.SVC.cluster.LOCAL", Kind::Ipv4, "10.96.0.7"),
        ("a family it has not", "api.shop.svc.cluster.local", Kind::Ipv6, ""),
        ("a kind it has not", "api.shop.svc.cluster.local", Kind::Other(16), ""),
        ("no such service", "cart.shop.svc.cluster.local", Kind::Ipv4, "no such name"),
        ("headless", "store.shop.svc.cluster.local", Kind::Ipv4, "10.244.1.2 10.244.2.3"),
        ("headless and empty", "empty.shop.svc.cluster.local", Kind::Ipv4, "no such name"),
        ("one endpoint", "store-0.store.shop.svc.cluster.local", Kind::Ipv4, "10.244.1.2"),
        ("one without a name", "10-244-2-3.store.shop.svc.cluster.local", Kind::Ipv4, "10.244.2.3"),
        ("no such endpoint", "store-9.store.shop.svc.cluster.local", Kind::Ipv4, "no such name"),
        (
            "an endpoint of a virtual address",
            "x.api.shop.svc.cluster.local",
            Kind::Ipv4,
            "no such name",
        ),
        ("another name", "outside.shop.svc.cluster.local", Kind::Ipv4, "-> example.com"),
        (
            "a port",
            "_http._tcp.api.shop.svc.cluster.local",
            Kind::Service,
            "api.shop.svc.cluster.local:80",
        ),
        (
            "a port of a headless one",
            "_http._tcp.store.shop.svc.cluster.local",
            Kind::Service,
            "store-0.store.shop.svc.cluster.local:80 10-244-2-3.store.shop.svc.cluster.local:80",
        ),
        ("a port's address", "_http._tcp.api.shop.svc.cluster.local", Kind::Ipv4, ""),
        ("no such port", "_grpc._tcp.api.shop.svc.cluster.local", Kind::Service, "no such name"),
        (
            "another protocol",
            "_http._udp.api.shop.svc.cluster.local",
            Kind::Service,
            "no such name",
        ),
        ("a pod's address", "10-244-1-2.shop.pod.cluster.local", Kind::Ipv4, "10.244.1.2"),
        ("no address", "frontend.shop.pod.cluster.local", Kind::Ipv4, "no such name"),
        ("a namespace", "shop.svc.cluster.local", Kind::Ipv4, ""),
        ("outside", "example.com", Kind::Ipv4, "no such name"),
        ("the end of a name only", "notcluster.local", Kind::Ipv4, "no such name"),
    ];
    for (case, name, kind, expected) in cases {
        assert_eq!(answered(name, kind), expected, "case: {case}");
    }
}
