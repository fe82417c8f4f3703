//! Where a program works: a temporary folder of its own, gone with the trial, and the environment that tells it of it.

use std::ffi::OsString;
use std::fs::create_dir_all;
use std::io::Write;
use std::path::{Path, PathBuf};

use regatta_schemas::offer::Offer;
use regatta_schemas::params::Params;
use regatta_schemas::recipe::CommandRecipe;
use regatta_temporary::TemporaryFolder;

use super::CommandSettings;
use super::pack::is_full;

/// Where programs are found that the allowed one runs, when the agent itself has no PATH.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What folders of trials are called, beside the system's other temporary ones.
const PREFIX: &str = "regatta-command-";
/// A disk that does not take so much is full.
const PROBE_BYTES: usize = 64 * 1024;

/// The folder of one trial.
#[derive(Debug)]
pub struct Workplace {
    folder: TemporaryFolder,
}

impl Workplace {
    /// # Errors
    /// The disk is full, or there is no folder for temporary files.
    pub fn new() -> std::io::Result<Self> {
        let workplace = Self { folder: TemporaryFolder::new(PREFIX)? };
        for folder in [workplace.checkpoints(), workplace.files(), workplace.resume()] {
            create_dir_all(folder)?;
        }
        Ok(workplace)
    }

    /// Removes what agents left that were killed.
    pub fn sweep() {
        TemporaryFolder::sweep(PREFIX);
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The files that the recipe names lie here.
    pub fn files(&self) -> PathBuf {
        self.path().join("files")
    }

    pub(super) fn resume(&self) -> PathBuf {
        self.path().join("resume")
    }

    pub(super) fn checkpoint(&self, name: &str) -> PathBuf {
        self.checkpoints().join(name)
    }

    /// A folder, and no link to one.
    pub(super) fn has_checkpoint(&self, name: &str) -> bool {
        self.checkpoint(name).symlink_metadata().is_ok_and(|about| about.is_dir())
    }

    pub(super) fn remove_checkpoint(&self, name: &str) {
        // What is left, or still being written, goes with the whole folder.
        let _left = std::fs::remove_dir_all(self.checkpoint(name));
    }

    /// # Errors
    /// The disk is full.
    pub(super) fn write_params(&self, params: &Params) -> std::io::Result<()> {
        let params: serde_json::Map<_, _> =
            params.iter().map(|(name, value)| (name.clone(), value.to_json())).collect();
        std::fs::write(self.params(), serde_json::Value::Object(params).to_string())
    }

    /// Whether its disk takes nothing more.
    pub(super) fn is_full(&self) -> bool {
        let probe = tempfile::tempfile_in(self.path()).and_then(|mut probe| probe.write_all(&[0; PROBE_BYTES]));
        probe.is_err_and(|error| is_full(&error))
    }

    /// All that a program is told.
    pub(super) fn environment(
        &self,
        offer: &Offer,
        recipe: &CommandRecipe,
        settings: &CommandSettings,
        resumes: bool,
    ) -> Vec<(&'static str, OsString)> {
        let text = |value: &dyn std::fmt::Display| OsString::from(value.to_string());
        let mut environment = vec![
            ("PATH", std::env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into())),
            ("HOME", self.path().into()),
            ("TMPDIR", self.path().into()),
            ("LANG", std::env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into())),
            ("CUDA_VISIBLE_DEVICES", settings.cuda_device.map_or_else(OsString::new, |device| text(&device))),
            ("OMP_NUM_THREADS", text(&settings.threads)),
            ("REGATTA_STUDY", text(&offer.study)),
            ("REGATTA_TRIAL", text(&offer.trial)),
            ("REGATTA_ATTEMPT", text(&offer.attempt)),
            ("REGATTA_SEED", text(&offer.seed)),
            ("REGATTA_RESOURCE", text(&offer.resource)),
            ("REGATTA_UNTIL", text(&offer.until.unwrap_or(offer.resource))),
            ("REGATTA_PARAMS", self.params().into()),
            ("REGATTA_FILES", self.files().into()),
            ("REGATTA_CHECKPOINTS", self.checkpoints().into()),
            ("REGATTA_CHECKPOINT_EVERY_S", text(&recipe.checkpoint.every_s)),
        ];
        if resumes {
            environment.push(("REGATTA_RESUME", self.resume().into()));
        }
        environment
    }

    fn checkpoints(&self) -> PathBuf {
        self.path().join("checkpoints")
    }

    fn params(&self) -> PathBuf {
        self.path().join("params.json")
    }
}
