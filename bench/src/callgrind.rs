//! Reads what callgrind writes: how much a program executed in all, and how much of it for one purpose. Source:
//! valgrind's manual, "Callgrind Format Specification".

use std::collections::HashMap;

/// What belongs to a purpose: code whose path or whose source file has one of these in it.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Of functions.
    pub paths: &'static [&'static str],
    /// Of source files, for what was inlined into other functions.
    pub files: &'static [&'static str],
}

/// Instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of the whole program.
    pub total: u64,
    /// For the purpose: what its functions execute, and what others execute for them.
    pub purpose: u64,
}

impl Counted {
    /// What was executed since; a count that did not grow is none.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            purpose: self.purpose.saturating_sub(earlier.purpose),
        }
    }

    /// Each of so many.
    pub fn each(self, number: u64) -> Self {
        let number = number.max(1);
        Self { total: self.total / number, purpose: self.purpose / number }
    }
}

/// Counts a whole file; `None`: it has no total, and was not written to its end.
pub fn count(text: &str, purpose: Purpose) -> Option<Counted> {
    let mut reader = Reader::new(purpose);
    for line in text.lines() {
        reader.read(line);
    }
    Some(Counted { total: reader.total?, purpose: reader.purpose_sum })
}

struct Reader {
    purpose: Purpose,
    /// Names are written once, and then by number. Functions and files are numbered apart.
    functions: HashMap<u64, bool>,
    files: HashMap<u64, bool>,
    in_function: bool,
    in_file: bool,
    /// The function that the next calls are to.
    called: bool,
    /// The next line is what a call cost.
    is_call: bool,
    purpose_sum: u64,
    total: Option<u64>,
}

impl Reader {
    fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            functions: HashMap::new(),
            files: HashMap::new(),
            in_function: false,
            in_file: false,
            called: false,
            is_call: false,
            purpose_sum: 0,
            total: None,
        }
    }

    fn read(&mut self, line: &str) {
        match line.split_once('=') {
            Some(("fn", name)) => {
                self.in_function = known(&mut self.functions, name, self.purpose.paths);
            }
            Some(("cfn", name)) => {
                self.called = known(&mut self.functions, name, self.purpose.paths);
            }
            Some(("fl" | "fi" | "fe", name)) => {
                self.in_file = known(&mut self.files, name, self.purpose.files);
            }
            Some(("cfi" | "cfl", name)) => {
                known(&mut self.files, name, self.purpose.files);
            }
            Some(("calls", _)) => self.is_call = true,
            Some(_) => {}
            None => self.read_cost(line),
        }
    }

    fn read_cost(&mut self, line: &str) {
        if let Some(totals) = line.strip_prefix("totals:") {
            self.total = totals.split_ascii_whitespace().next().and_then(|sum| sum.parse().ok());
            return;
        }
        let mut words = line.split_ascii_whitespace();
        let is_position = |word: &str| {
            word == "*" || word.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit())
        };
        let (Some(position), Some(cost)) = (words.next(), words.next()) else { return };
        let (true, Ok(cost)) = (is_position(position), cost.parse::<u64>()) else { return };
        let is_call = std::mem::take(&mut self.is_call);
        // What a function of the purpose does and calls is in what was counted for the call to it.
        let counts = !self.in_function && (self.in_file || (is_call && self.called));
        if counts {
            self.purpose_sum += cost;
        }
    }
}

/// Whether `name`, which is `(number)` or `(number) name`, has one of these in it.
fn known(names: &mut HashMap<u64, bool>, name: &str, parts: &[&str]) -> bool {
    let numbered = name.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let has_part = |name: &str| parts.iter().any(|part| name.contains(part));
    let Some((number, rest)) = numbered else { return has_part(name) };
    let Ok(number) = number.parse() else { return has_part(name) };
    match rest.trim() {
        "" => names.get(&number).copied().unwrap_or(false),
        name => *names.entry(number).or_insert(has_part(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURPOSE: Purpose = Purpose { paths: &["telemetry::"], files: &["src/telemetry.rs"] };

    #[test]
    fn calls_into_the_purpose_count_whole_and_once_and_so_does_what_was_inlined() {
        let text = "\
version: 1
positions: line
events: Ir
summary: 1000

fl=(1) /src/main.rs
fn=(1) main::serve
10 100
fi=(2) /src/telemetry.rs
+5 7
cfn=(2) clock_gettime
calls=1 20
+0 30
fe=(1)
cfi=(2)
cfn=(3) telemetry::record
calls=2 40
12 400
cfn=(4) main::other
calls=1 50
13 300

fl=(2)
fn=(3)
40 50
cfn=(2)
calls=2 20
41 350

fl=(1)
fn=(4)
50 300

totals: 1000
";
        assert_eq!(count(text, PURPOSE), Some(Counted { total: 1000, purpose: 7 + 30 + 400 }));
    }

    #[test]
    fn a_file_without_its_end_counts_nothing() {
        assert_eq!(count("events: Ir\nfn=(1) main\n1 2\n", PURPOSE), None);
    }

    #[test]
    fn the_difference_of_two_runs_is_what_each_cost() {
        let few = Counted { total: 1000, purpose: 100 };
        let many = Counted { total: 5000, purpose: 300 };
        assert_eq!(many.since(few).each(4), Counted { total: 1000, purpose: 50 });
        assert_eq!(few.since(many), Counted::default());
    }
}
