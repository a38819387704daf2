//! Who may use the relay: any user of this machine can connect to a port of it, but only the one who was told the key is
//! answered. A browser is given it in the address, and keeps it as a cookie. Pure, but for the keys themselves.

use std::sync::{Mutex, PoisonError};

use http::request::Parts;
use http::{Method, header};
use sha2::{Digest, Sha256};

/// What opens the relay.
#[derive(Debug)]
pub struct Keys {
    port: u16,
    printed: String,
    /// In the arguments of the program that opens a browser, which other users can read: it opens once.
    once: Mutex<Option<String>>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes to the control plane.
    Passed,
    /// It brought a key: it is sent to the page with this cookie.
    Entered {
        /// The value of `Set-Cookie`.
        cookie: String,
    },
    /// It brought none, or a wrong one.
    Unknown,
    /// It would change something.
    Changing,
}

impl Keys {
    /// New ones, for a port.
    pub fn new(port: u16) -> Self {
        let new = || {
            let bytes: [u8; KEY_BYTES] = rand::random();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        Self { port, printed: new(), once: Mutex::new(Some(new())) }
    }

    /// The address of the page, with a key that opens as long as the relay runs.
    pub fn address(&self) -> String {
        self.address_with(&self.printed)
    }

    /// The same with one that opens once; empty if it has.
    pub fn address_for_once(&self) -> String {
        let once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        once.as_deref().map(|key| self.address_with(key)).unwrap_or_default()
    }

    fn address_with(&self, key: &str) -> String {
        format!("http://127.0.0.1:{}/?key={key}", self.port)
    }

    /// What is done with a request.
    pub fn admit(&self, request: &Parts) -> Admission {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Admission::Changing;
        }
        let query = request.uri.query().unwrap_or_default();
        if request.uri.path() == "/"
            && let Some(key) = query.strip_prefix("key=")
        {
            return if self.opens(key) { self.entered() } else { Admission::Unknown };
        }
        let name = self.cookie_name();
        let cookies = request.headers.get_all(header::COOKIE).iter();
        let is_known = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(found, value)| found == name && same(value, &self.printed));
        if is_known { Admission::Passed } else { Admission::Unknown }
    }

    fn opens(&self, key: &str) -> bool {
        let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        if once.as_deref().is_some_and(|once| same(key, once)) {
            *once = None;
            return true;
        }
        same(key, &self.printed)
    }

    fn entered(&self) -> Admission {
        let (name, key) = (self.cookie_name(), &self.printed);
        Admission::Entered { cookie: format!("{name}={key}; Path=/; HttpOnly; SameSite=Strict") }
    }

    /// Cookies are not told apart by port: two relays have one each.
    fn cookie_name(&self) -> String {
        format!("heddle-dashboard-{}", self.port)
    }
}

/// In a time that tells nothing of where they differ.
fn same(one: &str, other: &str) -> bool {
    Sha256::digest(one) == Sha256::digest(other)
}

/// As many as nobody guesses.
const KEY_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn admitted(keys: &Keys, method: &str, target: &str, cookie: &str) -> Admission {
        let request = Request::builder().method(method).uri(target).header("cookie", cookie);
        keys.admit(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn whoever_was_told_the_key_is_answered_and_nobody_else() {
        let keys = Keys::new(9000);
        let key = keys.printed.clone();
        let with_key = format!("/?key={key}");
        let entered = admitted(&keys, "GET", &with_key, "");
        let Admission::Entered { cookie } = &entered else { panic!("{entered:?}") };
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
        let (good, _) = cookie.split_once(';').unwrap();
        let of_another_port = good.replace("9000", "9001");
        for (case, method, target, cookie, expected) in [
            ("the key again", "GET", with_key.as_str(), "", entered.clone()),
            ("its cookie", "GET", "/api/v1/stat", good, Admission::Passed),
            (
                "its cookie beside others",
                "HEAD",
                "/",
                &format!("a=b; {good}; c"),
                Admission::Passed,
            ),
            ("no cookie", "GET", "/", "", Admission::Unknown),
            ("another relay's", "GET", "/", &of_another_port, Admission::Unknown),
            ("a guess", "GET", "/?key=0", good, Admission::Unknown),
            ("the key at another path", "GET", &format!("/api?key={key}"), "", Admission::Unknown),
            ("a change", "POST", "/", good, Admission::Changing),
        ] {
            assert_eq!(admitted(&keys, method, target, cookie), expected, "case: {case}");
        }
    }

    #[test]
    fn what_other_users_can_read_opens_once() {
        let keys = Keys::new(9000);
        let address = keys.address_for_once();
        let target = address.strip_prefix("http://127.0.0.1:9000").unwrap();
        assert!(matches!(admitted(&keys, "GET", target, ""), Admission::Entered { .. }));
        assert_eq!(admitted(&keys, "GET", target, ""), Admission::Unknown);
        assert_eq!(keys.address_for_once(), "");
    }
}
