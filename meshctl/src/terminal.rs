//! The whole terminal, for what is drawn live: opened, left as it was on every way out, its keys, and its styles.

use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;
use ratatui::widgets::Block;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::output::Colour;

/// The terminal while it is ours: another screen, without a cursor, and every key as it is pressed. A panic gives it
/// back too, by a hook that is set when it is opened.
pub struct Screen {
    /// Never dropped: when the terminal has gone, ratatui's own `Drop` writes so to standard error, and
    /// panics when that has gone too, before anything else is ended.
    terminal: ManuallyDrop<ratatui::DefaultTerminal>,
}

impl Screen {
    /// Takes it.
    pub fn open() -> io::Result<Self> {
        Ok(Self { terminal: ManuallyDrop::new(ratatui::try_init()?) })
    }

    /// Draws what has changed, in the size that the terminal has now.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Errors mean that the terminal has gone: nobody is left to see it.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// The terminal is none, or has gone.
pub fn unusable(error: &io::Error, remedy: &str) -> Failure {
    Failure::new("cannot draw on this terminal", remedy).because(error)
}

/// The keys that were pressed since the last time.
pub fn pressed() -> io::Result<Vec<KeyEvent>> {
    let mut keys = Vec::new();
    while keys.len() < KEYS_AT_ONCE && event::poll(Duration::ZERO)? {
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => keys.push(key),
            // A new size is seen when it is drawn.
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_)
            | Event::Paste(_) => {}
        }
    }
    Ok(keys)
}

/// Ctrl-C, which is no signal while the terminal is ours.
pub fn is_interrupt(key: &KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Completes on SIGINT, SIGTERM, or SIGHUP (the terminal was closed).
///
/// Cancel safe: yes.
pub async fn told_to_end() -> io::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        ended = heddle_runtime::signals::terminated() => ended,
        _ = hang_up.recv() => Ok(()),
    }
}

/// Styles, which are none without colour but for what a terminal of one colour has too.
#[derive(Clone, Copy, Debug)]
pub struct Paint(Colour);

impl Paint {
    /// With colour or without.
    pub fn new(colour: Colour) -> Self {
        Self(colour)
    }

    /// In a colour.
    pub fn colour(self, colour: Color) -> Style {
        match self.0 {
            Colour::Never => Style::new(),
            Colour::Ansi => Style::new().fg(colour),
        }
    }

    /// As it should be.
    pub fn good(self) -> Style {
        self.colour(Color::Green)
    }

    /// Needs somebody.
    pub fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// A share that should be whole.
    pub fn judge(self, share: Option<f64>) -> Style {
        match share {
            None => self.dim(),
            Some(share) if share >= 1.0 => self.good(),
            Some(_) => self.bad(),
        }
    }

    /// A title.
    pub fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of less interest.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// A frame with a title.
    pub fn block(self, title: &'static str) -> Block<'static> {
        Block::bordered().title(Span::styled(title, self.bold())).border_style(self.dim())
    }
}

/// So that a paste of a book does not keep the screen from being drawn.
const KEYS_AT_ONCE: usize = 256;
