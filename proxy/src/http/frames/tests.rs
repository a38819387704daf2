//! Tables of what clients send, and properties of how it is cut.

use proptest::prelude::*;

use super::*;

fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(length).unwrap().to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.resize(HEAD_BYTES + length, 0xff);
    bytes
}

fn begun(budgets: Budgets) -> FrameCounter {
    let mut counter = FrameCounter::new(budgets);
    counter.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Duration::ZERO);
    assert!(!counter.is_begun());
    counter.receive(&frame(kind::SETTINGS, 0, 0, 18), Duration::ZERO);
    assert!(counter.is_begun());
    counter
}

/// How many of a frame a connection that has just begun takes.
fn taken(budgets: Budgets, bytes: &[u8]) -> (u32, Option<Excess>) {
    let mut counter = begun(budgets);
    for number in 0..20_000 {
        counter.receive(bytes, Duration::from_millis(500));
        if counter.excess().is_some() {
            return (number, counter.excess());
        }
    }
    (20_000, None)
}

#[test]
fn each_kind_has_its_budget() {
    let open = [frame(kind::HEADERS, flag::END_HEADERS, 1, 5), frame(kind::CONTINUATION, 0, 1, 5)]
        .concat();
    for (case, bytes, expected) in [
        ("ping", frame(kind::PING, 0, 0, 8), (1000, Some(Excess::Ping))),
        ("answers to no ping", frame(kind::PING, flag::ACK, 0, 8), (1000, Some(Excess::Ping))),
        // The first was part of the preface.
        ("settings", frame(kind::SETTINGS, 0, 0, 0), (99, Some(Excess::Settings))),
        ("settings acknowledged", frame(kind::SETTINGS, flag::ACK, 0, 0), (20_000, None)),
        ("priority", frame(kind::PRIORITY, 0, 1, 5), (100, Some(Excess::Priority))),
        ("priority update", frame(kind::PRIORITY_UPDATE, 0, 0, 6), (100, Some(Excess::Priority))),
        ("window", frame(kind::WINDOW_UPDATE, 0, 0, 4), (100, Some(Excess::WindowUpdate))),
        ("reset", frame(kind::RST_STREAM, 0, 1, 4), (250, Some(Excess::Reset))),
        ("unknown", frame(0xf7, 0, 0, 100), (100, Some(Excess::Unknown))),
        ("goaway", frame(7, 0, 0, 8), (100, Some(Excess::Unknown))),
        ("empty data", frame(kind::DATA, 0, 1, 0), (100, Some(Excess::EmptyData))),
        ("empty data that ends", frame(kind::DATA, flag::END_STREAM, 1, 0), (20_000, None)),
        ("data", frame(kind::DATA, 0, 1, 1), (20_000, None)),
        ("blocks continued once each", open, (20_000, None)),
        ("continuation", frame(kind::CONTINUATION, 0, 1, 0), (5, Some(Excess::Continuation))),
        ("requests", frame(kind::HEADERS, flag::END_HEADERS, 1, 30), (20_000, None)),
    ] {
        assert_eq!(taken(Budgets::PLAINTEXT, &bytes), expected, "case: {case}");
    }
    let reset = frame(kind::RST_STREAM, 0, 1, 4);
    assert_eq!(taken(Budgets::TRUSTED, &reset), (1000, Some(Excess::Reset)));
}

#[test]
fn a_proxy_may_give_up_every_stream_that_it_opens_and_each_but_once() {
    for (case, budgets, resets, expected) in [
        ("a proxy", Budgets::TRUSTED, 1, None),
        ("a proxy, twice each", Budgets::TRUSTED, 2, Some(Excess::Reset)),
        ("anybody", Budgets::PLAINTEXT, 1, Some(Excess::Reset)),
    ] {
        let mut counter = begun(budgets);
        for number in 0..50_000 {
            let stream = 2 * number + 1;
            counter.receive(&frame(kind::HEADERS, flag::END_HEADERS, stream, 30), Duration::ZERO);
            for _reset in 0..resets {
                counter.receive(&frame(kind::RST_STREAM, 0, stream, 4), Duration::ZERO);
            }
        }
        assert_eq!(counter.excess(), expected, "case: {case}");
    }
}

#[test]
fn what_follows_from_traffic_is_no_excess() {
    let mut counter = begun(Budgets::PLAINTEXT);
    for number in 0..10_000 {
        counter
            .receive(&frame(kind::HEADERS, flag::END_HEADERS, 2 * number + 1, 30), Duration::ZERO);
        counter.send(&frame(kind::HEADERS, flag::END_HEADERS, 2 * number + 1, 30));
        for _frame in 0..3 {
            counter.send(&frame(kind::DATA, 0, 2 * number + 1, 50));
            counter.receive(&frame(kind::WINDOW_UPDATE, 0, 0, 4), Duration::ZERO);
            counter.receive(&frame(kind::WINDOW_UPDATE, 0, 2 * number + 1, 4), Duration::ZERO);
            counter.receive(&frame(kind::PING, 0, 0, 8), Duration::ZERO);
        }
        counter.receive(&frame(kind::PRIORITY, 0, 2 * number + 1, 5), Duration::ZERO);
    }
    assert_eq!(counter.excess(), None);
}

#[test]
fn a_client_that_answers_late_is_not_held_to_the_moment() {
    let mut counter = begun(Budgets::PLAINTEXT);
    for _frame in 0..4000 {
        counter.send(&frame(kind::DATA, 0, 1, 16_384));
    }
    for _frame in 0..8000 {
        counter.receive(&frame(kind::WINDOW_UPDATE, 0, 1, 4), Duration::ZERO);
    }
    assert_eq!(counter.excess(), None);
}

#[test]
fn keep_alive_goes_on_for_ever() {
    let mut counter = begun(Budgets::PLAINTEXT);
    for second in 0..100_000 {
        for _frame in 0..30 {
            counter.receive(&frame(kind::PING, 0, 0, 8), Duration::from_secs(second));
        }
    }
    assert_eq!(counter.excess(), None);
}

#[test]
fn a_request_cancelled_now_and_then_is_no_excess() {
    let mut counter = begun(Budgets::PLAINTEXT);
    for number in 0..100_000_u32 {
        let age = Duration::from_millis(u64::from(number) * 40);
        counter.receive(&frame(kind::HEADERS, flag::END_HEADERS, 2 * number + 1, 30), age);
        counter.receive(&frame(kind::RST_STREAM, 0, 2 * number + 1, 4), age);
    }
    assert_eq!(counter.excess(), None);
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (0..20_u8, 0..8_u8, 0..1000_u32, 0..40_usize)
        .prop_map(|(kind, flags, stream, length)| frame(kind, flags, stream, length))
}

proptest! {
    #[test]
    fn it_does_not_matter_how_bytes_are_cut(
        frames in prop::collection::vec(any_frame(), 0..400),
        cuts in prop::collection::vec(1..60_usize, 1..50),
    ) {
        let bytes = frames.concat();
        let mut whole = begun(Budgets::PLAINTEXT);
        whole.receive(&bytes, Duration::ZERO);
        whole.send(&bytes);
        let mut cut = begun(Budgets::PLAINTEXT);
        let mut rest = bytes.as_slice();
        for length in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*length).min(rest.len()));
            cut.receive(part, Duration::ZERO);
            cut.send(part);
            rest = after;
        }
        prop_assert_eq!(whole.excess(), cut.excess());
        prop_assert_eq!(format!("{:?}", whole.accounts.last_stream), format!("{:?}", cut.accounts.last_stream));
    }

    #[test]
    fn more_bytes_never_take_a_verdict_back(
        frames in prop::collection::vec(any_frame(), 0..400),
        more in any_frame(),
    ) {
        let mut counter = begun(Budgets::PLAINTEXT);
        counter.receive(&frames.concat(), Duration::ZERO);
        if let Some(excess) = counter.excess() {
            counter.receive(&more, Duration::ZERO);
            prop_assert_eq!(counter.excess(), Some(excess));
        }
    }

    #[test]
    fn arbitrary_bytes_are_followed_without_a_panic(bytes: Vec<u8>, age_ms: u32) {
        let mut counter = FrameCounter::new(Budgets::PLAINTEXT);
        counter.receive(&bytes, Duration::from_millis(age_ms.into()));
        counter.send(&bytes);
    }
}
