//! Server name and protocols of a ClientHello, before any handshake.

use heddle_tls::hello::{Hello, peek};

/// More bytes never change a verdict, and what was read is what a handshake could mean.
pub(crate) fn check(data: &[u8]) {
    let mut decided = Hello::NeedMore;
    for end in (0..=data.len()).take(PREFIXES).chain([data.len()]) {
        let verdict = peek(data.get(..end).unwrap_or_default());
        assert!(
            decided == Hello::NeedMore || decided == verdict,
            "{decided:?} became {verdict:?} after {end} bytes"
        );
        decided = verdict;
    }
    if let Hello::Client { server_name: Some(name), alpn } = decided {
        assert!(!name.is_empty(), "an empty name is none");
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name:?} is in lower case");
        assert!(alpn.iter().all(|protocol| !protocol.is_empty()), "RFC 7301, section 3.1");
    }
}

const PREFIXES: usize = 1024;
