//! The live screen: draws what was told last, and looks at keys, until somebody quits. What is drawn is in view.rs.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::failure::Failure;
use crate::output::Colour;
use crate::terminal::{self, Paint, Screen};
use crate::top::Told;
use crate::top::keys::{Next, State};
use crate::top::view::{self, Scene};

/// Shows until a key ends it. Leaves the terminal as it was, also when dropped half way.
pub async fn until_quit(
    mut last_told: watch::Receiver<Told>,
    mut state: State,
    colour: Colour,
) -> Result<(), Failure> {
    let gone = |error: std::io::Error| {
        terminal::unusable(&error, "try `meshctl top --once`, which prints a table")
    };
    let mut screen = Screen::open().map_err(gone)?;
    let paint = Paint::new(colour);
    let mut told = last_told.borrow_and_update().clone();
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        if !state.paused {
            told = last_told.borrow_and_update().clone();
        }
        let mut room = 0;
        let scene = Scene { told: &told, silent: told.heard.elapsed() };
        let drawn = screen.draw(|frame| room = view::draw(frame, scene, &mut state, paint));
        drawn.map_err(gone)?;
        for key in terminal::pressed().map_err(gone)? {
            if state.press(&key, room) == Next::Quit {
                return Ok(());
            }
        }
    }
}

/// How often keys are looked at, and what has changed is drawn: soon enough to seem at once.
const LOOK_EVERY: Duration = Duration::from_millis(50);
