//! A disk of a few MiB that a test can fill, which only the programs that are started on it see.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Process;

/// A file system in memory, at the place of a folder. It lasts as long as this does.
pub struct SmallDisk {
    /// Keeps the mount, in a namespace of its own.
    holder: Process,
    folder: PathBuf,
}

impl SmallDisk {
    /// None, with a word about it, where this machine does not let its users mount anything.
    pub async fn mount(folder: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let script = r#"mount -t tmpfs -o size="$1"m tmpfs "$2" && echo mounted && exec sleep infinity"#;
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh", &mebibytes.to_string()]).arg(folder);
        let mut holder = Process::start(command, &folder.with_extension("mount.log"));
        loop {
            if holder.log().contains("mounted") {
                return Some(Self { holder, folder: folder.to_owned() });
            }
            if !holder.is_running() {
                eprintln!("skipped: no small disk can be mounted here: {}", holder.log().trim());
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A program that sees the disk.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.holder.id().to_string();
        command.args(["--preserve-credentials", "--user", "--mount", "--target", &target, "--"]).arg(program);
        command
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves no room on it.
    ///
    /// # Panics
    /// When the disk cannot be written for another reason.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(self.filler()).expect("the disk can be reached");
        // By ever smaller pieces, so that not a block is left.
        for piece in [64 * 1024, 4 * 1024, 1] {
            loop {
                match filler.write_all(&vec![0; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the disk cannot be filled: {error}"),
                }
            }
        }
    }

    /// Makes room again.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the disk was filled");
    }

    fn filler(&self) -> PathBuf {
        let path = self.folder.strip_prefix("/").expect("the folder's path is whole");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(path).join("filler")
    }
}
