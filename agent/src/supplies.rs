//! What a trial needs before it can train: its data set, its model's file and its checkpoint, fetched and checked.

use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regatta_broker::{BrokerError, Objects};
use regatta_schemas::check::is_name;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::offer::Offer;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::recipe::{CommandFile, CommandRecipe, Data, DataObject, Model, Onnx, Recipe, Training};
use tokio::sync::OnceCell;

use crate::command::Workplace;
use crate::data::{self, Absence, DataError, Store};
use crate::lane::{Assignment, Material};
use crate::training::Source;

/// Parsed data sets, and model files, kept in memory.
const KEPT: usize = 4;

/// Why a trial cannot be supplied.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct SupplyError {
    pub cause: FailCause,
    pub detail: String,
}

impl SupplyError {
    /// A server that is away, or a disk that is full, is no fault of the object's: another try can mend it.
    fn of(error: &BrokerError, cause: FailCause) -> Self {
        let cause = match error {
            BrokerError::Away { .. }
            | BrokerError::TailLost { .. }
            | BrokerError::NoRoom { .. }
            | BrokerError::Unwritable(_) => FailCause::Device,
            BrokerError::NoObject { .. } | BrokerError::Damaged { .. } | BrokerError::Setting(_) => cause,
        };
        Self { cause, detail: error.to_string() }
    }

    fn data(detail: impl Into<String>) -> Self {
        Self { cause: FailCause::Data, detail: detail.into() }
    }
}

/// Where data sets, models and checkpoints come from. Lanes of one agent share what was parsed.
#[derive(Clone)]
pub struct Supplies {
    data: Objects,
    models: Objects,
    checkpoints: Objects,
    /// Files named by path may lie below this folder, and nowhere else.
    data_folder: Option<PathBuf>,
    datasets: Arc<Shelf<Data, Source>>,
    model_files: Arc<Shelf<ModelPlace, Vec<u8>>>,
}

/// The file and the object that a recipe names for its model.
type ModelPlace = (Option<String>, Option<DataObject>);

/// What was fetched lately, each once, however many lanes ask for it at the same time.
struct Shelf<K, V>(Mutex<VecDeque<(K, Place<V>)>>);

type Place<V> = Arc<OnceCell<Arc<V>>>;

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + PartialEq, V> Shelf<K, V> {
    /// Where this thing is, or is being, fetched; one that nobody asked for lately makes room.
    fn place(&self, key: &K) -> Place<V> {
        let mut kept = self.0.lock().expect("no holder of this lock panics");
        if let Some((_, place)) = kept.iter().find(|(known, _)| known == key) {
            return place.clone();
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        let place = Place::default();
        kept.push_back((key.clone(), place.clone()));
        place
    }
}

impl Supplies {
    pub fn new(data: Objects, models: Objects, checkpoints: Objects, data_folder: Option<PathBuf>) -> Self {
        Self { data, models, checkpoints, data_folder, datasets: Arc::default(), model_files: Arc::default() }
    }

    /// All that the offer's training needs.
    ///
    /// # Errors
    /// The cause that the trial fails with.
    pub async fn fetch(&self, offer: Box<Offer>) -> Result<Assignment, SupplyError> {
        let material = match &offer.recipe {
            Recipe::Training(recipe) => self.training(recipe).await?,
            Recipe::Command(recipe) => Material::Command(self.workplace(recipe).await?),
        };
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
        Ok(Assignment { offer, material, resume })
    }

    async fn training(&self, recipe: &Training) -> Result<Material, SupplyError> {
        let ignored = recipe.loss.settings().ignore_index;
        let data = self.dataset(&Data { ignored, ..recipe.data.clone() }).await?;
        let data = ablated(data, recipe).await?;
        let model = match &recipe.model {
            Model::Onnx(onnx) => Some(self.model(onnx).await?),
            Model::Mlp(_) | Model::Cnn(_) | Model::Resnet(_) | Model::Transformer(_) | Model::Tabular(_) => None,
        };
        Ok(Material::Training { data, model })
    }

    /// A program's folder with the recipe's files.
    async fn workplace(&self, recipe: &CommandRecipe) -> Result<Workplace, SupplyError> {
        let workplace = Workplace::new().map_err(unwritable)?;
        for (name, place) in &recipe.command.files {
            // The recipe was checked by the coordinator; an offer that somebody else published was not.
            if !is_name(name) {
                return Err(SupplyError::data(format!("`{name}` is no name for a file")));
            }
            self.place_file(place, &workplace.files().join(name)).await?;
        }
        Ok(workplace)
    }

    async fn place_file(&self, place: &CommandFile, path: &Path) -> Result<(), SupplyError> {
        match (&place.object, &place.file) {
            (Some(object), _) => {
                let mut file = tokio::fs::File::create_new(path).await.map_err(unwritable)?;
                let copied = self.data.copy(&object.sha256, LIMITS.data_bytes_max, &mut file).await;
                copied.map_err(|error| SupplyError::of(&error, FailCause::Data))
            }
            (None, Some(file)) => {
                let source = self.path(file, LIMITS.data_bytes_max).await?;
                tokio::fs::symlink(source, path).await.map_err(unwritable)
            }
            (None, None) => Err(nowhere("file")),
        }
    }

    async fn dataset(&self, data: &Data) -> Result<Source, SupplyError> {
        let place = self.datasets.place(data);
        let opened = place
            .get_or_try_init(|| async {
                let store =
                    if data.stream { self.on_disk(data).await? } else { Store::Memory(self.bytes(data).await?) };
                let data = data.clone();
                tokio::task::spawn_blocking(move || open(&data, store))
                    .await
                    .map_err(|error| SupplyError::data(format!("reading the data set broke off: {error}")))?
                    .map(Arc::new)
                    .map_err(|error| SupplyError::data(error.to_string()))
            })
            .await?;
        Ok(Source::clone(opened))
    }

    async fn model(&self, onnx: &Onnx) -> Result<Arc<Vec<u8>>, SupplyError> {
        let place = self.model_files.place(&(onnx.file.clone(), onnx.object.clone()));
        let bytes = place
            .get_or_try_init(|| async {
                let bytes = match (&onnx.object, &onnx.file) {
                    (Some(object), _) => {
                        let bytes = self.models.get(&object.sha256, LIMITS.model_bytes_max).await;
                        bytes.map_err(|error| SupplyError::of(&error, FailCause::Configuration))?
                    }
                    (None, Some(file)) => self.file(file, LIMITS.model_bytes_max).await?,
                    (None, None) => return Err(nowhere("model")),
                };
                Ok(Arc::new(bytes))
            })
            .await?;
        Ok(bytes.clone())
    }

    async fn bytes(&self, data: &Data) -> Result<Vec<u8>, SupplyError> {
        match (&data.object, &data.file) {
            (Some(object), _) => {
                let bytes = self.data.get(&object.sha256, LIMITS.data_bytes_max).await;
                bytes.map_err(|error| SupplyError::of(&error, FailCause::Data))
            }
            (None, Some(file)) => self.file(file, LIMITS.data_bytes_max).await,
            (None, None) => Err(nowhere("data")),
        }
    }

    /// The data set as a file on the disk; an object becomes one that goes when nobody reads it any more.
    async fn on_disk(&self, data: &Data) -> Result<Store, SupplyError> {
        let file = match (&data.object, &data.file) {
            (Some(object), _) => {
                let file = tempfile::tempfile().map_err(unwritable)?;
                let mut writer = tokio::fs::File::from_std(file.try_clone().map_err(unwritable)?);
                let copied = self.data.copy(&object.sha256, LIMITS.data_bytes_max, &mut writer).await;
                copied.map_err(|error| SupplyError::of(&error, FailCause::Data))?;
                file
            }
            (None, Some(file)) => {
                let path = self.path(file, LIMITS.data_bytes_max).await?;
                std::fs::File::open(path)
                    .map_err(|error| SupplyError::data(format!("cannot read `{file}`: {error}")))?
            }
            (None, None) => return Err(nowhere("data")),
        };
        Store::disk(file).map_err(|error| SupplyError::data(error.to_string()))
    }

    async fn file(&self, file: &str, bytes_max: u64) -> Result<Vec<u8>, SupplyError> {
        let path = self.path(file, bytes_max).await?;
        tokio::fs::read(&path).await.map_err(|error| SupplyError::data(format!("cannot read `{file}`: {error}")))
    }

    /// Where a file of at most `bytes_max` lies.
    async fn path(&self, file: &str, bytes_max: u64) -> Result<PathBuf, SupplyError> {
        let Some(folder) = &self.data_folder else {
            return Err(SupplyError::data(format!(
                "the recipe names the file `{file}`, and this agent was given no --data-folder; let `regatta run` upload it"
            )));
        };
        let path = below(folder, file)
            .ok_or_else(|| SupplyError::data(format!("`{file}` does not lie in the agent's data folder")))?;
        let length = tokio::fs::metadata(&path).await.map(|file| file.len());
        match length {
            Ok(bytes) if bytes > bytes_max => {
                Err(SupplyError::data(format!("`{file}` has {bytes} bytes; at most {bytes_max} are read")))
            }
            Ok(_) => Ok(path),
            Err(error) => Err(SupplyError::data(format!("cannot read `{file}`: {error}"))),
        }
    }
}

/// The data without the features that the recipe leaves out.
async fn ablated(data: Source, recipe: &Training) -> Result<Source, SupplyError> {
    let features = recipe.without.features.clone();
    if features.is_empty() {
        return Ok(data);
    }
    let Source::Resident(data) = data else { return Err(SupplyError::data(DataError::StreamedFeature.to_string())) };
    let takes_any_width = matches!(recipe.model, Model::Mlp(_) | Model::Tabular(_)) && recipe.augment.is_empty();
    let absence = if takes_any_width { Absence::Gone } else { Absence::Mean };
    tokio::task::spawn_blocking(move || data::without(&data, &features, absence))
        .await
        .map_err(|error| SupplyError::data(format!("leaving out features broke off: {error}")))?
        .map(|data| Source::Resident(Arc::new(data)))
        .map_err(|error| SupplyError::data(error.to_string()))
}

fn open(data: &Data, store: Store) -> Result<Source, DataError> {
    if data.stream {
        Ok(Source::Streamed(Arc::new(data::stream(data, Arc::new(store))?)))
    } else {
        Ok(Source::Resident(Arc::new(data::read(data, &store)?)))
    }
}

fn unwritable(error: std::io::Error) -> SupplyError {
    SupplyError { cause: FailCause::Device, detail: format!("cannot write to this machine's disk: {error}") }
}

fn nowhere(what: &str) -> SupplyError {
    SupplyError::data(format!("the recipe names neither a file nor an object for its {what}"))
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
