//! The time as a field says it (RFC 9110, section 5.6.7).

use std::cell::RefCell;
use std::time::SystemTime;

use heddle_runtime::clock;

/// The present one, made once a second at most.
pub(super) fn now(with: impl FnOnce(&str)) {
    thread_local! {
        static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let present = clock::now();
    let since = present.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() || text.is_empty() {
            (*second, *text) = (since.as_secs(), httpdate::fmt_http_date(present));
        }
        with(text);
    });
}
