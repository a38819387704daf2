//! What is written down at the moment: read for each request, changed by discovery.

use std::sync::atomic::{AtomicU8, Ordering};

use heddle_model::access_log::{AccessLog, AccessLogFormat, AccessLogMode, AccessLogWish};

/// What is written down: what the workload says by now, and what the proxy was started with for the rest.
#[derive(Debug, Default)]
pub struct Switch {
    start: AccessLog,
    /// Both words in one number, so that they change together.
    now: AtomicU8,
}

impl Switch {
    /// What the proxy was started with.
    pub fn new(start: AccessLog) -> Self {
        Self { start, now: AtomicU8::new(number(start)) }
    }

    /// Follows what the workload says; what it is now, if that is something else than before.
    pub fn follow(&self, wish: AccessLogWish) -> Option<AccessLog> {
        let wanted = wish.or(self.start);
        let before = self.now.swap(number(wanted), Ordering::Relaxed);
        (before != number(wanted)).then_some(wanted)
    }

    /// Whether anything is written down.
    pub fn is_on(&self) -> bool {
        self.get().mode != AccessLogMode::Off
    }

    /// What is written down, and how.
    pub fn get(&self) -> AccessLog {
        let now = self.now.load(Ordering::Relaxed);
        let mode = match now & MODE_BITS {
            ERRORS => AccessLogMode::Errors,
            ALL => AccessLogMode::All,
            _ => AccessLogMode::Off,
        };
        let format = if now & JSON == 0 { AccessLogFormat::Text } else { AccessLogFormat::Json };
        AccessLog { mode, format }
    }
}

fn number(wanted: AccessLog) -> u8 {
    let mode = match wanted.mode {
        AccessLogMode::Off => 0,
        AccessLogMode::Errors => ERRORS,
        AccessLogMode::All => ALL,
    };
    let format = match wanted.format {
        AccessLogFormat::Text => 0,
        AccessLogFormat::Json => JSON,
    };
    mode | format
}

const ERRORS: u8 = 1;
const ALL: u8 = 2;
const MODE_BITS: u8 = ERRORS | ALL;
const JSON: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_every_pair_of_words() {
        for mode in [AccessLogMode::Off, AccessLogMode::Errors, AccessLogMode::All] {
            for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
                let switch = Switch::new(AccessLog { mode, format });
                assert_eq!(switch.get(), AccessLog { mode, format });
                assert_eq!(switch.is_on(), mode != AccessLogMode::Off);
            }
        }
    }

    #[test]
    fn the_workload_goes_before_what_the_proxy_was_started_with() {
        let start = AccessLog { mode: AccessLogMode::Errors, format: AccessLogFormat::Json };
        let switch = Switch::new(start);
        let off = AccessLogWish { mode: Some(AccessLogMode::Off), format: None };
        assert_eq!(switch.follow(AccessLogWish::default()), None, "nothing has changed");
        assert_eq!(switch.follow(off), Some(AccessLog { mode: AccessLogMode::Off, ..start }));
        assert!(!switch.is_on());
        assert_eq!(switch.follow(AccessLogWish::default()), Some(start), "it is said no more");
        assert_eq!(switch.get(), start);
    }
}
