//! Changes of headers. Which headers cannot be changed is in `header_name`.

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersRequestHeaderModifier;
use heddle_model::filter::{HeaderChange, NamedValue};

use crate::translate::route::hostnames;
use crate::translate::{Rejected, header_name};

/// What has the headers that are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Its `Host` may be set: HTTP/2 has that in another place, so that nothing else can be done to it.
    Request,
    /// Has no `Host`.
    Response,
}

/// Reads a change of headers that is written at `field`.
pub(super) fn change(
    change: &HttpRouteRulesFiltersRequestHeaderModifier,
    message: Message,
    field: &str,
) -> Result<HeaderChange, Rejected> {
    let set = change.set.iter().flatten().map(|one| (&one.name, &one.value));
    let add = change.add.iter().flatten().map(|one| (&one.name, &one.value));
    let mut remove = Vec::new();
    for (index, name) in change.remove.iter().flatten().enumerate() {
        remove.push(header_name::changeable(name, || format!("{field}.remove[{index}]"))?);
    }
    let found = HeaderChange {
        set: values(set, || format!("{field}.set"))?,
        add: values(add, || format!("{field}.add"))?,
        remove,
    };
    check_host(&found, message, field)?;
    let longest = found.set.len().max(found.add.len()).max(found.remove.len());
    if longest > HEADERS_LIMIT {
        let message = format!("changes more than {HEADERS_LIMIT} headers in one list");
        return Err(Rejected::invalid(field, message));
    }
    Ok(found)
}

fn values<'a>(
    values: impl Iterator<Item = (&'a String, &'a String)>,
    field: impl Fn() -> String,
) -> Result<Vec<NamedValue>, Rejected> {
    let mut found: Vec<NamedValue> = Vec::new();
    for (index, (name, value)) in values.enumerate() {
        let field = || format!("{}[{index}]", field());
        let name = header_name::changeable(name, || format!("{}.name", field()))?;
        let trimmed = value.trim_matches([' ', '\t']);
        if value.len() > VALUE_LIMIT_BYTES
            || trimmed.contains(|one: char| one != '\t' && one.is_control())
        {
            let message = "is no value of a header (want one line of text)";
            return Err(Rejected::invalid(format!("{}.value", field()), message));
        }
        // Of several entries for one name only the first counts, says the Gateway API.
        if found.iter().all(|known| !known.name.eq_ignore_ascii_case(&name)) {
            found.push(NamedValue { name, value: trimmed.to_owned() });
        }
    }
    Ok(found)
}

/// A request has exactly one `Host`.
fn check_host(change: &HeaderChange, message: Message, field: &str) -> Result<(), Rejected> {
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    for (index, NamedValue { value, .. }) in
        change.set.iter().enumerate().filter(|(_, one)| is_host(&one.name))
    {
        let (host, port) = value.split_once(':').unwrap_or((value, "80"));
        let field = || format!("{field}.set[{index}].value");
        hostnames::precise(host, field)?;
        if port.parse::<u16>().is_err() {
            return Err(Rejected::invalid(field(), format!("{value:?} is no host and port")));
        }
    }
    let set = change.set.iter().filter(|_| message == Message::Response);
    let others = set.chain(&change.add).map(|one| &one.name).chain(&change.remove);
    match others.into_iter().find(|name| is_host(name)) {
        None => Ok(()),
        Some(name) => {
            let message = format!("{name} can only be set, and only in requests");
            Err(Rejected::unsupported(field, message))
        }
    }
}

/// The Gateway API allows 16.
const HEADERS_LIMIT: usize = 16;
/// As the Gateway API has it.
const VALUE_LIMIT_BYTES: usize = 4096;
