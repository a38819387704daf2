//! Bodies that are broken as texts, or never were a review.

use serde_json::json;

use super::{Case, Expected, review, text};

/// A text that ends early, or has a byte that is another one.
pub(super) fn broken(shape: &str, whole: &[u8]) -> Vec<Case> {
    const PARTS: usize = 12;
    let mut cases = Vec::new();
    for part in 0..PARTS {
        let length = whole.len() * part / PARTS;
        cases.push(Case {
            name: format!("{shape}, only {length} bytes of it"),
            body: whole[..length].to_vec(),
            expected: Some(Expected::Unanswered),
        });
        let mut changed = whole.to_vec();
        changed[length] ^= 0x81;
        cases.push(Case {
            name: format!("{shape}, byte {length} changed"),
            body: changed,
            expected: None,
        });
    }
    cases
}

/// What is no review at all.
pub(super) fn strange() -> Vec<Case> {
    let repeated = |open: &str, count: usize| open.repeat(count).into_bytes();
    [
        ("nothing", Vec::new()),
        ("a space", b" ".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("a list", b"[]".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("no UTF-8", vec![0xff, 0xfe, 0x00, 0x80]),
        (
            "no UTF-8 where nobody looks",
            [br#"{"x":""#.as_slice(), &[0xff], br#"","#, &text(&review(json!({})))[1..]].concat(),
        ),
        ("UTF-16", "{}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), b"{}"].concat()),
        ("100,000 lists in one another", repeated("[", 100_000)),
        ("100,000 objects in one another", repeated("{\"a\":", 100_000)),
        ("a long text", repeated("a", 1_000_000)),
        ("two reviews", [text(&review(json!({}))), text(&review(json!({})))].concat()),
        ("a form", b"a=b&c=d".to_vec()),
        ("YAML", b"kind: AdmissionReview\n".to_vec()),
        ("half a surrogate", br#"{"kind":"\ud800"}"#.to_vec()),
    ]
    .map(|(name, body)| Case { name: name.to_owned(), body, expected: Some(Expected::Unanswered) })
    .into()
}
