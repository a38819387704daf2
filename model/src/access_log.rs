//! What a proxy writes down of requests and connections: which of them, and how a line looks.

use std::fmt;
use std::str::FromStr;

/// Which requests and connections are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogMode {
    /// None.
    #[default]
    Off,
    /// Those that failed.
    Errors,
    /// Each.
    All,
}

impl AccessLogMode {
    /// What would do, for whoever wrote something else.
    pub const WANT: &str = "\"off\", \"errors\" or \"all\"";

    /// The word in annotations and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Errors => "errors",
            Self::All => "all",
        }
    }
}

impl FromStr for AccessLogMode {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "off" => Ok(Self::Off),
            "errors" => Ok(Self::Errors),
            "all" => Ok(Self::All),
            other => Err(UnknownWord { found: other.to_owned(), want: Self::WANT }),
        }
    }
}

impl fmt::Display for AccessLogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

impl AccessLogFormat {
    /// What would do, for whoever wrote something else.
    pub const WANT: &str = "\"text\" or \"json\"";

    /// The word in annotations and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl FromStr for AccessLogFormat {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(UnknownWord { found: other.to_owned(), want: Self::WANT }),
        }
    }
}

impl fmt::Display for AccessLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is none of the words that there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} will not do (want {want})")]
pub struct UnknownWord {
    /// As it was written.
    pub found: String,
    /// What would do.
    pub want: &'static str,
}

/// What a proxy writes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLog {
    /// Of what.
    pub mode: AccessLogMode,
    /// How.
    pub format: AccessLogFormat,
}

/// What somebody says of it; where nothing is said, another's word counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLogWish {
    /// Of what.
    pub mode: Option<AccessLogMode>,
    /// How.
    pub format: Option<AccessLogFormat>,
}

impl AccessLogWish {
    /// What is said, and for the rest `otherwise`.
    pub fn or(self, otherwise: AccessLog) -> AccessLog {
        AccessLog {
            mode: self.mode.unwrap_or(otherwise.mode),
            format: self.format.unwrap_or(otherwise.format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written_and_no_others() {
        for mode in [AccessLogMode::Off, AccessLogMode::Errors, AccessLogMode::All] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for text in ["", "All", "error", "on", "true"] {
            let error = text.parse::<AccessLogMode>().unwrap_err().to_string();
            assert!(error.contains(AccessLogMode::WANT), "case: {text}: {error}");
        }
        assert!("logfmt".parse::<AccessLogFormat>().is_err());
    }

    #[test]
    fn each_part_that_is_said_goes_before_the_other() {
        let start = AccessLog { mode: AccessLogMode::Errors, format: AccessLogFormat::Json };
        assert_eq!(AccessLogWish::default().or(start), start);
        let wish = AccessLogWish { mode: Some(AccessLogMode::All), format: None };
        assert_eq!(wish.or(start), AccessLog { mode: AccessLogMode::All, ..start });
        let wish = AccessLogWish { mode: None, format: Some(AccessLogFormat::Text) };
        assert_eq!(wish.or(start), AccessLog { format: AccessLogFormat::Text, ..start });
    }
}
