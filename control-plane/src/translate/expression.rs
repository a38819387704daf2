//! Regular expressions, as proxies compile them: `proxy/src/http/route.rs`.

use heddle_model::route::REGEX_LIMIT_BYTES;
use regex::bytes::RegexBuilder;

use crate::translate::Rejected;

/// Refuses what proxies would: it would stop every update of the service, and not only this route's.
pub fn check(text: &str, field: &str) -> Result<(), Rejected> {
    let build = |expression: &str| {
        let built = RegexBuilder::new(expression)
            .size_limit(REGEX_LIMIT_BYTES)
            .dfa_size_limit(REGEX_LIMIT_BYTES)
            .build();
        built.map(drop).map_err(|error| Rejected::invalid(field, told(text, &error)))
    };
    build(text)?;
    // They look for the whole text, which may take more room.
    build(&format!(r"\A(?:{text})\z"))
}

fn told(text: &str, error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(limit) = error {
        return format!("{text:?} takes more than {limit} bytes; simplify it");
    }
    // The last line names the fault; those before it draw where it is.
    let error = error.to_string();
    let fault = error.lines().last().unwrap_or_default();
    let fault = fault.strip_prefix("error: ").unwrap_or(fault);
    format!("{text:?} is not a regular expression (syntax of RE2): {fault}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proxies_do_not_compile_is_refused_with_the_field() {
        for (text, expected) in [
            ("/v[0-9]+", None),
            ("", None),
            ("(unclosed", Some("unclosed group")),
            ("a)|(b", Some("unopened group")),
            (r"(\w{100}){100}", Some("takes more than 1048576 bytes")),
        ] {
            let error = check(text, "f").err().map(|rejected| rejected.to_string());
            let fits = match (&error, expected) {
                (None, None) => true,
                (Some(error), Some(words)) => error.starts_with("f: ") && error.contains(words),
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(fits, "case: {text}: {error:?}");
        }
    }
}
