//! `regatta run --earlier`: writes what other studies measured into a study file, for its sampler to begin with.

use std::path::Path;

use anyhow::{Context, bail};
use regatta_broker::Link;
use regatta_schemas::StudyId;
use regatta_schemas::api::TrialShown;
use regatta_schemas::check;
use regatta_schemas::limits::LIMITS;
use regatta_schemas::study::StudyFile;
use serde_json::{Value, json};

use crate::recorded::Recorded;

/// Adds the results of each source, a study's id or an export's path, to those that the file has.
///
/// # Errors
/// When a source cannot be read, or has no result that the study could use.
pub async fn add(link: &Link, sources: &[String], file: &StudyFile, study: &mut Value) -> anyhow::Result<()> {
    let mut entries: Vec<Value> = study["earlier"].as_array().cloned().unwrap_or_default();
    for source in sources {
        let recorded = read(link, source).await?;
        let measured = recorded.trials.iter().filter(|trial| !trial.points.is_empty()).count();
        let before = entries.len();
        entries.extend(recorded.trials.iter().filter_map(|trial| entry(file, trial)));
        let used = entries.len() - before;
        if used == 0 {
            bail!(
                "none of the {measured} results of {source} is one of this study's: other parameters, other metrics, or a \
                 population's copies"
            );
        }
        let left_out = match measured - used {
            0 => String::new(),
            count => format!("; {count} left out: other parameters, other metrics, or a population's copies"),
        };
        eprintln!("the sampler begins with {used} results of {source}{left_out}");
    }
    let entries = thinned(entries, LIMITS.earlier_max);
    study["earlier"] = Value::Array(entries);
    Ok(())
}

async fn read(link: &Link, source: &str) -> anyhow::Result<Recorded> {
    if Path::new(source).is_file() {
        return Recorded::read(Path::new(source));
    }
    let id = StudyId::new(source).with_context(|| format!("{source} is neither a file nor a study's id"))?;
    Recorded::fetch(link, &id).await.with_context(|| format!("--earlier {source}: there is no such file"))
}

/// None: it measured nothing, or nothing that this study would judge it by, or goes on from another trial, so that what
/// it measured is not its configuration's alone.
fn entry(file: &StudyFile, trial: &TrialShown) -> Option<Value> {
    let metrics = &trial.summary.metrics;
    let is_its_own = !trial.points.is_empty() && trial.summary.lineage.checkpoint().is_none();
    let is_judged = is_its_own && file.judging_metrics().all(|name| metrics.contains_key(name));
    let params = check::params(&file.space, &json!(trial.summary.params)).ok().filter(|_| is_judged)?;
    Some(json!({"params": params, "metrics": metrics, "resource": trial.summary.resource.max(1)}))
}

/// As many as may be, from the whole list.
fn thinned(entries: Vec<Value>, max: usize) -> Vec<Value> {
    let count = entries.len();
    if count <= max {
        return entries;
    }
    eprintln!("of {count} results {max} are kept, evenly");
    (0..max).map(|number| entries[number * count / max].clone()).collect()
}
