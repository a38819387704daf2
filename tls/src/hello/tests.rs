//! Tests of the peek, on ClientHellos that rustls made.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rustls::ClientConnection;
use rustls_pki_types::ServerName;

use super::*;
use crate::alpn::InnerProtocol;
use crate::config::ClientBase;
use crate::testing::{TestMesh, target, workload};

/// What our own client sends first, in one record.
fn real_hello(name: &str, protocols: &[&[u8]]) -> Vec<u8> {
    let base = ClientBase::new(&TestMesh::new().bundle, None).unwrap();
    let mut config = base.for_peer(workload("api"), &[InnerProtocol::Tcp]);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

fn own_hello() -> Vec<u8> {
    real_hello("8080.api-1.pod.cluster.local", &[b"heddle/h2"])
}

fn own_verdict() -> Hello {
    Hello::Client {
        server_name: Some("8080.api-1.pod.cluster.local".into()),
        alpn: vec![b"heddle/h2".to_vec()],
    }
}

/// The same handshake message in records of the given sizes; the last size repeats.
fn in_records(hello: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut message = &hello[RECORD_HEADER_BYTES..];
    let mut bytes = Vec::new();
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(*sizes.last().unwrap()));
    while !message.is_empty() {
        let (fragment, rest) = message.split_at(sizes.next().unwrap().min(message.len()));
        bytes.extend_from_slice(&[HANDSHAKE_RECORD, 3, 1]);
        bytes.extend_from_slice(&u16::try_from(fragment.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(fragment);
        message = rest;
    }
    bytes
}

#[test]
fn a_real_hello_is_read() {
    assert_eq!(peek(&own_hello()), own_verdict());
    let target = target(&workload("api"));
    assert_eq!(target.port.number(), 8080);
    for (case, name, protocols, expected) in [
        ("upper case", "API.Shop", &[&b"h2"[..], b"http/1.1"][..], Some("api.shop")),
        ("an address is no name", "10.0.0.1", &[], None),
        ("no protocols", "api", &[], Some("api")),
    ] {
        let alpn = protocols.iter().map(|name| name.to_vec()).collect();
        let expected = Hello::Client { server_name: expected.map(str::to_owned), alpn };
        assert_eq!(peek(&real_hello(name, protocols)), expected, "case: {case}");
    }
}

#[test]
fn a_hello_in_many_records_is_read() {
    let hello = own_hello();
    for sizes in [&[1][..], &[3, 1, 5], &[4, 100], &[50], &[10_000]] {
        assert_eq!(peek(&in_records(&hello, sizes)), own_verdict(), "case: {sizes:?}");
    }
}

#[test]
fn every_beginning_of_a_hello_wants_more() {
    for bytes in [own_hello(), in_records(&own_hello(), &[7])] {
        for length in 0..bytes.len() {
            assert_eq!(peek(&bytes[..length]), Hello::NeedMore, "case: {length} bytes");
        }
    }
}

#[test]
fn what_is_not_tls_is_told_at_once() {
    let mut two_names = own_hello();
    // A second extension of the same kind: the last one is turned into a server name.
    let position = two_names.windows(2).rposition(|pair| pair == [0, 16]).unwrap();
    two_names[position + 1] = 0;
    let mut no_protocol = own_hello();
    // The only name becomes empty, which leaves another's length in its first letter's place.
    let name = no_protocol.windows(9).position(|window| window == b"heddle/h2").unwrap();
    no_protocol[name - 1] = 0;
    no_protocol[name] = 8;
    for (case, bytes) in [
        ("http", &b"G"[..]),
        ("an alert", &[21, 3, 3]),
        ("SSL 2", &[22, 2]),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("a record too large", &[22, 3, 1, 0x40, 1]),
        ("a ServerHello", &[22, 3, 1, 0, 10, 2]),
        ("a hello too large", &[22, 3, 1, 0, 10, 1, 1, 0, 0]),
        ("a hello of nothing", &[22, 3, 1, 0, 4, 1, 0, 0, 0]),
        ("two server names", &two_names),
        ("a protocol without a name", &no_protocol),
    ] {
        assert_eq!(peek(bytes), Hello::NotTls, "case: {case}");
    }
}

#[test]
fn a_hello_that_never_ends_is_given_up_on() {
    // A declared length within the limit, in records of one byte, is over it with their headers.
    let mut hello = vec![0; RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + 16_000];
    hello[RECORD_HEADER_BYTES..][..4].copy_from_slice(&[1, 0, 0x3e, 0x80]);
    let bytes = in_records(&hello, &[1]);
    assert_eq!(peek(&bytes[..LIMIT_BYTES - 1]), Hello::NeedMore);
    assert_eq!(peek(&bytes[..LIMIT_BYTES]), Hello::NotTls);
    assert_eq!(peek(&bytes), Hello::NotTls);
}

/// Hellos with some bytes changed, cut into records, with something after them; and noise.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let hello = own_hello();
    let length = hello.len();
    let changed =
        (vec((0..length, any::<u8>()), 0..4), vec(1..300_usize, 1..5), vec(any::<u8>(), 0..40))
            .prop_map(move |(changes, sizes, after)| {
                let mut hello = hello.clone();
                for (position, byte) in changes {
                    hello[position] = byte;
                }
                let mut bytes = in_records(&hello, &sizes);
                bytes.extend(after);
                bytes
            });
    let noise = (vec(any::<u8>(), 0..400), any::<bool>()).prop_map(|(mut bytes, like_tls)| {
        if like_tls {
            bytes.splice(0..0, [22, 3, 1, 1, 0, 1, 0, 0]);
        }
        bytes
    });
    prop_oneof![3 => changed, 1 => noise]
}

proptest! {
    #[test]
    fn more_bytes_never_change_a_verdict(bytes in bytes()) {
        let last = peek(&bytes);
        for length in 0..bytes.len() {
            let verdict = peek(&bytes[..length]);
            prop_assert!(verdict == Hello::NeedMore || verdict == last, "{length} bytes");
        }
    }

    #[test]
    fn records_do_not_matter(sizes in vec(1..600_usize, 1..8), after in vec(any::<u8>(), 0..20)) {
        let mut bytes = in_records(&own_hello(), &sizes);
        bytes.extend(after);
        prop_assert_eq!(peek(&bytes), own_verdict());
    }

    #[test]
    fn no_input_panics(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = peek(&bytes);
        let _ = client_hello(&bytes);
        let _ = host_name(&bytes);
        let _ = protocols(&bytes);
    }
}
