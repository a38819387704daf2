//! Names of hosts, as routes have them: `example.com`, `*.example.com`.

use heddle_model::route::Hostname;

use crate::translate::Rejected;

/// Reads `spec.hostnames`.
pub fn hostnames(names: &[String]) -> Result<Vec<Hostname>, Rejected> {
    if names.len() > HOSTNAMES_LIMIT {
        let message = format!("are more than {HOSTNAMES_LIMIT}: split the route");
        return Err(Rejected::invalid("spec.hostnames", message));
    }
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let field = || format!("spec.hostnames[{index}]");
        let lower = name.to_ascii_lowercase();
        let hostname = match lower.strip_prefix("*.") {
            Some(parent) => precise(parent, field).map(Hostname::Below)?,
            None => precise(&lower, field).map(Hostname::Exact)?,
        };
        if !found.contains(&hostname) {
            found.push(hostname);
        }
    }
    Ok(found)
}

/// Reads `spec.hostnames` of a route of requests, and says what does not count of them.
///
/// Beside a Gateway they are the names by which the world calls it, and callers in the mesh use others:
/// as conditions they would answer those with 404. GEP-1426 would have them ignored altogether.
pub fn of_requests(
    names: &[String],
    all_parents_are_services: bool,
) -> Result<(Vec<Hostname>, Option<String>), Rejected> {
    let found = hostnames(names)?;
    if all_parents_are_services || found.is_empty() {
        return Ok((found, None));
    }
    let note =
        "spec.hostnames: do not count in the mesh, since one of the route's parents is no Service";
    Ok((Vec::new(), Some(note.to_owned())))
}

/// Reads a name without a wildcard: RFC 1123, and no address.
pub fn precise(name: &str, field: impl Fn() -> String) -> Result<String, Rejected> {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LABEL_LIMIT_BYTES).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = name.len() <= NAME_LIMIT_BYTES
        && name.split('.').all(is_label)
        && name.parse::<std::net::IpAddr>().is_err();
    if is_name {
        return Ok(name.to_ascii_lowercase());
    }
    let message = format!("{name:?} is no name of a host (want such as example.com)");
    Err(Rejected::invalid(field(), message))
}

/// The Gateway API allows 16.
const HOSTNAMES_LIMIT: usize = 16;
/// RFC 1123.
const LABEL_LIMIT_BYTES: usize = 63;
/// RFC 1123.
const NAME_LIMIT_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_patterns_are_told_apart() {
        let names = ["A.example.com", "*.example.com", "a.example.com"].map(str::to_owned);
        assert_eq!(
            hostnames(&names).unwrap(),
            [Hostname::Exact("a.example.com".into()), Hostname::Below("example.com".into())]
        );
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_place() {
        for name in ["", "*", "*.", "a..b", "a.*.b", "-a", "a_b", "10.0.0.1", "a:80", "é.com"] {
            let error = hostnames(&["a".to_owned(), name.to_owned()]).unwrap_err();
            assert_eq!(error.field, "spec.hostnames[1]", "case: {name}");
        }
    }
}
