//! `regatta trial export`: the trained model of a trial as an ONNX file, or what its program kept as a tar archive.

use std::path::Path;

use anyhow::{Context, bail};
use regatta_broker::Link;
use regatta_checkpoint::Trained;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Checkpoint;
use regatta_schemas::recipe::{Model, Recipe, Training};

use crate::cli;
use crate::history::History;
use crate::nats::Wire;
use crate::output::print_line;
use crate::show::status_of_trial;

/// Writes the model of the trial's last checkpoint, or, where a program made it, its files.
///
/// # Errors
/// There is no such trial, nothing of it was kept, the file is there already, or it cannot be written.
pub async fn export(link: &Link, history: &History, args: &cli::TrialExport) -> anyhow::Result<()> {
    let cli::TrialExport { study, trial, output, .. } = args;
    let shown = history.trial(*trial).with_context(|| format!("{study} has no trial {trial}"))?;
    let Some(Checkpoint { object, resource, .. }) = shown.checkpoint else {
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
    let written = match recipe {
        Recipe::Training(recipe) => onnx(&wire, &recipe, &bytes, args.model.as_deref()).await?,
        Recipe::Command(_) => bytes,
    };
    std::fs::write(output, &written).with_context(|| format!("cannot write {}", output.display()))?;
    let status = status_of_trial(shown.summary.status);
    let (name, bytes) = (output.display(), written.len());
    print_line(&format!("{name}: trial {trial} of {study}, {status}, at epoch {resource}: {bytes} bytes"))
}

async fn onnx(wire: &Wire, recipe: &Training, checkpoint: &[u8], given: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let trained = Trained::read(checkpoint)?;
    let file = if trained.is_of_file() { Some(model_file(wire, recipe, given).await?) } else { None };
    Ok(trained.onnx(file.as_deref())?)
}

/// The file that the recipe's model was trained from.
async fn model_file(wire: &Wire, recipe: &Training, given: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = given {
        return std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    match &recipe.model {
        Model::Onnx(onnx) => match &onnx.object {
            Some(object) => Ok(wire.models().get(&object.sha256, LIMITS.model_bytes_max).await?),
            None => bail!("the model's file lies where the agents are; give it by --model FILE"),
        },
        _ => bail!("the checkpoint is of a model from a file, and the recipe names none"),
    }
}
