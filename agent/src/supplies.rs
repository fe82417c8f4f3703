//! What a trial needs before it can train: its data set and its checkpoint, fetched, checked and parsed.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regatta_broker::{BrokerError, Objects};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::recipe::Data;
use tokio::sync::OnceCell;

use crate::data;
use crate::lane::Assignment;
use crate::training::Dataset;

/// Parsed data sets kept in memory.
const DATASETS_KEPT: usize = 4;

/// Why a trial cannot be supplied.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct SupplyError {
    pub cause: FailCause,
    pub detail: String,
}

impl SupplyError {
    /// A server that is away is no fault of the object's: another try can mend it.
    fn of(error: &BrokerError, cause: FailCause) -> Self {
        let cause = match error {
            BrokerError::Away { .. } => FailCause::Device,
            BrokerError::NoObject { .. } | BrokerError::Damaged { .. } | BrokerError::Setting(_) => cause,
        };
        Self { cause, detail: error.to_string() }
    }

    fn data(detail: impl Into<String>) -> Self {
        Self { cause: FailCause::Data, detail: detail.into() }
    }
}

/// Where data sets and checkpoints come from. Lanes of one agent share what was parsed.
#[derive(Clone)]
pub struct Supplies {
    data: Objects,
    checkpoints: Objects,
    /// Files named by path may lie below this folder, and nowhere else.
    data_folder: Option<PathBuf>,
    parsed: Arc<Mutex<VecDeque<Parsed>>>,
}

type Parsed = (Data, Arc<OnceCell<Arc<Dataset>>>);

impl Supplies {
    pub fn new(data: Objects, checkpoints: Objects, data_folder: Option<PathBuf>) -> Self {
        Self { data, checkpoints, data_folder, parsed: Arc::default() }
    }

    /// All that the offer's training needs.
    ///
    /// # Errors
    /// The cause that the trial fails with.
    pub async fn fetch(&self, offer: Box<Offer>) -> Result<Assignment, SupplyError> {
        let data = self.dataset(&offer.recipe.data).await?;
        let resume = match &offer.resume {
            None => None,
            Some(checkpoint) => {
                let bytes = self
                    .checkpoints
                    .get(&checkpoint.object, LIMITS.checkpoint_bytes_max)
                    .await
                    .map_err(|error| SupplyError::of(&error, FailCause::Checkpoint))?;
                Some((bytes, Duration::from_millis(checkpoint.elapsed_ms)))
            }
        };
        Ok(Assignment { offer, data, resume })
    }

    async fn dataset(&self, data: &Data) -> Result<Arc<Dataset>, SupplyError> {
        let cell = self.cell(data);
        let parsed = cell
            .get_or_try_init(|| async {
                let bytes = self.bytes(data).await?;
                let data = data.clone();
                tokio::task::spawn_blocking(move || data::read(&data, &bytes))
                    .await
                    .map_err(|error| SupplyError::data(format!("reading the data set broke off: {error}")))?
                    .map(Arc::new)
                    .map_err(|error| SupplyError::data(error.to_string()))
            })
            .await?;
        Ok(parsed.clone())
    }

    /// The place where this data set is, or is being, parsed; a set that nobody asked for lately makes room.
    fn cell(&self, data: &Data) -> Arc<OnceCell<Arc<Dataset>>> {
        let mut parsed = self.parsed.lock().expect("no holder of this lock panics");
        if let Some((_, cell)) = parsed.iter().find(|(known, _)| known == data) {
            return cell.clone();
        }
        if parsed.len() >= DATASETS_KEPT {
            parsed.pop_front();
        }
        let cell = Arc::new(OnceCell::new());
        parsed.push_back((data.clone(), cell.clone()));
        cell
    }

    async fn bytes(&self, data: &Data) -> Result<Vec<u8>, SupplyError> {
        match (&data.object, &data.file) {
            (Some(object), _) => {
                let bytes = self.data.get(&object.sha256, LIMITS.data_bytes_max).await;
                bytes.map_err(|error| SupplyError::of(&error, FailCause::Data))
            }
            (None, Some(file)) => self.file(file).await,
            (None, None) => Err(SupplyError::data("the recipe names neither a file nor an object for its data")),
        }
    }

    async fn file(&self, file: &str) -> Result<Vec<u8>, SupplyError> {
        let Some(folder) = &self.data_folder else {
            return Err(SupplyError::data(format!(
                "the recipe names the file `{file}`, and this agent was given no --data-folder; let `regatta run` upload it"
            )));
        };
        let path = below(folder, file)
            .ok_or_else(|| SupplyError::data(format!("`{file}` does not lie in the agent's data folder")))?;
        let length = tokio::fs::metadata(&path).await.map(|file| file.len());
        match length {
            Ok(bytes) if bytes > LIMITS.data_bytes_max => Err(SupplyError::data(format!(
                "`{file}` has {bytes} bytes; at most {} are read",
                LIMITS.data_bytes_max
            ))),
            Ok(_) => tokio::fs::read(&path)
                .await
                .map_err(|error| SupplyError::data(format!("cannot read `{file}`: {error}"))),
            Err(error) => Err(SupplyError::data(format!("cannot read `{file}`: {error}"))),
        }
    }
}

/// The file's path, if it truly lies below the folder, links followed.
fn below(folder: &Path, file: &str) -> Option<PathBuf> {
    let relative = Path::new(file);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let folder = folder.canonicalize().ok()?;
    let path = folder.join(relative);
    match path.canonicalize() {
        Ok(path) => path.starts_with(&folder).then_some(path),
        // It does not exist: reading it gives the better error.
        Err(_) => Some(path),
    }
}
