//! The programs that an agent's operator allows, by name. An offer can name one of them, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use regatta_schemas::check::is_name;

/// What Linux reads of a script's first line.
const FIRST_LINE_MAX: u64 = 256;

/// Why a program cannot be allowed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("`{0}` does not allow a program: write NAME=PATH, with a name of letters, digits, `_`, `-` and `.`")]
    NoPair(String),
    #[error("the name `{0}` is given to two programs")]
    Twice(String),
    #[error("{path} cannot be run: {reason}")]
    NotRunnable { path: PathBuf, reason: String },
}

/// Name to path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs(BTreeMap<String, PathBuf>);

impl Programs {
    /// Reads `NAME=PATH` each. Links are not followed: a program may find its place by the path that it was run by.
    ///
    /// # Errors
    /// One is no such pair, is given twice, or is no file that can be run.
    pub fn read(pairs: &[String]) -> Result<Self, ProgramError> {
        let mut programs = BTreeMap::new();
        for pair in pairs {
            let (name, path) = pair.split_once('=').ok_or_else(|| ProgramError::NoPair(pair.clone()))?;
            if !is_name(name) || path.is_empty() {
                return Err(ProgramError::NoPair(pair.clone()));
            }
            if programs.insert(name.to_owned(), runnable(Path::new(path))?).is_some() {
                return Err(ProgramError::Twice(name.to_owned()));
            }
        }
        Ok(Self(programs))
    }

    pub fn path(&self, name: &str) -> Option<&Path> {
        self.0.get(name).map(PathBuf::as_path)
    }

    pub fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// What is to be done where a trial names a program that is not allowed.
    pub fn refusal(&self, name: &str) -> String {
        let allowed: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        format!(
            "no agent that saw the trial allows the program `{name}` (this one allows: {allowed}); start the agents of \
             the pool with --allow {name}=/path/to/program"
        )
    }
}

fn runnable(path: &Path) -> Result<PathBuf, ProgramError> {
    let not_runnable = |reason: String| ProgramError::NotRunnable { path: path.to_owned(), reason };
    let path_in_full = std::path::absolute(path).map_err(|error| not_runnable(error.to_string()))?;
    let about = std::fs::metadata(&path_in_full).map_err(|error| not_runnable(error.to_string()))?;
    if !about.is_file() {
        return Err(not_runnable("it is no file".to_owned()));
    }
    if about.permissions().mode() & 0o111 == 0 {
        return Err(not_runnable("it is not marked as a program (chmod +x)".to_owned()));
    }
    if let Some(interpreter) = interpreter(&path_in_full).filter(|interpreter| !interpreter.exists()) {
        return Err(not_runnable(format!("its first line names {}, which is not there", interpreter.display())));
    }
    Ok(path_in_full)
}

/// The program that a script's first line names; None where it is no script, or cannot be read.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    std::fs::File::open(path).ok()?.take(FIRST_LINE_MAX).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let name = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_needs_the_program_that_its_first_line_names() {
        let folder = tempfile::tempdir().unwrap();
        let script = |first_line: &str| {
            let path = folder.path().join("script");
            std::fs::write(&path, format!("{first_line}\necho")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            runnable(&path).map_err(|error| error.to_string())
        };
        for fine in ["#!/bin/sh", "#! /bin/sh -e", "# a comment", ""] {
            assert!(script(fine).is_ok(), "{fine}");
        }
        assert!(script("#!/usr/bin/nowhere -u").unwrap_err().contains("names /usr/bin/nowhere, which is not there"));
    }

    #[test]
    fn only_runnable_files_are_allowed_each_by_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let plain = plain.display();
        let read = |pairs: &[String]| Programs::read(pairs);

        let shell = Programs::read(&["shell=/bin/sh".to_owned()]).unwrap();
        assert_eq!(shell.path("shell"), Some(Path::new("/bin/sh")));
        assert_eq!(shell.path("/bin/sh"), None);
        for pair in ["train", "=x", "a/b=/bin/sh", "../a=/bin/sh", "a="] {
            assert!(matches!(read(&[pair.to_owned()]), Err(ProgramError::NoPair(_))), "{pair}");
        }
        for path in [format!("a={plain}"), "a=/nowhere".to_owned(), "a=/bin".to_owned()] {
            assert!(matches!(read(std::slice::from_ref(&path)), Err(ProgramError::NotRunnable { .. })), "{path}");
        }
        let twice = ["a=/bin/sh".to_owned(), "a=/bin/sh".to_owned()];
        assert!(matches!(read(&twice), Err(ProgramError::Twice(_))));
    }
}
