//! `regatta trial export`: the trained model of a trial as an ONNX file, or what its program kept as a tar archive.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use regatta_broker::Link;
use regatta_checkpoint::Trained;
use regatta_schemas::api::TrialShown;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Checkpoint;
use regatta_schemas::reasons::number;
use regatta_schemas::recipe::{Model, Recipe, Training};
use regatta_schemas::{StudyId, TrialId};
use serde_json::json;

use crate::ask::{self, print};
use crate::cli;
use crate::clock;
use crate::history::History;
use crate::nats::Wire;
use crate::pack;
use crate::show::status_of_trial;

/// Writes the model of the trial's last checkpoint, with the weights that measured best where those are in it, or, where a
/// program made it, its files.
///
/// # Errors
/// There is no such trial, nothing of it was kept, the file is there already, or it cannot be written.
pub async fn export(link: &Link, args: &cli::TrialExport) -> anyhow::Result<()> {
    let cli::TrialExport { study, trial, output, .. } = args;
    let history = kept_history(link, study, *trial).await?;
    let shown = history.trial(*trial).with_context(|| format!("{study} has no trial {trial}"))?;
    let Some(Checkpoint { object, resource, .. }) = shown.checkpoint.clone() else {
        let status = status_of_trial(shown.summary.status);
        let keeps = history.shown().and_then(|study| study.file.keep_checkpoints);
        if let (Some(most), Some(_)) = (keeps, shown.summary.best) {
            bail!(
                "trial {trial} of {study}, which is {status}, has no checkpoint: the study keeps those of the {most} best \
                 trials that have ended, as `keep_checkpoints` says"
            );
        }
        bail!(
            "trial {trial} of {study}, which is {status}, has no checkpoint; they are taken at the ends of epochs, as \
             `checkpoint` in the recipe says"
        );
    };
    if output.exists() && !args.force {
        bail!("{} is there already; give --force to overwrite it", output.display());
    }
    let recipe = history.recipe(*trial).with_context(|| format!("the recipe of trial {trial} is not known"))?;
    let wire = Wire::new(link.clone());
    let bytes = wire.checkpoints().get(&object, LIMITS.checkpoint_bytes_max).await?;
    let (written, kept) = match recipe {
        Recipe::Training(recipe) => {
            let trained = Trained::read(&bytes)?;
            let best = trained.best_epoch().and_then(|epoch| u32::try_from(epoch).ok());
            let kept = Kept { last: resource, best };
            (onnx(&wire, &recipe, if args.last { trained } else { trained.at_best() }, args).await?, kept)
        }
        Recipe::Command(_) => (bytes, Kept { last: resource, best: None }),
    };
    let resource = kept.written(args.last);
    std::fs::write(output, &written).with_context(|| format!("cannot write {}", output.display()))?;
    let metric = history.shown().map_or_else(String::new, |study| study.summary.objective.metric);
    let worth = Worth::of(&shown, &metric, resource);
    let status = status_of_trial(shown.summary.status);
    let bytes = written.len();
    let told = json!({
        "study": study, "trial": trial, "status": status, "output": output.display().to_string(), "bytes": bytes,
        "resource": resource, "metric": metric, "value": worth.value,
        "best": worth.best.map(|(resource, value)| json!({"resource": resource, "value": value})),
    });
    print(args.json.json, &told, || {
        let (name, worth) = (output.display(), worth.told(&metric, kept));
        format!("{name}: trial {trial} of {study}, {status}, at epoch {resource}: {bytes} bytes\n{worth}")
    })
}

/// The study, once the trial's agent has stored what it was told to keep when it was stopped.
async fn kept_history(link: &Link, study: &StudyId, trial: TrialId) -> anyhow::Result<History> {
    /// An agent that has not stored it by then is gone.
    const STORED_WITHIN: Duration = Duration::from_secs(60);

    let mut is_told = false;
    loop {
        let history = ask::history(link, study).await?;
        let left = history.owes_checkpoint_since(trial).map(|since| clock::until(since + STORED_WITHIN));
        if left.unwrap_or_default().is_zero() {
            return Ok(history);
        }
        if !is_told {
            eprintln!("trial {trial} was stopped a moment ago: waiting until its agent has stored the last checkpoint");
            is_told = true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The epochs done of the weights that a checkpoint holds.
#[derive(Debug, Clone, Copy)]
struct Kept {
    last: u32,
    /// Of those that measured best, where they are in it, too.
    best: Option<u32>,
}

impl Kept {
    fn written(self, last: bool) -> u32 {
        self.best.filter(|_| !last).unwrap_or(self.last)
    }
}

/// What the objective says of the weights that are written: they need not be the best of the trial.
#[derive(Debug, PartialEq)]
struct Worth {
    /// With the epochs done that the weights have had.
    value: Option<f64>,
    /// The best of the trial, with its epochs done.
    best: Option<(u32, f64)>,
}

impl Worth {
    fn of(trial: &TrialShown, metric: &str, resource: u32) -> Self {
        let measured = || trial.points.iter().filter_map(|point| Some((point.resource, *point.metrics.get(metric)?)));
        Self {
            value: measured().rfind(|(epoch, _)| *epoch == resource).map(|(_, value)| value),
            best: measured().find(|(_, value)| Some(*value) == trial.summary.best),
        }
    }

    fn told(&self, metric: &str, kept: Kept) -> String {
        let there = match self.value {
            Some(value) => format!("{metric} there {}", number(value)),
            None => format!("{metric} was not measured there"),
        };
        match self.best {
            Some((epoch, best)) if Some(best) != self.value => {
                let best = number(best);
                let them =
                    if kept.best == Some(epoch) { "which are written without --last" } else { "which were not kept" };
                format!("{there}; the best of the trial, {best}, was with the weights of epoch {epoch}, {them}")
            }
            Some(_) | None => there,
        }
    }
}

async fn onnx(wire: &Wire, recipe: &Training, trained: Trained, args: &cli::TrialExport) -> anyhow::Result<Vec<u8>> {
    let given = args.model.as_deref();
    let file = if trained.is_of_file() { Some(model_file(wire, recipe, given).await?) } else { None };
    if args.raw {
        return Ok(trained.onnx_of_raw_inputs(file.as_deref())?);
    }
    if trained.is_of_normalized_inputs() {
        eprintln!(
            "the model takes normalised numbers: its metadata `{}` say by what, and --raw makes that a part of it",
            regatta_checkpoint::INPUTS
        );
    }
    Ok(trained.onnx(file.as_deref())?)
}

/// The file that the recipe's model was trained from.
async fn model_file(wire: &Wire, recipe: &Training, given: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = given {
        return pack::model_of(path, LIMITS.model_bytes_max);
    }
    match &recipe.model {
        Model::Onnx(onnx) => match &onnx.object {
            Some(object) => Ok(wire.models().get(&object.sha256, LIMITS.model_bytes_max).await?),
            None => bail!("the model's file lies where the agents are; give it by --model FILE"),
        },
        _ => bail!("the checkpoint is of a model from a file, and the recipe names none"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

    use super::*;

    fn trial(values: &[(u32, f64)], best: Option<f64>) -> TrialShown {
        let points: Vec<_> = values
            .iter()
            .map(|(epoch, value)| json!({"step": epoch, "resource": epoch, "elapsed_s": 1.0, "metrics": {"auroc": value}}))
            .collect();
        serde_json::from_value(json!({
            "trial": 0, "status": "finished", "params": {}, "lineage": {"from": "sampled", "index": 0}, "attempt": 1,
            "resource": 4, "elapsed_s": 1.0, "best": best, "points": points,
        }))
        .unwrap()
    }

    #[test]
    fn the_weights_that_were_kept_are_not_taken_for_the_best() {
        let fell = trial(&[(2, 0.5), (3, 0.6772), (4, 0.5991)], Some(0.6772));
        let worth = Worth::of(&fell, "auroc", 4);
        assert_eq!(worth, Worth { value: Some(0.5991), best: Some((3, 0.6772)) });
        for (best, what) in
            [(None, "which were not kept"), (Some(2), "which were not kept"), (Some(3), "without --last")]
        {
            let told = worth.told("auroc", Kept { last: 4, best });
            let parts = ["auroc there 0.5991", "0.6772, was with the weights of epoch 3", what];
            assert!(parts.iter().all(|part| told.contains(part)), "{told}");
        }
        let kept = Kept { last: 4, best: Some(3) };
        assert_eq!((kept.written(false), kept.written(true)), (3, 4));
        let told = Worth::of(&fell, "auroc", 3).told("auroc", kept);
        assert_eq!(told, "auroc there 0.6772");
    }

    #[test]
    fn what_was_not_measured_is_not_made_up() {
        let worth = Worth::of(&trial(&[(2, 0.5)], Some(0.5)), "auroc", 4);
        assert_eq!(worth, Worth { value: None, best: Some((2, 0.5)) });
        assert_eq!(Worth::of(&trial(&[], None), "auroc", 4), Worth { value: None, best: None });
    }
}
