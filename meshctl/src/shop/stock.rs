//! The store's protocol: lines of text, the client speaks first. `COUNT` asks how many items there
//! are, `ADD n` brings some; `OK n` or `ERROR reason` answers. Pure: the sockets are in store.rs.

/// The longest line either side takes, with its end.
pub const LINE_LIMIT_BYTES: u64 = 128;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// How many items there are.
    Count,
    /// Brings this many.
    Add(u64),
}

/// Reads one line, without its end.
pub fn parse_command(line: &str) -> Result<Command, String> {
    match line.split_once(' ') {
        None if line == "COUNT" => Ok(Command::Count),
        Some(("ADD", number)) => {
            number.parse().map(Command::Add).map_err(|_| format!("\"{number}\" is no number"))
        }
        None | Some(_) => Err("want COUNT or ADD n".to_owned()),
    }
}

/// Reads the answer to a command, without its line end.
pub fn parse_answer(line: &str) -> Result<u64, String> {
    match line.split_once(' ') {
        Some(("OK", number)) => {
            number.parse().map_err(|_| format!("the store answered no number: \"{number}\""))
        }
        Some(("ERROR", reason)) => Err(format!("the store refused: {reason}")),
        None | Some(_) => Err(format!("the store answered what nobody understands: \"{line}\"")),
    }
}

/// Does what a line asks and says the answer, without its line end.
pub fn serve_line(items: &mut u64, line: &str) -> String {
    match parse_command(line) {
        Ok(Command::Count) => format!("OK {items}"),
        Ok(Command::Add(more)) => {
            *items = items.saturating_add(more);
            format!("OK {items}")
        }
        Err(reason) => format!("ERROR {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_store_counts_what_was_brought() {
        let mut items = 10;
        for (line, answer) in [
            ("COUNT", "OK 10"),
            ("ADD 5", "OK 15"),
            ("ADD five", "ERROR \"five\" is no number"),
            ("ADD", "ERROR want COUNT or ADD n"),
            ("count", "ERROR want COUNT or ADD n"),
            ("", "ERROR want COUNT or ADD n"),
            ("COUNT", "OK 15"),
        ] {
            assert_eq!(serve_line(&mut items, line), answer, "case: {line}");
        }
    }

    #[test]
    fn an_answer_is_a_number_or_a_reason() {
        assert_eq!(parse_answer("OK 7"), Ok(7));
        assert!(parse_answer("ERROR no").unwrap_err().contains("refused: no"));
        assert!(parse_answer("OK x").is_err());
        assert!(parse_answer("").is_err());
    }

    proptest! {
        #[test]
        fn the_store_answers_every_line_with_one_line(line in "[^\r\n]{0,100}", start: u64) {
            let mut items = start;
            let answer = serve_line(&mut items, &line);
            prop_assert!(!answer.contains('\n'));
            prop_assert!(items >= start);
        }
    }
}
