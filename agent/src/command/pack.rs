//! A checkpoint that a program wrote, as bytes and back: a tar archive of plain files and folders.
//!
//! The same files make the same bytes. What is unpacked lies below its folder, whatever the archive says.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

/// Files and folders of one checkpoint.
const ENTRIES_MAX: usize = 65_536;
/// The rights of files that can be run, and of those that cannot.
const RUNNABLE: u32 = 0o755;
const PLAIN: u32 = 0o644;
/// An archive is a whole number of blocks.
const BLOCK_BYTES: usize = 512;

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the archive cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("{0} is neither a plain file nor a folder")]
    Foreign(PathBuf),
    #[error("{0} would lie outside of its folder")]
    Outside(PathBuf),
    #[error("there are more than {bytes_max} bytes")]
    TooLarge { bytes_max: u64 },
    #[error("there are more than {ENTRIES_MAX} files and folders")]
    TooMany,
}

impl PackError {
    /// Whether it is for lack of room on the disk: no fault of what was to be packed or unpacked.
    pub fn is_full_disk(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

/// Whether a disk, or somebody's share of it, has no room left.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> PackError {
    move |source| PackError::Io { path: path.to_owned(), source }
}

/// Everything below a folder. Behind the archive's end, where no reader looks, it says whose it is: equal files of two
/// attempts are different objects in a store that names them by their content.
///
/// # Errors
/// It holds a link or a device, too much, or something cannot be read.
pub fn pack(folder: &Path, owner: &str, bytes_max: u64) -> Result<Vec<u8>, PackError> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut bytes_left = bytes_max;
    for (path, is_folder) in everything_below(folder)? {
        let name = path.strip_prefix(folder).expect("it was found below the folder");
        let mut header = tar::Header::new_gnu();
        if is_folder {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            header.set_mode(RUNNABLE);
            archive.append_data(&mut header, name, std::io::empty()).map_err(at(&path))?;
            continue;
        }
        let mut contents = Vec::new();
        let file = File::open(&path).map_err(at(&path))?;
        let is_runnable = file.metadata().map_err(at(&path))?.permissions().mode() & 0o100 != 0;
        file.take(bytes_left.saturating_add(1)).read_to_end(&mut contents).map_err(at(&path))?;
        bytes_left = bytes_left.checked_sub(contents.len() as u64).ok_or(PackError::TooLarge { bytes_max })?;
        header.set_size(contents.len() as u64);
        header.set_mode(if is_runnable { RUNNABLE } else { PLAIN });
        archive.append_data(&mut header, name, contents.as_slice()).map_err(at(&path))?;
    }
    let mut bytes = archive.into_inner().map_err(PackError::Unreadable)?;
    bytes.extend_from_slice(owner.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    Ok(bytes)
}

/// Files and folders, by their names; a folder comes before what is in it.
fn everything_below(folder: &Path) -> Result<Vec<(PathBuf, bool)>, PackError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(at(&folder))? {
            let entry = entry.map_err(at(&folder))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(at(&folder))?);
            if !kind.is_dir() && !kind.is_file() {
                return Err(PackError::Foreign(path));
            }
            if kind.is_dir() {
                folders.push(path.clone());
            }
            found.push((path, kind.is_dir()));
            if found.len() > ENTRIES_MAX {
                return Err(PackError::TooMany);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Writes an archive's files below an empty folder.
///
/// # Errors
/// It is no archive of plain files and folders below the folder, holds too much, or cannot be written.
pub fn unpack(archive: &[u8], folder: &Path, bytes_max: u64) -> Result<(), PackError> {
    let mut bytes_left = bytes_max;
    let mut archive = tar::Archive::new(archive);
    for (count, entry) in archive.entries().map_err(PackError::Unreadable)?.enumerate() {
        let mut entry = entry.map_err(PackError::Unreadable)?;
        if count >= ENTRIES_MAX {
            return Err(PackError::TooMany);
        }
        let name = entry.path().map_err(PackError::Unreadable)?.into_owned();
        if name.as_os_str().is_empty() || !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(PackError::Outside(name));
        }
        // Nothing below the folder is a link, since none is ever made there.
        let path = folder.join(&name);
        match entry.header().entry_type() {
            EntryType::Directory => std::fs::create_dir_all(&path).map_err(at(&path))?,
            EntryType::Regular => {
                bytes_left = bytes_left.checked_sub(entry.size()).ok_or(PackError::TooLarge { bytes_max })?;
                let mode = entry.header().mode().map_err(PackError::Unreadable)?;
                let mode = if mode & 0o100 != 0 { RUNNABLE } else { PLAIN };
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(at(parent))?;
                }
                let mut options = OpenOptions::new();
                let mut file = options.write(true).create_new(true).mode(mode).open(&path).map_err(at(&path))?;
                std::io::copy(&mut entry, &mut file).map_err(at(&path))?;
            }
            _ => return Err(PackError::Foreign(name)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
        folder
    }

    /// An archive of one entry whose name and kind nobody checked.
    fn archive(name: &str, kind: EntryType, link: Option<&str>, contents: &[u8]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, contents).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_was_packed_is_unpacked_and_packed_alike_again() {
        let long = format!("sub/{}", "n".repeat(180));
        let files = [("weights.bin", b"1234".as_slice()), ("sub/a/b", b""), (long.as_str(), b"long")];
        let folder = folder_of(&files);
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        std::fs::set_permissions(folder.path().join("weights.bin"), PermissionsExt::from_mode(0o700)).unwrap();
        let packed = pack(folder.path(), "s.0.1.a", 100).unwrap();

        let other = tempfile::tempdir().unwrap();
        unpack(&packed, other.path(), 100).unwrap();
        for (name, contents) in files {
            assert_eq!(std::fs::read(other.path().join(name)).unwrap(), contents, "{name}");
        }
        assert!(other.path().join("empty").is_dir());
        assert_eq!(pack(other.path(), "s.0.1.a", 100).unwrap(), packed);
        assert_ne!(pack(other.path(), "s.1.1.a", 100).unwrap(), packed, "whose it is makes a difference");
    }

    #[test]
    fn too_much_is_refused_either_way() {
        let folder = folder_of(&[("a", b"12"), ("b", b"34")]);
        assert!(matches!(pack(folder.path(), "s.0.1.a", 3), Err(PackError::TooLarge { .. })));
        let packed = pack(folder.path(), "s.0.1.a", 4).unwrap();
        assert!(matches!(unpack(&packed, tempfile::tempdir().unwrap().path(), 3), Err(PackError::TooLarge { .. })));
    }

    #[test]
    fn a_link_is_not_packed() {
        let folder = folder_of(&[("a", b"12")]);
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        assert!(matches!(pack(folder.path(), "s.0.1.a", 100), Err(PackError::Foreign(_))));
    }

    #[test]
    fn what_leads_out_of_the_folder_is_refused() {
        for name in ["../a", "a/../../b", "/a", "..", "."] {
            let refused =
                unpack(&archive(name, EntryType::Regular, None, b"x"), tempfile::tempdir().unwrap().path(), 9);
            assert!(matches!(refused, Err(PackError::Outside(_))), "{name}: {refused:?}");
        }
        let kinds = [EntryType::Symlink, EntryType::Link, EntryType::Fifo, EntryType::Char, EntryType::GNUSparse];
        for kind in kinds {
            let outside = tempfile::tempdir().unwrap();
            let packed = archive("a", kind, Some(outside.path().to_str().unwrap()), b"");
            let refused = unpack(&packed, tempfile::tempdir().unwrap().path(), 9);
            assert!(matches!(refused, Err(PackError::Foreign(_) | PackError::Unreadable(_))), "{kind:?}: {refused:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_archive_and_names_given_twice_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(unpack(b"no archive at all", folder.path(), 9).is_err());
        let once = archive("a", EntryType::Regular, None, b"x");
        let cut = &once[..513];
        assert!(unpack(cut, folder.path(), 9).is_err());
        let folder = tempfile::tempdir().unwrap();
        unpack(&once, folder.path(), 9).unwrap();
        assert!(unpack(&once, folder.path(), 9).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the bytes are, nothing is written beside the folder, and nothing panics.
        #[test]
        fn any_archive_is_unpacked_below_its_folder_or_refused(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..24),
            cut in any::<prop::sample::Index>(),
            is_cut: bool,
        ) {
            let folder = folder_of(&[("a", b"12"), ("sub/b", b"34"), ("sub/c", &[7; 1_000])]);
            let mut bytes = pack(folder.path(), "s.0.1.a", 10_000).unwrap();
            for (index, byte) in flips {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            if is_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let around = tempfile::tempdir().unwrap();
            let into = around.path().join("into");
            std::fs::create_dir(&into).unwrap();
            drop(unpack(&bytes, &into, 10_000));
            let beside: Vec<_> = std::fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            prop_assert_eq!(beside, [into.clone()]);
            prop_assert!(everything_below(&into).is_ok(), "a link or a device was made");
        }
    }
}
