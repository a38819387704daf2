//! Blocks of compressed fields of an HTTP/2 connection.
//!
//! The first byte is the limit, in steps of 16; then come blocks, each with a byte before it that says
//! how long it is.

use heddle_proxy::http::hpack::decoder::{DecodeError, Decoder};
use heddle_proxy::http::hpack::encoder;
use heddle_proxy::http::hpack::fields::{FieldRef, Fields};

/// A limit changes nothing but how many fields are kept, and what is read is the same when it is
/// written and read again.
pub(crate) fn check(data: &[u8]) {
    let Some((limit, mut rest)) = data.split_first() else { return };
    let limit = usize::from(*limit) * 16;
    let (mut decoder, mut limited) = (Decoder::new(4096), Decoder::new(4096));
    let (mut fields, mut kept) = (Fields::default(), Fields::default());
    while let Some((length, after)) = rest.split_first() {
        let length = usize::from(*length).min(after.len());
        let Some((block, after)) = after.split_at_checked(length) else { return };
        rest = after;
        let read = decoder.decode(block, usize::MAX, &mut fields);
        let within = limited.decode(block, limit, &mut kept);
        let is_within = size(&fields) <= limit;
        match read {
            Ok(()) if is_within => assert_eq!(within, Ok(()), "it is within the limit"),
            Ok(()) => assert_eq!(within, Err(DecodeError::TooLarge), "it is beyond the limit"),
            Err(DecodeError::TooLarge) => panic!("there is no limit"),
            Err(DecodeError::Malformed(_)) => {
                assert_eq!(within, read, "the limit made a difference");
                assert!(
                    fields.is_empty() && kept.is_empty(),
                    "of a malformed block nothing is kept"
                );
                return;
            }
        }
        assert!(size(&kept) <= limit, "more is kept than the limit says");
        assert!(
            kept.iter().eq(fields.iter().take(kept.len())),
            "what is kept is not the beginning"
        );
        check_again(&fields);
    }
}

/// As the proxy counts: RFC 9113, section 6.5.2.
fn size(fields: &Fields) -> usize {
    fields.iter().map(|field| field.name.len() + field.value.len() + 32).sum()
}

fn check_again(fields: &Fields) {
    let mut block = Vec::new();
    for FieldRef { name, value, static_name, is_sensitive } in fields.iter() {
        encoder::field(name, value, static_name, is_sensitive, &mut block);
    }
    let mut again = Fields::default();
    let read = Decoder::new(4096).decode(&block, usize::MAX, &mut again);
    assert_eq!(read, Ok(()), "what was written is refused");
    let told =
        |field: FieldRef<'_>| (field.name.to_vec(), field.value.to_vec(), field.is_sensitive);
    assert!(again.iter().map(told).eq(fields.iter().map(told)), "other fields");
}
