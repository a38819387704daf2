//! Writing to standard output: in which format, in colour or not, and quietly ending when the reader
//! has gone (`meshctl status | head`).

use std::io::{self, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::failure::Failure;

/// What a command prints its result as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For machines; the fields are stable.
    Json,
}

/// What a command that lists things prints them as, as in kubectl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For people, with more columns.
    Wide,
    /// For machines; the fields are stable.
    Json,
    /// The same as YAML.
    Yaml,
    /// Only names, one a line.
    Name,
}

/// What of a page for people is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// More columns (`-o wide`).
    pub wide: bool,
    /// Tables without their lines of column names (`--no-headers`).
    pub no_headers: bool,
    /// In colour or not.
    pub colour: Colour,
}

impl Page {
    /// As it is shown where nothing is said, without colour.
    pub const USUAL: Self = Self { wide: false, no_headers: false, colour: Colour::Never };
}

/// Whether text may carry colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    Never,
    /// ANSI sequences.
    Ansi,
}

impl Colour {
    /// Colour on terminals only, and never where `NO_COLOR` is set to anything but nothing
    /// (<https://no-color.org>).
    pub fn of_standard_output(no_color: Option<&str>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        if refused || !io::stdout().is_terminal() { Self::Never } else { Self::Ansi }
    }

    /// `text` in bold.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// `text` for what is as it should be.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// `text` for what needs somebody.
    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// `text` for what is of less interest.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Never => text.to_owned(),
            Self::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// This program, as it was called: what a hint begins with, so that it can be copied.
pub fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "meshctl".to_owned())
}

/// Prints text. A reader that has gone is no failure: nobody is left to be told.
pub fn print(text: &str) -> Result<(), Failure> {
    print_to_reader(text).map(|_| ())
}

/// Prints text, and tells whether there is still a reader.
pub fn print_to_reader(text: &str) -> Result<bool, Failure> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(
            "cannot write to standard output",
            "check what standard output is sent to: a full disk, or a closed terminal",
        )
        .because(&error)),
    }
}

/// Whether somebody may still read standard output, though nothing is written: a pipe without a reader, or a terminal
/// that was closed, tells so.
pub fn has_reader() -> bool {
    let output = io::stdout();
    let mut watched = [PollFd::new(&output, PollFlags::empty())];
    match poll(&mut watched, Some(&Timespec::default())) {
        Ok(_) => watched.iter().all(|watched| {
            let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
            !watched.revents().intersects(gone)
        }),
        // Then whoever writes will see.
        Err(_) => true,
    }
}

/// Says something to people beside the result, on standard error. Nobody may be reading.
pub fn hint(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints a value as indented JSON and a line end.
pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&json(value, false)?)
}

/// A value as JSON with a line end: on one line where more of them follow.
pub fn json<T: Serialize>(value: &T, more_follow: bool) -> Result<String, Failure> {
    let text = match more_follow {
        true => serde_json::to_string(value),
        false => serde_json::to_string_pretty(value),
    };
    Ok(format!("{}\n", text.map_err(|error| not_json(&error))?))
}

/// A value as YAML with a line end: as a document of its own where more of them follow.
pub fn yaml<T: Serialize>(value: &T, more_follow: bool) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(value).map_err(|error| not_yaml(&error))?;
    let begin = if more_follow { "---\n" } else { "" };
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{begin}{text}{end}"))
}

/// Prints a value as YAML.
pub fn print_yaml<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&yaml(value, false)?)
}

/// Prints a value as JSON on one line.
pub fn print_json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| not_json(&error))?;
    print(&format!("{text}\n"))
}

fn not_yaml(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("cannot write the result as YAML", "report this as a bug of meshctl")
        .because(error)
}

fn not_json(error: &serde_json::Error) -> Failure {
    Failure::new("cannot write the result as JSON", "report this as a bug of meshctl")
        .because(error)
}
