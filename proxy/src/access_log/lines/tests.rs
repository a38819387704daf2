//! Whether lines come out whole, and who waits for them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

/// An output that takes a piece for each word that it is given.
struct Slow {
    words: Receiver<()>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.words.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.taken.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    lines: Lines,
    metrics: LineMetrics,
    words: SyncSender<()>,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    fn new() -> Self {
        let (words, receiver) = sync_channel(1_000_000);
        let (metrics, taken) = (LineMetrics::default(), Arc::default());
        let output = Slow { words: receiver, taken: Arc::clone(&taken) };
        let lines = Lines::to(metrics.clone(), output);
        Self { lines, metrics, words, taken }
    }

    fn push(&self, line: &str) {
        self.lines.push(line.as_bytes());
    }
}

#[tokio::test]
async fn lines_come_out_whole_and_in_order() {
    let bench = Bench::new();
    let sent: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
    for _ in 0..1000 {
        bench.words.send(()).unwrap();
    }
    sent.iter().for_each(|line| bench.push(line));
    bench.lines.flush(Duration::from_secs(60)).await;
    assert_eq!(String::from_utf8(bench.taken.lock().clone()).unwrap(), sent.concat());
    assert_eq!(bench.metrics.written.get(), 1000);
    assert_eq!((bench.metrics.dropped.get(), bench.metrics.failed.get()), (0, 0));
}

#[tokio::test]
async fn where_nobody_reads_lines_are_dropped_and_counted_and_nobody_waits() {
    let bench = Bench::new();
    let line = format!("{}\n", "a".repeat(1023));
    const LINES: u64 = 10_000;
    // This would not end if it waited: nothing is taken.
    for _ in 0..LINES {
        bench.push(&line);
    }
    let dropped = bench.metrics.dropped.get();
    // As much as may wait is kept, and once more what the thread had taken before.
    let kept = LINES - dropped;
    assert!((1024..=2 * 1024).contains(&kept), "{kept} lines are kept");
    assert!(bench.lines.0.pending.lock().bytes.len() <= PENDING_LIMIT_BYTES);
    for _ in 0..LINES {
        bench.words.send(()).unwrap();
    }
    bench.lines.flush(Duration::from_secs(60)).await;
    assert_eq!(bench.metrics.written.get(), kept);
    assert_eq!(bench.metrics.dropped.get(), dropped);
    bench.push("and on it goes\n");
    bench.lines.flush(Duration::from_secs(60)).await;
    assert!(bench.taken.lock().ends_with(b"a\nand on it goes\n"));
}

#[tokio::test]
async fn an_output_that_is_gone_is_counted_and_holds_nothing_up() {
    let bench = Bench::new();
    drop(bench.words);
    bench.lines.push(b"lost\n");
    bench.lines.flush(Duration::from_secs(60)).await;
    assert_eq!((bench.metrics.written.get(), bench.metrics.failed.get()), (0, 1));
}

#[tokio::test]
async fn the_end_of_the_process_does_not_wait_for_a_reader() {
    let bench = Bench::new();
    bench.push("taken, and not written\n");
    bench.push("left\n");
    // The deadline is the point.
    bench.lines.flush(Duration::from_millis(50)).await;
    assert!(bench.lines.0.pending.lock().bytes.is_empty());
}

#[test]
fn pieces_are_whole_lines_that_a_pipe_takes_at_once() {
    let line = |length: usize| format!("{}\n", "a".repeat(length - 1));
    for (case, lines, expected) in [
        ("nothing", vec![], vec![]),
        ("one", vec![10], vec![10]),
        ("two in one", vec![10, 20], vec![30]),
        ("just as much as goes", vec![4000, 96], vec![4096]),
        ("a byte too much", vec![4000, 97], vec![4000, 97]),
        ("a long one", vec![10, 5000, 20], vec![10, 5000, 20]),
        ("long ones only", vec![5000, 6000], vec![5000, 6000]),
    ] {
        let text: String = lines.iter().map(|length| line(*length)).collect();
        let found: Vec<usize> = pieces(text.as_bytes()).map(<[u8]>::len).collect();
        assert_eq!(found, expected, "case: {case}");
    }
}
