//! What the command line prints on standard output.

use std::io::{ErrorKind, Write};

/// Whoever read the output has gone, as `head` does: no fault, and the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct NobodyReads;

/// Prints a line, at once.
///
/// # Errors
/// [`NobodyReads`], or why the output takes nothing.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    print_bytes(format!("{line}\n").as_bytes())
}

/// Prints what is a file otherwise.
///
/// # Errors
/// As [`print_line`].
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => NobodyReads.into(),
        _ => anyhow::Error::new(error).context("cannot write to standard output"),
    })
}
