//! Whether the head of a backend's response says one thing only: what hyper's client takes, and
//! readers of what is forwarded could read in two ways, is an error and no response.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version};

/// What is wrong with a response. RFC 9112 is HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// RFC 9112, section 6.3.
    #[error("both a length and a transfer coding")]
    LengthAndCoding,
    /// RFC 9112, section 6.3; several that are the same count as well.
    #[error("a length that is not one number")]
    ContentLength,
    /// RFC 9112, section 6.1: a coding that the proxy would remove the name of and leave in place.
    #[error("a transfer coding other than chunked")]
    TransferEncoding,
    /// RFC 9110, section 7.8.
    #[error("a switch of protocols that nobody asked for")]
    UnaskedUpgrade,
}

/// Fails for what is not to be forwarded; whether the request `asked` for a tunnel.
pub fn judge<B>(response: &Response<B>, asked: bool) -> Result<(), Fault> {
    let headers = response.headers();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !asked {
        return Err(Fault::UnaskedUpgrade);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    let is_number = length.is_none_or(|length| {
        !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit)
    });
    if !is_number || lengths.next().is_some() {
        return Err(Fault::ContentLength);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if length.is_some() {
        return Err(Fault::LengthAndCoding);
    }
    let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if !is_chunked || codings.next().is_some() || response.version() != Version::HTTP_11 {
        return Err(Fault::TransferEncoding);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_read_in_two_ways_is_no_response() {
        let coding = "transfer-encoding";
        let length = "content-length";
        for (case, fields, asked, expected) in [
            ("nothing", &[][..], false, Ok(())),
            ("a length", &[(length, "5")], false, Ok(())),
            ("chunks", &[(coding, "Chunked")], false, Ok(())),
            ("both", &[(coding, "chunked"), (length, "5")], false, Err(Fault::LengthAndCoding)),
            ("a list", &[(length, "5, 5")], false, Err(Fault::ContentLength)),
            ("twice the same", &[(length, "5"), (length, "5")], false, Err(Fault::ContentLength)),
            ("a sign", &[(length, "+5")], false, Err(Fault::ContentLength)),
            ("gzip", &[(coding, "gzip, chunked")], false, Err(Fault::TransferEncoding)),
            ("identity", &[(coding, "identity")], false, Err(Fault::TransferEncoding)),
            (
                "chunked twice",
                &[(coding, "chunked"), (coding, "chunked")],
                false,
                Err(Fault::TransferEncoding),
            ),
        ] {
            let mut response = Response::builder();
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            let response = response.body(()).unwrap();
            assert_eq!(judge(&response, asked), expected, "case: {case}");
        }
    }

    #[test]
    fn protocols_are_switched_only_if_that_was_asked_for() {
        let response = Response::builder().status(101).body(()).unwrap();
        assert_eq!(judge(&response, true), Ok(()));
        assert_eq!(judge(&response, false), Err(Fault::UnaskedUpgrade));
    }
}
