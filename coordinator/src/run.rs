//! `regatta run`: reads a study file, uploads its data and its model, starts the study, follows it to its end.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use regatta_broker::Link;
use regatta_schemas::StudyId;
use regatta_schemas::api::{Done, Endpoint, Fault, RejectionCode, StudyCreate, StudyList, StudyRequest, StudyStarted};
use regatta_schemas::check;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::reasons::StudyEnd;
use regatta_schemas::study::StudyFile;
use regatta_search::samplers::grid_of;
use regatta_search::study::CURVE_MIN;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::ask::ask;
use crate::cli;
use crate::earlier;
use crate::follow::{Following, View};
use crate::history::History;
use crate::local::{LocalCluster, remains};
use crate::nats::{AskError, Client, Wire};
use crate::output::print_line;
use crate::pack;
use crate::show;

/// How long a study waits for a coordinator on a fleet, and on a cluster of its own, which says itself what it died of.
const COORDINATOR_WITHIN: Duration = Duration::from_secs(30);
const OWN_COORDINATOR_WITHIN: Duration = Duration::from_secs(300);
/// How long for one that reads its log.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A study file that is wrong; its text lists every fault.
#[derive(Debug, thiserror::Error)]
#[error("{file} has {} fault(s):\n{}", .faults.len(), show::faults(.faults))]
pub struct FaultyFile {
    file: String,
    faults: Vec<Fault>,
}

impl FaultyFile {
    pub fn new(path: &Path, faults: Vec<Fault>) -> Self {
        Self { file: path.display().to_string(), faults }
    }
}

/// What a study file says, as it was read and perhaps changed.
///
/// # Errors
/// [`FaultyFile`] with all faults.
pub fn checked(path: &Path, study: &Value) -> Result<StudyFile, FaultyFile> {
    check::study_file(study).map_err(|faults| FaultyFile::new(path, faults))
}

/// Reads a study file that is checked later.
///
/// # Errors
/// [`FaultyFile`] where it is no YAML, or why the file cannot be read.
pub fn read_unchecked(path: &Path) -> anyhow::Result<Value> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the study file {}", path.display()))?;
    Ok(check::study_text(&text).map_err(|faults| FaultyFile::new(path, faults))?)
}

/// What may not be meant in a file that is right.
pub fn notes(file: &StudyFile) -> Vec<String> {
    let (trials, resource) = (file.budget.trials, file.budget.resource);
    let count = grid_of(file).map(|grid| grid.count());
    let combinations = match count {
        Some(Some(count)) if count > u64::from(trials) => Some(count.to_string()),
        Some(None) => Some(format!("more than {}", LIMITS.trials_max)),
        Some(Some(_)) | None => None,
    };
    let grid = combinations.map(|count| {
        format!("the grid has {count} combinations, the budget {trials} trials: the last ones are not tried")
    });
    let measures_no_noise =
        file.budget.converged.is_some_and(|converged| converged.min_delta.is_none()) && resource < CURVE_MIN;
    let noise = measures_no_noise.then(|| {
        format!(
            "curves of {resource} epochs are too short to tell the metric's noise: for `budget.converged`, any improvement \
             is one; `min_delta` says by how much a value must be better"
        )
    });
    grid.into_iter().chain(noise).collect()
}

pub fn tell_notes(file: &StudyFile) {
    for note in notes(file) {
        eprintln!("note: {note}");
    }
}

/// A study that is to be run: what its file says and the command line changes, found right.
pub struct Asked {
    study: Value,
    file: StudyFile,
}

impl Asked {
    /// Reads the file and checks it, before anything is started or reached.
    ///
    /// # Errors
    /// [`FaultyFile`] with all faults, or which file cannot be read.
    pub fn read(run: &cli::Run) -> anyhow::Result<Self> {
        let mut study = read_unchecked(&run.file)?;
        // What has another shape than that is for the check to tell.
        let mut set = |pointer: &str, key: &str, value: Value| {
            if let Some(fields) = study.pointer_mut(pointer).and_then(Value::as_object_mut) {
                fields.insert(key.to_owned(), value);
            }
        };
        if let Some(seed) = run.seed {
            set("", "seed", seed.into());
        }
        for (key, text) in [("sampler", &run.sampler), ("stopper", &run.stopper)] {
            if let Some(text) = text {
                set("", key, check::study_text(text).map_err(|faults| FaultyFile::new(&run.file, faults))?);
            }
        }
        if let Some(repeats) = run.repeats {
            set("/ablation", "repeats", repeats.into());
        }
        let file = checked(&run.file, &study)?;
        tell_notes(&file);
        check_files(&run.file, &study)?;
        Ok(Self { study, file })
    }
}

/// Runs a study on a fleet that is there. None where it goes on without us.
///
/// # Errors
/// When it cannot be started or followed, every trial failed, or none reported the objective.
pub async fn run(link: &Link, run: &cli::Run, asked: Asked) -> anyhow::Result<Option<History>> {
    let study = start_study(link, run, asked).await?;
    if run.detach {
        print_line(study.as_str())?;
        return Ok(None);
    }
    follow_and_ask(&mut Following::new(link, study, view(run.json)), Afterwards::GoesOn).await
}

/// Runs a study on a cluster of its own, to its end.
///
/// # Errors
/// When a part of the cluster is missing or dies, which ends the rest of it at once, every trial failed, or none reported the
/// objective.
pub async fn run_local(run: &cli::Run, asked: Asked) -> anyhow::Result<Option<History>> {
    check_program(&asked.study, &run.place.allow)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut cluster = LocalCluster::start(&run.place).await?;
    let link = cluster.link.clone();
    let mut following = None;
    let (outcome, is_whole) = tokio::select! {
        outcome = async {
            let study = start_study(&link, run, asked).await?;
            let following = following.insert(Following::new(&link, study, view(run.json)));
            follow_and_ask(following, Afterwards::EndsWithUs).await
        } => (outcome, true),
        error = cluster.broken() => (Err(error), false),
        _ = terminate.recv() => (Err(anyhow::anyhow!("ended by a signal before the study was")), true),
    };
    let shown = match (&outcome, &following) {
        (Err(_), Some(following)) => following.close_early(),
        _ => Ok(()),
    };
    let stopped = if is_whole {
        cluster.stop().await
    } else {
        cluster.abandon().await;
        Ok(())
    };
    if !run.json {
        eprintln!("{}", remains(&run.place));
    }
    // Whoever no longer reads still has the cluster stopped in order.
    shown?;
    match (outcome, stopped) {
        // What the cluster says of its own end tells more than that it ended.
        (Err(error), Err(cause)) => Err(cause.context(error.to_string())),
        (outcome, stopped) => stopped.and(outcome),
    }
}

/// Nobody but us can allow the program of a study that we train ourselves.
fn check_program(study: &Value, allowed: &[String]) -> anyhow::Result<()> {
    let program = study.pointer("/recipe/command/program").and_then(Value::as_str);
    let is_named = |program: &str| allowed.iter().any(|pair| pair.split('=').next() == Some(program));
    match program {
        Some(program) if !program.starts_with('$') && !is_named(program) => {
            bail!("the recipe runs the program `{program}`: say which one that is, by --allow {program}=PATH")
        }
        Some(_) | None => Ok(()),
    }
}

fn view(json: bool) -> View {
    if json { View::Json } else { View::Screen }
}

async fn start_study(link: &Link, run: &cli::Run, asked: Asked) -> anyhow::Result<StudyId> {
    let wire = Wire::new(link.clone());
    let Asked { mut study, file } = asked;
    if !run.earlier.is_empty() {
        earlier::add(link, &run.earlier, &file, &mut study).await?;
    }
    let client = wire.client();
    wait_for_coordinator(&client, &run.place).await?;
    upload_files(&wire, &run.file, &mut study).await?;
    let started: StudyStarted = ask(&client, Endpoint::StudyCreate, &StudyCreate { study, by: who() }).await?;
    Ok(started.study)
}

/// Waits for a coordinator; where it is not our own, which is just starting, it says so.
async fn wait_for_coordinator(client: &Client, place: &cli::Place) -> Result<(), AskError> {
    let start = Instant::now();
    let patience = if place.local { OWN_COORDINATOR_WITHIN } else { COORDINATOR_WITHIN };
    let mut is_told = place.local;
    loop {
        let nothing = Value::Object(serde_json::Map::new());
        match client.ask::<_, StudyList>(Endpoint::StudyList, &nothing).await {
            Ok(_) => return Ok(()),
            Err(AskError::NoCoordinator) if start.elapsed() < patience => {
                if !is_told {
                    eprintln!("waits for a coordinator on this NATS server; start one with: regatta serve");
                    is_told = true;
                }
            }
            Err(AskError::Rejected(rejection))
                if rejection.code == RejectionCode::NotReady && start.elapsed() < READY_WITHIN => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Puts the files that the recipe names (a folder of images as an archive, a model with the weights beside it) into the
/// object store and their contents' names into the recipe.
async fn upload_files(wire: &Wire, study_file: &Path, study: &mut Value) -> anyhow::Result<()> {
    for local in local_files(study_file, study) {
        let bytes = local.bytes()?;
        let objects = if local.is_model() { wire.models() } else { wire.data() };
        let LocalFile { keys, file, path } = local;
        let size = bytes.len();
        let sha256 = objects.put(bytes).await.with_context(|| format!("cannot upload {}", path.display()))?;
        let place = keys.iter().try_fold(&mut study["recipe"], |value, key| value.get_mut(key));
        let place = place.and_then(Value::as_object_mut).context("a recipe lost a part")?;
        place.remove("file");
        place.insert("object".to_owned(), json!({"sha256": sha256, "bytes": size, "file_name": file}));
    }
    Ok(())
}

/// A file that a recipe names, to be uploaded.
struct LocalFile {
    /// Where the recipe names it.
    keys: Vec<String>,
    file: String,
    path: PathBuf,
}

impl LocalFile {
    fn is_model(&self) -> bool {
        self.keys == ["model"]
    }

    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let bytes = if self.is_model() {
            pack::model_of(&self.path, LIMITS.model_bytes_max)
        } else {
            pack::bytes_of(&self.path, LIMITS.data_bytes_max)
        };
        bytes.with_context(|| self.whose_path())
    }

    fn check(&self) -> anyhow::Result<()> {
        let checked = if self.is_model() {
            pack::check_model(&self.path, LIMITS.model_bytes_max)
        } else {
            let metadata = std::fs::metadata(&self.path);
            metadata.map(drop).with_context(|| format!("cannot read {}", self.path.display()))
        };
        checked.with_context(|| self.whose_path())
    }

    fn whose_path(&self) -> String {
        format!("recipe.{}.file, whose path is relative to the study file", self.keys.join("."))
    }
}

fn local_files(study_file: &Path, study: &Value) -> Vec<LocalFile> {
    let files = study.pointer("/recipe/command/files").and_then(Value::as_object);
    let of_program = files.into_iter().flat_map(|files| files.keys());
    let of_program = of_program.map(|name| vec!["command".to_owned(), "files".to_owned(), name.clone()]);
    let places = [vec!["data".to_owned()], vec!["model".to_owned()]].into_iter().chain(of_program);
    let named = places.filter_map(|keys| {
        let place = keys.iter().try_fold(study.get("recipe")?, |value, key| value.get(key))?;
        let file = place.get("file")?.as_str()?.to_owned();
        let path = study_file.parent().unwrap_or(Path::new(".")).join(&file);
        Some(LocalFile { keys, file, path })
    });
    named.collect()
}

/// # Errors
/// A file that the recipe names, or one beside its model that has the weights, is not there.
pub fn check_files(study_file: &Path, study: &Value) -> anyhow::Result<()> {
    local_files(study_file, study).iter().try_for_each(LocalFile::check)
}

/// What becomes of a study when its follower leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    GoesOn,
    EndsWithUs,
}

/// Follows; at Ctrl-C asks whether the study is to go on. None where it does.
///
/// # Errors
/// When the log cannot be read, every trial failed, or none reported the objective.
pub async fn follow_and_ask(following: &mut Following, afterwards: Afterwards) -> anyhow::Result<Option<History>> {
    let (link, study) = (following.link().clone(), following.study().clone());
    let mut ending = std::pin::pin!(following.follow());
    let mut is_stopping = false;
    loop {
        tokio::select! {
            history = &mut ending => {
                let history = history?;
                judge(&history)?;
                return Ok(Some(history));
            }
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C")?,
        }
        if is_stopping {
            bail!("left before {study} had ended");
        }
        match ask_what_next(afterwards).await {
            Next::Leave => {
                eprintln!("{study} goes on; follow it with: regatta study follow {study}");
                return Ok(None);
            }
            Next::Stop => {
                is_stopping = true;
                eprintln!("stopping {study}; Ctrl-C again leaves at once");
                let request = StudyRequest { study: study.clone(), by: who() };
                match Wire::new(link.clone()).client().ask::<_, Done>(Endpoint::StudyStop, &request).await {
                    // It may have ended while the question stood.
                    Err(AskError::Rejected(rejection)) if rejection.code == RejectionCode::Conflict => {}
                    answer => drop(answer?),
                }
            }
            Next::GoOn => {}
        }
    }
}

fn judge(history: &History) -> anyhow::Result<()> {
    let shown = history.shown().context("a concluded study is in its log")?;
    let trials = shown.summary.trials;
    let first_failure = || {
        let first = history.trials().into_iter().find_map(|trial| trial.failure);
        first.map_or_else(String::new, |failure| format!("; the first failure ({}): {}", failure.cause, failure.detail))
    };
    match &shown.summary.end {
        Some(end @ (StudyEnd::Failures { .. } | StudyEnd::NoValue { .. })) if trials.failed > 0 => {
            bail!("the study ended: {end}{}", first_failure())
        }
        _ if trials.failed > 0 && trials.finished + trials.stopped == 0 => {
            bail!("every trial failed{}", first_failure())
        }
        _ => {}
    }
    let metric = &shown.summary.objective.metric;
    let was_cut_off = matches!(shown.summary.end, Some(StudyEnd::Requested { .. } | StudyEnd::WallTime { .. }));
    if shown.summary.best.is_none() && (trials.finished > 0 || !was_cut_off) {
        let reported = history.metrics();
        if !reported.contains(metric) {
            let reported: Vec<String> = reported.iter().map(|name| format!("`{name}`")).collect();
            let instead = if reported.is_empty() { "no metric".to_owned() } else { reported.join(", ") };
            bail!("no trial reported `{metric}`, the objective; they reported {instead}");
        }
    }
    Ok(())
}

enum Next {
    Stop,
    Leave,
    GoOn,
}

async fn ask_what_next(afterwards: Afterwards) -> Next {
    if !std::io::stdin().is_terminal() {
        return match afterwards {
            Afterwards::GoesOn => Next::Leave,
            Afterwards::EndsWithUs => Next::Stop,
        };
    }
    let question = match afterwards {
        Afterwards::GoesOn => "\n[l]eave it running, [s]top the study, or [c]ontinue to follow? ",
        Afterwards::EndsWithUs => "\n[s]top the study, or [c]ontinue? ",
    };
    let answer = tokio::task::spawn_blocking(move || {
        eprint!("{question}");
        let mut line = String::new();
        let read = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut line));
        read.map(|_| line)
    })
    .await;
    match answer.ok().and_then(Result::ok).as_deref().map(str::trim) {
        Some("s" | "stop") => Next::Stop,
        Some("l" | "leave") if afterwards == Afterwards::GoesOn => Next::Leave,
        Some(_) => Next::GoOn,
        // The terminal is gone: so is whoever could answer.
        None => Next::Stop,
    }
}

/// Who asks, for the log.
pub fn who() -> String {
    std::env::var("USER").unwrap_or_else(|_| "regatta".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::tests::played;

    #[test]
    fn files_of_a_recipe_are_looked_for_beside_the_study() {
        let folder = tempfile::tempdir().expect("there is room");
        std::fs::write(folder.path().join("rows.csv"), "a,y").expect("there is room");
        let study = |model: &str| json!({"recipe": {"data": {"file": "rows.csv"}, "model": {"file": model}}});
        let check = |model| check_files(&folder.path().join("study.yaml"), &study(model));
        check("rows.csv").expect("both are there");
        let error = format!("{:#}", check("net.onnx").expect_err("it is not there"));
        assert!(error.starts_with("recipe.model.file") && error.contains("net.onnx"), "{error}");
    }

    #[test]
    fn a_grid_that_the_budget_does_not_cover_is_told_of() {
        for (points, expected) in [(3, None), (4, Some("4 combinations, the budget 3 trials"))] {
            let sampler =
                json!({"sampler": {"name": "grid", "points": points}, "budget": {"trials": 3, "resource": 1}});
            let file = *played(sampler, &[]).shown().expect("it was created").file;
            let told = notes(&file);
            assert_eq!(told.len(), usize::from(expected.is_some()), "{told:?}");
            assert!(told.iter().zip(expected).all(|(note, expected)| note.contains(expected)), "{told:?}");
        }
    }

    #[test]
    fn a_study_whose_objective_no_trial_reported_is_an_error_that_names_what_they_did() {
        assert!(judge(&played(json!({}), &[json!({"score": 0.5})])).is_ok());
        let error =
            judge(&played(json!({}), &[json!({"scor": 0.5}), json!({"loss": 0.5})])).map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| ["`score`", "`loss`, `scor`"].iter().all(|name| text.contains(name))));
        let constraints = json!({"constraints": [{"metric": "loss", "max": 0.1}]});
        assert!(
            judge(&played(constraints, &[json!({"score": 0.5, "loss": 0.5})])).is_ok(),
            "the objective was measured"
        );
    }
}
