//! The protocol of a connection from its first bytes.

use heddle_proxy::detect::{LIMIT_BYTES, Verdict, detect, overdue};

/// More bytes never change a verdict, enough bytes always decide, and what is overdue is decided.
pub(crate) fn check(data: &[u8]) {
    let mut decided = Verdict::NeedMore;
    // Each prefix of what is long would take as long as its square.
    for end in (0..=data.len()).take(PREFIXES).chain([data.len()]) {
        let verdict = detect(data.get(..end).unwrap_or_default());
        assert!(
            decided == Verdict::NeedMore || decided == verdict,
            "{decided:?} became {verdict:?} after {end} bytes"
        );
        decided = verdict;
    }
    if data.len() >= LIMIT_BYTES {
        assert_ne!(decided, Verdict::NeedMore, "the limit did not decide");
    }
    assert_ne!(overdue(data), Verdict::NeedMore, "what is overdue was not decided");
}

const PREFIXES: usize = 256;
