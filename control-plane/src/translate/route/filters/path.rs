//! Changes of paths, in redirects and rewrites.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFiltersRequestRedirectPath, HttpRouteRulesFiltersRequestRedirectPathType,
};
use heddle_model::filter::PathChange;

use super::RuleContext;
use crate::translate::Rejected;

/// Reads the `path` of a redirect or a rewrite that is written at `field`.
pub(super) fn path_change(
    path: &HttpRouteRulesFiltersRequestRedirectPath,
    rule: &RuleContext<'_>,
    field: &str,
) -> Result<PathChange, Rejected> {
    use HttpRouteRulesFiltersRequestRedirectPathType as Type;

    let (full, prefix) = (path.replace_full_path.as_deref(), path.replace_prefix_match.as_deref());
    let bad = |part: &str, message: &str| {
        Rejected::invalid(format!("{field}.path.{part}"), message.to_owned())
    };
    match (&path.r#type, full, prefix) {
        (Type::ReplaceFullPath, Some(full), None) => {
            if !full.starts_with('/') || !is_path(full) {
                return Err(bad("replaceFullPath", "is no path (want one that begins with /)"));
            }
            Ok(PathChange::Full(full.to_owned()))
        }
        (Type::ReplacePrefixMatch, None, Some(prefix)) => {
            if !rule.matches_prefixes {
                let message = "needs matches of type PathPrefix, and no others, in its rule";
                return Err(bad("replacePrefixMatch", message));
            }
            let trimmed = prefix.trim_end_matches('/');
            if !(trimmed.is_empty() || trimmed.starts_with('/')) || !is_path(trimmed) {
                return Err(bad("replacePrefixMatch", "is no path (want one that begins with /)"));
            }
            // The trailing / of a prefix does not count; one of none is that of every path.
            Ok(PathChange::Prefix(if trimmed.is_empty() { "/" } else { trimmed }.to_owned()))
        }
        (Type::ReplaceFullPath, None, _) => Err(bad("replaceFullPath", "is missing")),
        (Type::ReplaceFullPath, Some(_), Some(_)) => {
            Err(bad("replacePrefixMatch", "is of another type than ReplaceFullPath"))
        }
        (Type::ReplacePrefixMatch, _, None) => Err(bad("replacePrefixMatch", "is missing")),
        (Type::ReplacePrefixMatch, Some(_), Some(_)) => {
            Err(bad("replaceFullPath", "is of another type than ReplacePrefixMatch"))
        }
    }
}

/// Whether a text can stand in a request's line: a space or a line's end would forge another one.
fn is_path(text: &str) -> bool {
    text.len() <= PATH_LIMIT_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
}

/// As the Gateway API has it.
const PATH_LIMIT_BYTES: usize = 1024;
