//! Which files a tar archive holds, and where.

use std::io;

use super::store::Store;

/// A file in an archive.
pub struct File {
    pub name: String,
    pub start: u64,
    pub bytes: u64,
}

/// In the order of the archive.
///
/// # Errors
/// When it is no tar archive.
pub fn files(store: &Store) -> io::Result<Vec<File>> {
    let mut archive = tar::Archive::new(store.whole());
    let mut files = Vec::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entry.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            files.push(File { name, start: entry.raw_file_position(), bytes: entry.size() });
        }
    }
    Ok(files)
}
