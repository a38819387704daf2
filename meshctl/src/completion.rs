//! Prints completions for a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::output;
use crate::run::Ending;

/// Prints the script to standard output.
pub fn print(shell: Shell) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "meshctl", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Ending::Good)
}
