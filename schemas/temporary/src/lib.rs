//! Temporary folders that go even when their program was killed: the next program of its kind removes them.

use std::fs::File;
use std::path::Path;

/// Locked by its program for as long as that lives.
const LOCK: &str = "lock";

/// A folder beside the system's other temporary ones, removed when it is dropped.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: tempfile::TempDir,
    _lock: File,
}

impl TemporaryFolder {
    /// A new folder whose name begins with the prefix, which is that of folders for this use alone.
    ///
    /// # Errors
    /// The disk is full, or there is no folder for temporary files.
    pub fn new(prefix: &str) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        // Nobody finds it by its name before it is locked.
        let unnamed = folder.path().join("new-lock");
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        std::fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    /// Removes what programs left that were killed: folders with the prefix whose lock nobody holds any more.
    pub fn sweep(prefix: &str) {
        let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
        for folder in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
            let lock = File::open(folder.path().join(LOCK));
            if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                // Another program may be at it as well.
                let _removed_already = std::fs::remove_dir_all(folder.path());
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

    use super::*;

    #[test]
    fn what_a_killed_program_left_is_swept_and_what_is_in_use_is_not() {
        let prefix = "regatta-temporary-test-";
        let in_use = TemporaryFolder::new(prefix).unwrap();
        let TemporaryFolder { folder, _lock: lock } = TemporaryFolder::new(prefix).unwrap();
        let left = folder.keep();
        // As the kernel does when a process dies.
        drop(lock);
        let not_ours = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        TemporaryFolder::sweep(prefix);
        assert!(in_use.path().is_dir() && not_ours.path().is_dir());
        assert!(!left.exists());
    }
}
