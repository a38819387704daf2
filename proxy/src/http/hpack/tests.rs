//! The examples of RFC 7541, every way to be malformed, and properties of what is written and read.

mod peer;

use proptest::prelude::*;

use super::decoder::{DecodeError, Decoder};
use super::encoder;
use super::fields::{FieldRef, Fields};
use super::huffman::tests::encode as huffman;
use super::malformed::Malformed;

const NO_LIMIT: usize = usize::MAX;

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    let octet = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

fn listed(fields: &Fields) -> Vec<String> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    fields.iter().map(|field| format!("{}: {}", text(field.name), text(field.value))).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut fields = Fields::default();
    decoder.decode(block, NO_LIMIT, &mut fields).map(|()| listed(&fields))
}

/// What the dynamic table holds, by its indexes.
fn table(decoder: &mut Decoder) -> Vec<String> {
    let mut found = Vec::new();
    for index in 62_u8.. {
        match decoded(decoder, &[0x80 | index]) {
            Ok(fields) => found.extend(fields),
            Err(error) => {
                assert_eq!(error, DecodeError::Malformed(Malformed::Index));
                break;
            }
        }
    }
    found
}

#[test]
fn single_fields_of_the_rfc() {
    // Appendix C.2.
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    for (hex, name, value, static_name, is_sensitive) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key",
            "custom-header",
            0,
            false,
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path", "/sample/path", 4, false),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password", "secret", 0, true),
        ("82", ":method", "GET", 2, false),
    ] {
        decoder.decode(&octets(hex), NO_LIMIT, &mut fields).unwrap();
        let (name, value) = (name.as_bytes(), value.as_bytes());
        let expected = FieldRef { name, value, static_name, is_sensitive };
        assert_eq!(fields.iter().collect::<Vec<_>>(), [expected]);
    }
    assert_eq!(table(&mut decoder), ["custom-key: custom-header"]);
}

#[test]
fn requests_of_the_rfc() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for (case, blocks) in [("C.3", plain), ("C.4", huffman)] {
        let mut decoder = Decoder::new(4096);
        let [first, second, third] = blocks.map(|hex| decoded(&mut decoder, &octets(hex)).unwrap());
        let (method, authority) = (":method: GET", ":authority: www.example.com");
        assert_eq!(first, [method, ":scheme: http", ":path: /", authority], "case: {case}");
        let cache = "cache-control: no-cache";
        assert_eq!(second, [method, ":scheme: http", ":path: /", authority, cache], "case: {case}");
        let (scheme, path, custom) =
            (":scheme: https", ":path: /index.html", "custom-key: custom-value");
        assert_eq!(third, [method, scheme, path, authority, custom], "case: {case}");
        assert_eq!(table(&mut decoder), [custom, cache, authority], "case: {case}");
    }
}

#[test]
fn responses_of_the_rfc_with_a_table_of_256_octets() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
         6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
         5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
         3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
         9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for (case, blocks) in [("C.5", plain), ("C.6", huffman)] {
        let mut decoder = Decoder::new(256);
        // The size that the examples begin with.
        assert_eq!(decoded(&mut decoder, &octets("3fe101")), Ok(Vec::new()));
        let mut decode = |hex: &str| decoded(&mut decoder, &octets(hex)).unwrap();
        let (cache, location) = ("cache-control: private", "location: https://www.example.com");
        let date = "date: Mon, 21 Oct 2013 20:13:21 GMT";
        let [first, second, third] = blocks;
        assert_eq!(decode(first), [":status: 302", cache, date, location], "case: {case}");
        assert_eq!(decode(second), [":status: 307", cache, date, location], "case: {case}");
        let later = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        let coding = "content-encoding: gzip";
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        let expected = [":status: 200", cache, later, location, coding, cookie];
        assert_eq!(decode(third), expected, "case: {case}");
        assert_eq!(table(&mut decoder), [cookie, coding, later], "case: {case}");
    }
}

#[test]
fn what_is_malformed_is_refused() {
    for (case, hex, expected) in [
        ("a name is missing", "40", Malformed::Truncated),
        ("half a name", "40 03 6161", Malformed::Truncated),
        ("a value is missing", "40 01 61", Malformed::Truncated),
        ("half a value", "40 01 61 05 6162", Malformed::Truncated),
        ("half a value of an indexed name", "44 02 2f", Malformed::Truncated),
        ("half a value that is not indexed", "04 02 2f", Malformed::Truncated),
        ("half a value that is never indexed", "14 02 2f", Malformed::Truncated),
        ("a string of 4 GiB", "04 7f 80ffffff0f 61", Malformed::Truncated),
        ("half a string in the Huffman code", "04 82 60", Malformed::Truncated),
        ("half an index", "ff", Malformed::Truncated),
        ("half a length", "04 7f 80", Malformed::Truncated),
        ("half a size", "3f", Malformed::Truncated),
        ("an index of 33 bits", "ff 81ffffff1f", Malformed::Integer),
        ("an index of many octets", "ff 80808080808000", Malformed::Integer),
        ("a name's index of 33 bits", "0f f1ffffff1f", Malformed::Integer),
        ("a length of 33 bits", "04 7f 81ffffff1f", Malformed::Integer),
        ("a size of 33 bits", "3f e1ffffff1f", Malformed::Integer),
        ("index zero", "80", Malformed::Index),
        ("beyond both tables", "be", Malformed::Index),
        ("far beyond", "ff 80ffffff0f", Malformed::Index),
        ("a name beyond both tables", "7e 01 61", Malformed::Index),
        ("a name far beyond", "0f 80ffffff0f 01 61", Malformed::Index),
        ("an entry beyond the only one", "40 01 61 01 62 bf", Malformed::Index),
        ("an entry that was evicted", "20 40 01 61 01 62 be", Malformed::Index),
        ("a size above the limit", "3f e2 1f", Malformed::TableSize),
        ("the second one", "20 3f e2 1f", Malformed::TableSize),
        ("a size after a field", "82 20", Malformed::TableSizeLate),
        ("a size between fields", "82 3f e1 1f 82", Malformed::TableSizeLate),
        ("padding of zeros", "04 81 00", Malformed::Padding),
        ("an octet of padding", "04 82 1f ff", Malformed::Padding),
        ("padding only", "04 81 ff", Malformed::Padding),
        ("a name with padding of zeros", "00 81 00 01 61", Malformed::Padding),
        ("the end of a string", "04 84 ffffffff", Malformed::EndOfString),
        ("the end of a string within", "04 85 3f ffffffff", Malformed::EndOfString),
    ] {
        // Before it there are good fields, of which none is left.
        let mut fields = Fields::default();
        fields.push(b"from", b"before");
        let block = octets(hex);
        let read = Decoder::new(4096).decode(&block, NO_LIMIT, &mut fields);
        assert_eq!(read, Err(DecodeError::Malformed(expected)), "case: {case}");
        assert!(fields.is_empty(), "case: {case}");
        // What is wrong is no less so because there is too much of it.
        let read = Decoder::new(4096).decode(&block, 0, &mut fields);
        assert_eq!(read, Err(DecodeError::Malformed(expected)), "case: {case}");
    }
}

#[test]
fn sizes_of_the_table_may_change_before_the_fields() {
    let mut decoder = Decoder::new(4096);
    let insert = "40 01 61 01 62";
    assert_eq!(decoded(&mut decoder, &octets(insert)).unwrap(), ["a: b"]);
    assert_eq!(decoded(&mut decoder, &octets("3f e1 1f be")).unwrap(), ["a: b"], "as it was");
    assert_eq!(decoded(&mut decoder, &octets("3f 03 be")).unwrap(), ["a: b"], "34 octets");
    // Down, and up again: what was evicted is gone.
    assert_eq!(decoded(&mut decoder, &octets("3f 02 3f e1 1f 82")).unwrap(), [":method: GET"]);
    assert!(table(&mut decoder).is_empty());
    assert_eq!(decoded(&mut decoder, &octets(&insert.repeat(3))).unwrap().len(), 3);
    assert_eq!(table(&mut decoder).len(), 3);
    assert_eq!(decoded(&mut decoder, &octets("20")).unwrap(), [""; 0], "a block of no fields");
    assert!(table(&mut decoder).is_empty());
}

#[test]
fn a_limit_above_the_default_is_for_those_who_ask() {
    let mut decoder = Decoder::new(10_000);
    // A value of 5000 octets.
    let mut insert = octets("40 01 61 7f 89 26");
    insert.extend([b'b'; 5000]);
    decoded(&mut decoder, &insert).unwrap();
    assert_eq!(table(&mut decoder).len(), 0, "larger than the table is to begin with");
    let larger = [octets("3f f1 4d"), insert].concat();
    decoded(&mut decoder, &larger).unwrap();
    assert_eq!(table(&mut decoder).len(), 1);
}

#[test]
fn a_name_may_come_from_the_entry_that_is_evicted_for_it() {
    let mut decoder = Decoder::new(4096);
    // 36 octets are enough for one of these.
    assert_eq!(decoded(&mut decoder, &octets("3f 05 40 02 6161 01 62")).unwrap(), ["aa: b"]);
    assert_eq!(decoded(&mut decoder, &octets("7e 02 6363 be")).unwrap(), ["aa: cc", "aa: cc"]);
    assert_eq!(table(&mut decoder), ["aa: cc"]);
    // Now the entry is too large.
    assert_eq!(decoded(&mut decoder, &octets("7e 03 646464")).unwrap(), ["aa: ddd"]);
    assert!(table(&mut decoder).is_empty());
}

#[test]
fn a_block_that_is_too_large_leaves_the_table_right() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    // `:method: GET`, `a: b`, `c: d` and the first of them again.
    let block = octets("82 40 01 61 01 62 00 81 27 81 93 be");
    for (limit, expected) in [
        (42 + 34 + 34 + 34, (Ok(()), 4)),
        (42 + 34 + 34 + 33, (Err(DecodeError::TooLarge), 3)),
        (42 + 34 + 33, (Err(DecodeError::TooLarge), 2)),
        // The others are smaller than what is missing.
        (42 + 33, (Err(DecodeError::TooLarge), 1)),
        (41, (Err(DecodeError::TooLarge), 0)),
        (0, (Err(DecodeError::TooLarge), 0)),
    ] {
        let read = decoder.decode(&block, limit, &mut fields);
        assert_eq!((read, fields.len()), expected, "limit {limit}");
        let kept = [":method: GET", "a: b", "c: d", "a: b"];
        assert!(listed(&fields).iter().eq(kept.iter().take(fields.len())), "limit {limit}");
    }
    assert_eq!(table(&mut decoder), ["a: b"; 6]);
}

#[test]
fn a_few_octets_that_stand_for_many_take_no_memory() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    let mut block = octets("40 01 61 7f a1 1e");
    block.extend([b'b'; 4000]);
    block.resize(60_000, 0xbe);
    assert_eq!(decoder.decode(&block, 65_536, &mut fields), Err(DecodeError::TooLarge));
    assert_eq!(fields.len(), 16);
    assert!(fields.arena.capacity() <= 131_072, "{}", fields.arena.capacity());
}

#[test]
fn what_was_sent_by_index_has_its_static_name() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::default();
    // `:path: /index.html`, `:method: PUT` twice, the second by its entry, `:status: 404` by the name of
    // another, `a: b`, and two by the names of entries.
    let block = octets("85 43 03 505554 be 4d 03 343034 00 01 61 01 62 0f 2f 01 31 1f 30 01 32");
    decoder.decode(&block, NO_LIMIT, &mut fields).unwrap();
    let expected = [":path: /index.html", ":method: PUT", ":method: PUT", ":status: 404", "a: b"];
    assert_eq!(listed(&fields)[..5], expected);
    let known: Vec<_> = fields.iter().map(|it| (it.static_name, it.is_sensitive)).collect();
    let (open, sensitive) = (false, true);
    let expected =
        [(4, open), (2, open), (2, open), (8, open), (0, open), (8, open), (2, sensitive)];
    assert_eq!(known, expected);
}

#[test]
fn what_is_written_is_as_short_as_it_can_be() {
    type Write = fn(&mut Vec<u8>);
    let cases: [(&str, Write, &str); 19] = [
        ("no table", encoder::no_table, "20"),
        ("a status of the table", |block| encoder::status(404, block), "8d"),
        ("another", |block| encoder::status(503, block), "08 03 353033"),
        ("an informational one", |block| encoder::status(103, block), "08 03 313033"),
        ("a method of the table", |block| encoder::method(b"POST", block), "83"),
        ("another method", |block| encoder::method(b"PUT", block), "02 03 505554"),
        ("a path of the table", |block| encoder::path(b"/", block), "84"),
        ("another path", |block| encoder::path(b"/a", block), "04 02 2f61"),
        ("a scheme", |block| encoder::scheme(b"https", block), "87"),
        ("another scheme", |block| encoder::scheme(b"a", block), "06 01 61"),
        ("an authority", |block| encoder::authority(b"a:1", block), "01 03 613a31"),
        ("a field of the table", |block| field("accept-encoding", "gzip, deflate", block), "90"),
        ("one that is empty there", |block| field("accept", "", block), "93"),
        ("a name of the table", |block| field("accept", "a", block), "0f 04 01 61"),
        ("a low index", |block| field("accept-charset", "a", block), "0f 00 01 61"),
        ("another name", |block| field("a", "b", block), "00 01 61 01 62"),
        ("a pseudo field by its name", |block| field(":method", "GET", block), "82"),
        (
            "a sensitive one, though it is in the table",
            |block| encoder::field(b":method", b"GET", 2, true, block),
            "12 03 474554",
        ),
        (
            "a sensitive one of another name",
            |block| encoder::field(b"a", b"b", 0, true, block),
            "10 01 61 01 62",
        ),
    ];
    fn field(name: &str, value: &str, block: &mut Vec<u8>) {
        encoder::field(name.as_bytes(), value.as_bytes(), 0, false, block);
    }
    for (case, write, hex) in cases {
        let mut block = Vec::new();
        write(&mut block);
        assert_eq!(block, octets(hex), "case: {case}");
    }
}

/// Names and values with and without a place in the static table.
fn any_field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, bool)> {
    let known = (1..=super::static_table::LENGTH)
        .prop_map(|index| super::static_table::get(index).unwrap())
        .prop_flat_map(|entry| {
            let value = prop_oneof![Just(entry.value().to_vec()), any::<Vec<u8>>()];
            (Just(entry.name().to_vec()), value)
        });
    let other = (any::<Vec<u8>>(), prop::collection::vec(any::<u8>(), 0..400));
    (prop_oneof![known, other], any::<bool>())
        .prop_map(|((name, value), is_sensitive)| (name, value, is_sensitive))
}

/// One way to send a field: a choice of representation, and whether strings are in the Huffman code.
fn any_representation() -> impl Strategy<Value = (u8, bool)> {
    (prop::sample::select(vec![0x40_u8, 0x00, 0x10]), any::<bool>())
}

proptest! {
    #[test]
    fn what_is_written_is_read(sent in prop::collection::vec(any_field(), 0..40)) {
        let mut block = Vec::new();
        for (name, value, is_sensitive) in &sent {
            encoder::field(name, value, 0, *is_sensitive, &mut block);
        }
        let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
        decoder.decode(&block, NO_LIMIT, &mut fields).unwrap();
        let read = fields.iter().map(|it| (it.name.to_vec(), it.value.to_vec(), it.is_sensitive));
        prop_assert_eq!(read.collect::<Vec<_>>(), sent);
        // Passed on, it is the same.
        let mut again = Vec::new();
        for FieldRef { name, value, static_name, is_sensitive } in fields.iter() {
            encoder::field(name, value, static_name, is_sensitive, &mut again);
        }
        prop_assert_eq!(again, block);
        prop_assert!(table(&mut decoder).is_empty());
    }

    /// As others write: with names and strings in every form.
    #[test]
    fn what_others_may_write_is_read(
        sent in prop::collection::vec((any_field(), any_representation()), 0..40),
    ) {
        let mut block = Vec::new();
        let string = |text: &[u8], is_huffman: bool, block: &mut Vec<u8>| {
            let (text, flag) = if is_huffman { (huffman(text), 0x80) } else { (text.to_vec(), 0) };
            super::integer::write(text.len(), flag, 0x7f, block);
            block.extend(text);
        };
        for ((name, value, _), (pattern, is_huffman)) in &sent {
            block.push(*pattern);
            string(name, *is_huffman, &mut block);
            string(value, !is_huffman, &mut block);
        }
        let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
        decoder.decode(&block, NO_LIMIT, &mut fields).unwrap();
        let read = fields.iter().map(|it| (it.name.to_vec(), it.value.to_vec(), it.is_sensitive));
        let expected = sent.into_iter().map(|((name, value, _), (pattern, _))| (name, value, pattern == 0x10));
        prop_assert_eq!(read.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    /// Whatever comes: it ends, and keeps to its limits.
    #[test]
    fn no_octets_do_harm(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
        limit in prop_oneof![Just(NO_LIMIT), 0_usize..400],
    ) {
        let (mut decoder, mut fields) = (Decoder::new(4096), Fields::default());
        for block in blocks {
            let read = decoder.decode(&block, limit, &mut fields);
            let size = fields.iter().map(|it| it.name.len() + it.value.len() + 32).sum::<usize>();
            prop_assert!(size <= limit);
            if matches!(read, Err(DecodeError::Malformed(_))) {
                prop_assert!(fields.is_empty());
                break;
            }
        }
    }
}
