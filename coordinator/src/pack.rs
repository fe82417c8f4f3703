//! A file or a folder as the bytes that are uploaded: a folder becomes a tar archive.
//!
//! The same files make the same bytes, whoever packs them and when, so that they are stored once.

mod model;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub use model::{check_model, model_of};

/// The bytes of a file, or a tar archive of all files below a folder.
///
/// # Errors
/// When something cannot be read, is neither file nor folder, or all of it is larger than `bytes_max`.
pub fn bytes_of(path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let cannot_read = || format!("cannot read {}", path.display());
    if !std::fs::metadata(path).with_context(cannot_read)?.is_dir() {
        check_size(path, &[path.to_owned()], bytes_max)?;
        return std::fs::read(path).with_context(cannot_read);
    }
    let files = files_below(path)?;
    if files.is_empty() {
        bail!("{} holds no files", path.display());
    }
    check_size(path, &files, bytes_max)?;
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let name = file.strip_prefix(path).expect("it was found below the folder");
        let contents = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, contents.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

fn check_size(path: &Path, files: &[PathBuf], bytes_max: u64) -> anyhow::Result<()> {
    let mut bytes = 0;
    for file in files {
        bytes += std::fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    }
    if bytes > bytes_max {
        bail!("{} has {bytes} bytes; at most {bytes_max} are uploaded", path.display());
    }
    Ok(())
}

/// In the order of their names. Links are not followed: one could lead in a circle, or out of the folder.
fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", folder.display()))?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", entry.path().display())),
            };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

    use super::*;

    #[test]
    fn folder_becomes_the_same_archive_wherever_it_lies() {
        let pack = || {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("cat")).unwrap();
            std::fs::write(folder.path().join("cat/2.png"), b"two").unwrap();
            std::fs::write(folder.path().join("cat/1.png"), b"one").unwrap();
            bytes_of(folder.path(), 100).unwrap()
        };
        let packed = pack();

        assert_eq!(packed, pack());
        let mut archive = tar::Archive::new(packed.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [PathBuf::from("cat/1.png"), PathBuf::from("cat/2.png")]);
    }

    #[test]
    fn file_stays_as_it_is_and_too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data.csv");
        std::fs::write(&file, b"a,b").unwrap();

        assert_eq!(bytes_of(&file, 3).unwrap(), b"a,b");
        assert!(bytes_of(&file, 2).is_err());
        assert!(bytes_of(folder.path(), 2).is_err());
        assert!(bytes_of(&folder.path().join("absent"), 2).is_err());
    }
}
