//! What a command says when it cannot go on: what failed, why, and what would do.

use std::error::Error;
use std::fmt;

/// A command's error. Every one names what would do, so none can be made without it.
#[derive(Debug)]
pub struct Failure {
    parts: Box<Parts>,
}

#[derive(Debug)]
struct Parts {
    what: String,
    why: Vec<String>,
    remedy: String,
}

impl Failure {
    /// `what` was attempted, and where; `remedy` is what would do.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let parts = Parts { what: what.into(), why: Vec::new(), remedy: remedy.into() };
        Self { parts: Box::new(parts) }
    }

    /// Adds the cause, with all of its own causes.
    #[must_use]
    pub fn because(mut self, cause: &(dyn Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat their source in their own text; once is enough.
            if !self.parts.why.iter().any(|known| known.contains(&text)) {
                self.parts.why.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds the cause in words.
    #[must_use]
    pub fn because_of(mut self, cause: impl Into<String>) -> Self {
        self.parts.why.push(cause.into());
        self
    }

    /// The first line alone, for places that have room for one.
    pub fn headline(&self) -> String {
        match self.parts.why.first() {
            None => self.parts.what.clone(),
            Some(why) => format!("{}: {why}", self.parts.what),
        }
    }
}

impl Failure {
    /// All of it on one line, for places that have no lines.
    pub fn sentence(&self) -> String {
        let Parts { what, why, remedy } = &*self.parts;
        let whole: Vec<&str> = [what].into_iter().chain(why).map(|text| text.trim_end()).collect();
        format!("{}. What would do: {remedy}", whole.join(": "))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.parts.what)?;
        for why in &self.parts.why {
            let mut lines = why.trim_end().lines();
            write!(formatter, "\n  because  {}", lines.next().unwrap_or_default())?;
            for line in lines {
                write!(formatter, "\n           {line}")?;
            }
        }
        write!(formatter, "\n  try      {}", self.parts.remedy)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_would_do() {
        let cause = std::io::Error::other("no such thing");
        let failure = Failure::new("cannot read ./shop", "check the path").because(&cause);
        assert_eq!(
            failure.to_string(),
            "cannot read ./shop\n  because  no such thing\n  try      check the path"
        );
        assert_eq!(failure.headline(), "cannot read ./shop: no such thing");
        assert_eq!(
            failure.sentence(),
            "cannot read ./shop: no such thing. What would do: check the path"
        );
    }

    #[test]
    fn a_cause_that_repeats_its_source_is_told_once() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "outer: {}", self.0)
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let failure = Failure::new("x", "y").because(&Outer(std::io::Error::other("inner")));
        assert_eq!(failure.to_string(), "x\n  because  outer: inner\n  try      y");
    }
}
