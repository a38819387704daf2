//! The change of a path, by a redirect or a rewrite. Pure functions. Source: Gateway API v1,
//! HTTPPathModifier.

use heddle_model::filter::PathChange;
use http::Uri;
use http::uri::{InvalidUri, PathAndQuery};

use crate::http::filter::Unservable;

/// A change that can be applied to every path.
#[derive(Clone, Debug)]
pub(super) enum CompiledPathChange {
    Full(String),
    /// Without a slash at its end.
    Prefix(String),
}

impl CompiledPathChange {
    pub(super) fn compile(change: &PathChange) -> Result<Self, Unservable> {
        let (part, text) = match change {
            PathChange::Full(path) => ("path.replaceFullPath", path),
            PathChange::Prefix(prefix) => ("path.replacePrefixMatch", prefix),
        };
        let is_path = text.is_empty()
            || (text.starts_with('/')
                && !text.contains(['?', '#'])
                && PathAndQuery::try_from(text.as_str()).is_ok());
        if !is_path {
            return Err(Unservable::new(part, format!("{text:?} is no path; want one such as /a")));
        }
        Ok(match change {
            PathChange::Full(path) if path.is_empty() => Self::Full("/".to_owned()),
            PathChange::Full(path) => Self::Full(path.clone()),
            PathChange::Prefix(prefix) => {
                Self::Prefix(prefix.strip_suffix('/').unwrap_or(prefix).to_owned())
            }
        })
    }

    pub(super) fn uses_prefix(&self) -> bool {
        match self {
            Self::Prefix(_) => true,
            Self::Full(_) => false,
        }
    }

    /// The changed path with the query as it was. A path that does not begin with `prefix`, since
    /// another filter has changed it before, stays.
    pub(super) fn apply(
        &self,
        uri: &Uri,
        prefix: Option<&str>,
    ) -> Result<PathAndQuery, InvalidUri> {
        let path = uri.path();
        let mut changed = match self {
            Self::Full(full) => full.clone(),
            Self::Prefix(replacement) => {
                match prefix.and_then(|prefix| path.strip_prefix(prefix)) {
                    Some(rest) if rest.is_empty() && replacement.is_empty() => "/".to_owned(),
                    Some(rest) => format!("{replacement}{rest}"),
                    None => path.to_owned(),
                }
            }
        };
        if let Some(query) = uri.query() {
            changed.push('?');
            changed.push_str(query);
        }
        PathAndQuery::try_from(changed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(path: &str, prefix: &str, replacement: &str) -> String {
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let change = PathChange::Prefix(replacement.to_owned());
        let change = CompiledPathChange::compile(&change).unwrap();
        change.apply(&path.parse().unwrap(), Some(prefix)).unwrap().to_string()
    }

    #[test]
    fn prefixes_are_replaced_as_in_the_table_of_the_gateway_api() {
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            // Beyond the table: the prefix that every rule has that names none, and queries.
            ("/a/b", "/", "/xyz", "/xyz/a/b"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foo?a=/foo", "/foo", "/xyz", "/xyz?a=/foo"),
            ("/foo?", "/foo", "", "/?"),
        ] {
            let case = format!("{path}, {prefix} becomes {replacement:?}");
            assert_eq!(replaced(path, prefix, replacement), expected, "case: {case}");
        }
    }

    #[test]
    fn a_full_path_keeps_the_query() {
        for (path, full, expected) in
            [("/a/b?c=d", "/x", "/x?c=d"), ("/a", "", "/"), ("/a?c", "/x/", "/x/?c")]
        {
            let change = CompiledPathChange::compile(&PathChange::Full(full.to_owned())).unwrap();
            let changed = change.apply(&path.parse().unwrap(), None).unwrap();
            assert_eq!(changed.to_string(), expected, "case: {path} becomes {full:?}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["a", "/a?b", "/a#b", "/a b", "http://a/"] {
            for change in [PathChange::Full(text.to_owned()), PathChange::Prefix(text.to_owned())] {
                let refused = CompiledPathChange::compile(&change).unwrap_err();
                assert!(refused.reason.contains("no path"), "case: {change:?}: {refused:?}");
            }
        }
    }

    /// Element by element, as the Gateway API describes it.
    fn oracle(path: &[&str], prefix: &[&str], replacement: &[&str]) -> String {
        let rest = path.iter().skip(prefix.len());
        let all: Vec<&str> = replacement.iter().chain(rest).copied().collect();
        format!("/{}", all.join("/"))
    }

    proptest! {
        #[test]
        fn replacing_agrees_with_the_oracle(
            prefix in proptest::collection::vec("[a-c]{1,2}", 0..3),
            rest in proptest::collection::vec("[a-c]{1,2}", 0..3),
            replacement in proptest::collection::vec("[x-z]{1,2}", 0..3),
            slash_of_prefix: bool,
            slash_of_replacement: bool,
        ) {
            let all: Vec<&str> = prefix.iter().chain(&rest).map(String::as_str).collect();
            let prefix: Vec<&str> = prefix.iter().map(String::as_str).collect();
            let replacement: Vec<&str> = replacement.iter().map(String::as_str).collect();
            // "/" for a path of no element is another matter, and in the table.
            prop_assume!(!rest.is_empty() || !prefix.is_empty());
            let text = |elements: &[&str], slash| {
                format!("/{}{}", elements.join("/"), if slash { "/" } else { "" })
            };
            let path = text(&all, false);
            let found = replaced(
                &path,
                &text(&prefix, slash_of_prefix && !prefix.is_empty()),
                &text(&replacement, slash_of_replacement && !replacement.is_empty()),
            );
            prop_assert_eq!(found, oracle(&all, &prefix, &replacement));
        }
    }
}
