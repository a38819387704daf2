//! Room for what is read and written, which connections have only while they need it: a few pieces that each thread
//! keeps, since most connections are idle most of the time.

use std::cell::RefCell;

use bytes::BytesMut;

use crate::http::gate::io::READ_BYTES;

/// Room to read into, of [`READ_BYTES`].
pub(crate) fn for_reading() -> BytesMut {
    SPARE
        .with_borrow_mut(|spare| spare.reading.pop())
        .unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES))
}

/// Room to write into.
pub(crate) fn for_writing() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.writing.pop()).unwrap_or_default()
}

/// It is not needed any more.
pub(crate) fn read(mut buffer: BytesMut) {
    buffer.clear();
    // What it was cut from may be in use elsewhere.
    let is_fit = (READ_BYTES..=LARGE_BYTES).contains(&buffer.capacity());
    SPARE.with_borrow_mut(|spare| {
        if is_fit && spare.reading.len() < SPARE_LIMIT {
            spare.reading.push(buffer);
        }
    });
}

/// It is not needed any more.
pub(crate) fn written(mut buffer: Vec<u8>) {
    buffer.clear();
    let is_fit = (1..=LARGE_BYTES).contains(&buffer.capacity());
    SPARE.with_borrow_mut(|spare| {
        if is_fit && spare.writing.len() < SPARE_LIMIT {
            spare.writing.push(buffer);
        }
    });
}

#[derive(Default)]
struct Spare {
    reading: Vec<BytesMut>,
    writing: Vec<Vec<u8>>,
}

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { reading: Vec::new(), writing: Vec::new() }) };
}

/// Of each kind, on each thread: as many as requests begin and end between two waits.
const SPARE_LIMIT: usize = 32;
/// What has grown more is given back.
const LARGE_BYTES: usize = 2 * READ_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_and_only_so_much_is_kept() {
        let mut buffer = for_reading();
        buffer.extend_from_slice(b"of somebody else");
        let (place, capacity) = (buffer.as_ptr(), buffer.capacity());
        read(buffer);
        let again = for_reading();
        assert_eq!((again.as_ptr(), again.capacity(), again.len()), (place, capacity, 0));
        read(BytesMut::with_capacity(LARGE_BYTES + 1));
        assert_ne!(for_reading().capacity(), LARGE_BYTES + 1);
        for _piece in 0..2 * SPARE_LIMIT {
            read(BytesMut::with_capacity(READ_BYTES));
            written(Vec::with_capacity(1));
        }
        SPARE.with_borrow(|spare| {
            assert_eq!((spare.reading.len(), spare.writing.len()), (SPARE_LIMIT, SPARE_LIMIT));
        });
    }
}
