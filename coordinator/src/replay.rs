//! `regatta replay`: what other stoppers would have cost and found, by the curves that a study measured.
//!
//! The same trials are proposed in the same order to a simulated fleet. A trial that was stopped has no curve beyond;
//! where a stopper would have let it go on, its last value is held and the trial is counted as unknown.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use regatta_schemas::Params;
use regatta_schemas::check;
use regatta_schemas::reasons::number;
use regatta_schemas::study::{Stopper, StudyFile};
use regatta_search::simulator::{Epoch, Stretch};
use serde::Serialize;

use crate::cli;
use crate::output::print_line;
use crate::recorded::Recorded;
use crate::run::FaultyFile;
use crate::show;
use crate::simulate::{self, Fleet, Outcome};

/// What is compared where nobody says.
const STOPPERS: [&str; 4] = ["none", "median", "asha", "{name: asha, mode: promote}"];

/// What a stopper would have come to.
#[derive(Debug, Serialize)]
struct Row {
    stopper: String,
    /// Trials whose recorded curve ends before the stopper is done with them: what they would have measured is unknown.
    unknown: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The curve of each configuration: by epochs done, the seconds since the start and the metrics.
type Curves = BTreeMap<String, BTreeMap<u32, (f64, BTreeMap<String, f64>)>>;

/// Plays the study with each stopper and prints what they come to.
///
/// # Errors
/// When a stopper is faulty, or nothing was measured.
pub fn replay(args: &cli::Replay, recorded: &Recorded) -> anyhow::Result<()> {
    ensure!(
        recorded.study.file.ablation.is_none(),
        "an ablation compares trials that train to their ends: there is no stopper to try on it"
    );
    ensure!(
        !is_population(&recorded.study.file),
        "a copy's curve says nothing of its configuration: no stopper can be replayed"
    );
    let curves = curves(recorded);
    ensure!(!curves.is_empty(), "no trial of the study has measured anything yet");
    let lanes = args.lanes.or(recorded.study.summary.lanes.map(|lanes| lanes.lanes)).unwrap_or(1).max(1);
    let stoppers: Vec<&str> =
        if args.stopper.is_empty() { STOPPERS.to_vec() } else { args.stopper.iter().map(String::as_str).collect() };
    let rows = stoppers
        .into_iter()
        .map(|stopper| play(recorded, &curves, stopper, lanes))
        .collect::<anyhow::Result<Vec<Row>>>()?;
    print_line(&if args.json { serde_json::to_string(&rows)? } else { table(&rows, lanes) })
}

fn play(recorded: &Recorded, curves: &Curves, stopper: &str, lanes: u32) -> anyhow::Result<Row> {
    let file = study(recorded, curves, stopper)?;
    let unknown: RefCell<BTreeSet<String>> = RefCell::default();
    let course = |stretches: &[Stretch], epoch: u32| {
        let key = key(&stretches[0].params);
        let measured = &curves[&key];
        if measured.keys().next_back().is_some_and(|last| epoch > *last) {
            unknown.borrow_mut().insert(key);
        }
        epoch_of(measured, epoch)
    };
    let outcome = simulate::play(file, Fleet::calm(lanes), &course, || Ok(()))?;
    let unknown = unknown.into_inner().len();
    Ok(Row { stopper: stopper.to_owned(), unknown, outcome })
}

fn study(recorded: &Recorded, curves: &Curves, stopper: &str) -> anyhow::Result<StudyFile> {
    let faulty = |faults| FaultyFile::new(std::path::Path::new("the stopper"), faults);
    let mut file = serde_json::to_value(&recorded.study.file)?;
    file["stopper"] = check::study_text(stopper).map_err(faulty)?;
    let mut file = check::simulated_study_file(&file).map_err(faulty)?;
    ensure!(!is_population(&file), "no curve tells what a copy with changed values would have measured");
    // Time is what the trials take; what anybody asked for while it ran is no part of the question.
    file.budget.wall_time_s = None;
    file.initial = recorded
        .trials
        .iter()
        .map(|trial| &trial.summary.params)
        .filter(|params| curves.contains_key(&key(params)))
        .cloned()
        .collect();
    file.budget.trials = file.initial.len() as u32;
    Ok(file)
}

fn is_population(file: &StudyFile) -> bool {
    matches!(file.stopper, Stopper::Pbt { .. })
}

fn curves(recorded: &Recorded) -> Curves {
    let mut curves = Curves::new();
    for trial in recorded.trials.iter().filter(|trial| !trial.points.is_empty()) {
        let points = curves.entry(key(&trial.summary.params)).or_default();
        for point in &trial.points {
            points.insert(point.resource, (point.elapsed_s, point.metrics.clone()));
        }
    }
    curves
}

/// The metrics measured last by then, and the seconds of this one epoch; beyond the curve's end, its mean.
fn epoch_of(measured: &BTreeMap<u32, (f64, BTreeMap<String, f64>)>, epoch: u32) -> Epoch {
    let at = |epoch: u32| measured.range(..=epoch).next_back().map(|(done, (seconds, _))| (*done, *seconds));
    let (last, whole) = at(u32::MAX).unwrap_or((1, 0.0));
    let mean = whole / f64::from(last.max(1));
    let seconds = match (at(epoch), at(epoch.saturating_sub(1))) {
        (Some((done, now)), before) if done == epoch => {
            let (done_before, then) = before.unwrap_or((0, 0.0));
            (now - then) / f64::from((done - done_before).max(1))
        }
        _ => mean,
    };
    let metrics = measured.range(..=epoch).next_back().map(|(_, (_, metrics))| metrics.clone()).unwrap_or_default();
    Epoch { metrics, seconds: seconds.max(0.0) }
}

fn key(params: &Params) -> String {
    serde_json::to_string(params).expect("parameters are numbers and texts")
}

fn table(rows: &[Row], lanes: u32) -> String {
    let mut table = show::table(&["stopper", "best", "epochs", "seconds", "unknown trials"]);
    for row in rows {
        let best = row.outcome.best.as_ref().map_or_else(|| "none".to_owned(), |best| number(best.value));
        table.add_row(vec![
            row.stopper.clone(),
            best,
            row.outcome.epochs.to_string(),
            format!("{:.1}", row.outcome.seconds),
            format!("{} of {}", row.unknown, row.outcome.trials),
        ]);
    }
    format!("{table}\non {lanes} lanes; beyond the end of a recorded curve its last value is held")
}
