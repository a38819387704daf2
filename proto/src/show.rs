//! How fields of messages are shown to people, where their bytes would tell nobody anything.

use std::net::IpAddr;

use serde::Serializer;

/// An address as people write it; bytes that are none, as they are.
pub(crate) fn ip<S: Serializer>(bytes: &Vec<u8>, serializer: S) -> Result<S::Ok, S::Error> {
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from);
    match v4.or(v6) {
        Ok(address) => serializer.collect_str(&address),
        Err(_) => serializer.serialize_bytes(bytes),
    }
}
