//! Requests out of the bytes of an HTTP/1 connection.
//!
//! The first byte says how the others are cut into pieces.

use heddle_proxy::http::gate::framing::{Framer, Phase};
use heddle_proxy::http::gate::refusal::Refusal;

/// How the bytes are cut makes no difference, and what is written is read as the same requests.
pub(crate) fn check(data: &[u8]) {
    let Some((first, input)) = data.split_first() else { return };
    let whole = read(input, usize::MAX);
    let pieces = read(input, usize::from(*first).max(1));
    assert_eq!(whole, pieces, "the cut made a difference");
    let again = read(&whole.written, usize::MAX);
    assert_eq!(again.written, whole.written, "what was written is read as something else");
    assert_eq!(again.heads, whole.heads, "another number of requests");
    assert!(again.end.is_ok(), "what was written is refused: {:?}", again.end);
}

#[derive(Debug, PartialEq)]
struct Read {
    written: Vec<u8>,
    end: Result<Phase, Refusal>,
    heads: u64,
}

fn read(input: &[u8], piece: usize) -> Read {
    let mut framer = Framer::new();
    let mut written = Vec::new();
    let mut unread: Vec<u8> = Vec::new();
    for piece in input.chunks(piece.min(input.len()).max(1)) {
        unread.extend_from_slice(piece);
        loop {
            match framer.read(&unread, &mut written) {
                Ok(0) => break,
                Ok(used) => drop(unread.drain(..used)),
                Err(refusal) => {
                    return Read { written, end: Err(refusal), heads: framer.heads() };
                }
            }
        }
    }
    Read { written, end: Ok(framer.phase(unread.len())), heads: framer.heads() }
}
