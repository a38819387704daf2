//! What leaves when, and who gets room for it.

use super::*;
use crate::http::frames::head::{Head, flag, kind};

const WINDOW: usize = 65_535;

fn server() -> Arc<Outbox> {
    Arc::new(Outbox::new(Role::Server, 1 << 20))
}

/// The frames that are ready.
fn frames(outbox: &Outbox) -> Vec<(Head, Vec<u8>)> {
    let mut octets = Vec::new();
    crate::http::mux::writer::give_back(outbox.take(&mut octets));
    let mut rest: &[u8] = &octets;
    let mut frames = Vec::new();
    while let Some((head, payload, after)) = frame::split(rest).unwrap() {
        frames.push((head, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    frames
}

fn kinds(frames: &[(Head, Vec<u8>)]) -> Vec<(u8, u32, usize, bool)> {
    let one = |(head, payload): &(Head, Vec<u8>)| {
        (head.kind, head.stream, payload.len(), head.has(flag::END_STREAM))
    };
    frames.iter().map(one).collect()
}

#[test]
fn a_body_leaves_as_far_as_there_is_room_and_the_rest_when_there_is_more() {
    let (to, from) = (server(), server());
    to.accept(1, true, false);
    from.accept(7, false, false);
    from.receive(7, 2 * WINDOW, false).unwrap();
    to.answer(1, b"head", false);
    let piece = vec![1; FRAME_LIMIT];
    let source = Some((&from, 7));
    let mut left = 0;
    for _piece in 0..5 {
        left += to.data(1, (&piece, false), source);
    }
    // Of the fifth there is room for less than all.
    assert_eq!(left, 3 * FRAME_LIMIT);
    to.trailers(1, b"trailers");
    let sent = kinds(&frames(&to));
    assert_eq!(sent.iter().map(|(_, _, length, _)| length).sum::<usize>(), 4 + WINDOW);
    assert!(sent.iter().all(|(_, _, _, has_ended)| !has_ended));
    assert!(to.take_news().is_empty());
    // On the stream alone it makes no difference.
    give_back(to.widen(1, 1 << 20));
    assert_eq!(frames(&to), []);
    give_back(to.widen(0, 1 << 20));
    let sent = kinds(&frames(&to));
    // No frame is larger than what every peer takes.
    let pieces = [(kind::DATA, 1, FRAME_LIMIT, false), (kind::DATA, 1, 1, false)];
    assert_eq!(sent, [&pieces[..], &[(kind::HEADERS, 1, 8, true)]].concat());
    assert!(matches!(to.take_news().as_slice(), [News::Ended(1)]));
}

fn give_back((is_possible, credits): (bool, Vec<Credit>)) {
    assert!(is_possible);
    crate::http::mux::writer::give_back(credits);
}

#[test]
fn what_has_left_may_be_sent_again_once_it_is_worth_a_frame() {
    let outbox = server();
    outbox.accept(1, false, false);
    let half = usize::try_from(crate::listen::HTTP2_STREAM_WINDOW_BYTES).unwrap() / 2;
    outbox.receive(1, half, false).unwrap();
    outbox.give_back(1, half - 1);
    assert_eq!(frames(&outbox), []);
    outbox.give_back(1, 1);
    assert_eq!(kinds(&frames(&outbox)), [(kind::WINDOW_UPDATE, 1, 4, false)]);
    // The whole window is there again, and not more.
    outbox.receive(1, 2 * half, false).unwrap();
    assert_eq!(outbox.receive(1, 1, false), Err(Excess::Stream));
}

#[test]
fn a_stream_that_is_held_gets_no_room_before_it_is_released() {
    let outbox = server();
    outbox.accept(1, false, true);
    let window = usize::try_from(crate::listen::HTTP2_STREAM_WINDOW_BYTES).unwrap();
    outbox.receive(1, window, false).unwrap();
    outbox.give_back(1, window);
    assert_eq!(frames(&outbox), []);
    outbox.release(1);
    assert_eq!(kinds(&frames(&outbox)), [(kind::WINDOW_UPDATE, 1, 4, false)]);
}

#[test]
fn the_room_of_a_connection_is_what_its_streams_share() {
    let outbox = Outbox::new(Role::Server, 1000);
    outbox.accept(1, false, false);
    outbox.accept(3, false, false);
    outbox.receive(1, 600, false).unwrap();
    assert_eq!(outbox.receive(3, 600, false), Err(Excess::Connection));
    let outbox = Outbox::new(Role::Server, 1000);
    outbox.accept(1, false, false);
    outbox.receive(1, 1000, true).unwrap();
    outbox.give_back(1, 1000);
    assert_eq!(kinds(&frames(&outbox)), [(kind::WINDOW_UPDATE, 0, 4, false)]);
    outbox.receive(1, 1000, false).unwrap();
}

#[test]
fn what_goes_nowhere_gives_its_room_back() {
    for end in [|to: &Outbox| to.forget(1, Some(code::CANCEL)), |to: &Outbox| to.close()] {
        let to = server();
        let from = Arc::new(Outbox::new(Role::Client, 100));
        to.accept(1, true, false);
        give_back(to.set_window(1, 0));
        from.receive(9, 100, false).unwrap();
        assert_eq!(to.data(1, (&[0; 100], false), Some((&from, 9))), 0);
        assert_eq!(from.receive(9, 1, false), Err(Excess::Connection));
        end(&to);
        assert_eq!(kinds(&frames(&from)), [(kind::WINDOW_UPDATE, 0, 4, false)]);
    }
}

impl Outbox {
    /// What the peer takes on streams that begin, and on this one.
    fn set_window(&self, _stream: u32, window: u32) -> (bool, Vec<Credit>) {
        let settings =
            frame::Settings { stream_window: Some(window), ..frame::Settings::default() };
        (true, self.set(&settings))
    }
}

#[test]
fn an_answer_before_the_end_of_its_request_says_that_the_rest_is_not_needed() {
    let outbox = server();
    outbox.accept(1, false, false);
    outbox.answer(1, b"head", true);
    let sent = kinds(&frames(&outbox));
    assert_eq!(sent, [(kind::HEADERS, 1, 4, true), (kind::RST_STREAM, 1, 4, false)]);
    let client = Outbox::new(Role::Client, 1 << 20);
    client.ask(1, b"head", false);
    client.ask(3, b"head", true);
    client.finish(1);
    client.finish(3);
    let sent = kinds(&frames(&client));
    let heads = [(kind::HEADERS, 1, 4, false), (kind::HEADERS, 3, 4, true)];
    assert_eq!(sent, [&heads[..], &[(kind::RST_STREAM, 1, 4, false)]].concat());
}

#[test]
fn streams_that_stand_still_are_found_by_whose_turn_it_is() {
    let second = std::time::Duration::from_secs(1);
    let limits = Limits { client: second, anybody: 10 * second };
    let outbox = server();
    let now = Instant::now();
    let at = |after: u32| {
        let (mut overdue, _again) = outbox.overdue(limits, now + after * second);
        overdue.sort_by_key(|(stream, _waiting)| *stream);
        overdue
    };
    // The first is to send, the second has, the third is to take.
    outbox.accept(1, false, false);
    outbox.accept(3, true, false);
    outbox.accept(5, true, false);
    outbox.answer(5, b"head", false);
    give_back((
        true,
        outbox.set(&frame::Settings { stream_window: Some(0), ..Default::default() }),
    ));
    outbox.data(5, (b"body", true), None);
    assert_eq!(at(0), []);
    assert_eq!(at(2), [(1, Waiting::Sender), (5, Waiting::Reader)]);
    assert_eq!(at(11), [(1, Waiting::Sender), (3, Waiting::Anybody), (5, Waiting::Reader)]);
}

#[test]
fn whoever_waits_is_woken_once_and_not_by_itself() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count(0.into()));
    let woken = || count.0.load(std::sync::atomic::Ordering::SeqCst);
    let waker = Waker::from(Arc::clone(&count));
    let outbox = server();
    outbox.begin_turn();
    outbox.write(|output| frame::ping(output, &[0; 8], true));
    assert!(outbox.end_turn(&waker), "it knows of that");
    assert_eq!(woken(), 0);
    outbox.write(|output| frame::ping(output, &[0; 8], true));
    outbox.write(|output| frame::ping(output, &[0; 8], true));
    assert_eq!(woken(), 1);
    frames(&outbox);
    assert!(!outbox.end_turn(&waker));
    outbox.tell(News::Overdue(1));
    assert_eq!(woken(), 2);
}
