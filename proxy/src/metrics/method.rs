//! The method of a request as an attribute: a closed set, since anybody may write any word.

use std::fmt;

use http::Method as HttpMethod;
use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::metrics::words;

words! {
    /// The methods that semantic conventions know: those of RFC 9110, and PATCH.
    Method {
        /// As in RFC 9110.
        Connect = "CONNECT",
        /// As in RFC 9110.
        Delete = "DELETE",
        /// As in RFC 9110.
        Get = "GET",
        /// As in RFC 9110.
        Head = "HEAD",
        /// As in RFC 9110.
        Options = "OPTIONS",
        /// RFC 5789.
        Patch = "PATCH",
        /// As in RFC 9110.
        Post = "POST",
        /// As in RFC 9110.
        Put = "PUT",
        /// As in RFC 9110.
        Trace = "TRACE",
        /// Any other word.
        Other = "_OTHER",
    }
}

impl From<&HttpMethod> for Method {
    fn from(method: &HttpMethod) -> Self {
        match *method {
            HttpMethod::CONNECT => Self::Connect,
            HttpMethod::DELETE => Self::Delete,
            HttpMethod::GET => Self::Get,
            HttpMethod::HEAD => Self::Head,
            HttpMethod::OPTIONS => Self::Options,
            HttpMethod::PATCH => Self::Patch,
            HttpMethod::POST => Self::Post,
            HttpMethod::PUT => Self::Put,
            HttpMethod::TRACE => Self::Trace,
            _ => Self::Other,
        }
    }
}
