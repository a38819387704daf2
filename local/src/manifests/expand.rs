//! `$(NAME)` in a container's command, arguments and variables, as Kubernetes expands it.

/// Replaces `$(NAME)` by the variable's value. `$$` is a dollar; a name that nobody defined stays as it is written.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            rest.strip_prefix('(').and_then(|inner| inner.split_once(')'))
        {
            // The last definition counts, as it does in a process's environment.
            match variables.iter().rev().find(|(variable, _)| variable == name) {
                Some((_, value)) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_expanded_as_kubernetes_does() {
        let variables = [("A".to_owned(), "one".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
        for (case, text, expected) in [
            ("nothing", "plain", "plain"),
            ("known", "x-$(A)-y", "x-one-y"),
            ("not expanded twice", "$(B)", "$(A)"),
            ("unknown", "$(C)", "$(C)"),
            ("escaped", "$$(A)", "$(A)"),
            ("shell", "$A ${A} $(", "$A ${A} $("),
            ("at the end", "cost: 5$", "cost: 5$"),
        ] {
            assert_eq!(expand(text, &variables), expected, "case: {case}");
        }
    }

    proptest! {
        #[test]
        fn text_without_a_dollar_stays(text in "[^$]{0,40}") {
            prop_assert_eq!(expand(&text, &[]), text);
        }
    }
}
