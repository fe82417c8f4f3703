//! Finds the programs that a local cluster consists of.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// The folder that `scripts/setup` fills, above this program. (Not above the current folder: that may be anybody's.)
const SETUP_FOLDER: &str = ".regatta";

/// nats-server: the variable, then what `scripts/setup` fetched, then the system's.
///
/// # Errors
/// When there is none, with how to get it.
pub fn nats_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("REGATTA_NATS_SERVER") {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(path);
        }
        bail!("REGATTA_NATS_SERVER names {}, which is no file", path.display());
    }
    beside_setup("bin/nats-server")
        .or_else(|| on_path("nats-server"))
        .context("nats-server was not found; run scripts/setup, or install it, or set REGATTA_NATS_SERVER to its path")
}

/// The agent's program: beside this one, then the system's.
///
/// # Errors
/// When there is none, with how to get it.
pub fn agent() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("this program does not know its own path")?;
    let beside = this.with_file_name("regatta-agent");
    if beside.is_file() {
        return Ok(beside);
    }
    on_path("regatta-agent").with_context(|| {
        format!("regatta-agent was not found beside {}; build it with `cargo build --release`", this.display())
    })
}

fn beside_setup(file: &str) -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    this.ancestors().map(|folder| folder.join(SETUP_FOLDER).join(file)).find(|path| path.is_file())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}
