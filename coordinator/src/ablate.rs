//! `regatta ablate`: runs the ablation of a study file, as `regatta run` does, and shows what each component was worth.

mod plot;

use anyhow::{Context, bail};
use regatta_schemas::api::{StudyShown, TrialStatus, TrialSummary};
use regatta_schemas::log::Lineage;
use regatta_schemas::reasons::number;
use regatta_schemas::study::Goal;
use regatta_search::ablation::{CONFIDENCE, Effect, Estimate, Findings, Outcome, findings};
use serde_json::{Value, json};

use crate::cli;
use crate::history::History;
use crate::run::read_unchecked;
use crate::show;

/// The run that an ablation is.
///
/// # Errors
/// The file is wrong, or has no ablation.
pub fn as_run(args: &cli::Ablate) -> anyhow::Result<cli::Run> {
    let study = read_unchecked(&args.file)?;
    if study.get("ablation").is_none_or(Value::is_null) {
        bail!("{} has no `ablation`; `regatta ablate --help` shows one", args.file.display());
    }
    Ok(cli::Run {
        file: args.file.clone(),
        place: args.place.clone(),
        seed: args.seed,
        sampler: None,
        stopper: None,
        earlier: Vec::new(),
        repeats: args.repeats,
        detach: false,
        json: args.json,
    })
}

/// Draws the findings where that was asked for.
///
/// # Errors
/// The file cannot be written.
pub fn plot(args: &cli::Ablate, history: Option<&History>) -> anyhow::Result<()> {
    let (Some(path), Some(history)) = (&args.plot, history) else { return Ok(()) };
    let (Some(findings), Some(shown)) = (findings_of(history), history.shown()) else { return Ok(()) };
    let drawn = plot::svg(&findings, &shown.summary.objective.metric);
    std::fs::write(path, drawn).with_context(|| format!("cannot write {}", path.display()))
}

/// What the study's trials showed; None: it is no ablation.
pub fn findings_of(history: &History) -> Option<Findings> {
    let shown = history.shown()?;
    let (ablation, objective) = (shown.file.ablation.as_ref()?, &shown.summary.objective);
    let outcomes: Vec<Outcome> =
        history.trials().into_iter().filter_map(|trial| outcome(trial, &objective.metric)).collect();
    Some(findings(ablation, objective.goal, &outcomes, shown.file.seed))
}

/// The objective at the end of a trial's training.
fn outcome(trial: TrialSummary, metric: &str) -> Option<Outcome> {
    let Lineage::Ablated { without, repeat } = trial.lineage else { return None };
    let is_finished = trial.status == TrialStatus::Finished;
    let value = trial.metrics.get(metric).copied().filter(|_| is_finished);
    let failure = trial.failure.map(|failure| format!("{}: {}", failure.cause, failure.detail));
    Some(Outcome { without, repeat, value, failure })
}

pub fn without(left_out: &[String]) -> String {
    if left_out.is_empty() { "whole".to_owned() } else { format!("without {}", left_out.join(" and ")) }
}

/// The findings as people read them.
pub fn table(findings: &Findings, shown: &StudyShown) -> String {
    let metric = &shown.summary.objective.metric;
    let goal = shown.summary.objective.goal;
    let interval = format!("{:.0} % interval", CONFIDENCE * 100.0);
    let mut effects = show::table(&["without", metric, "difference", &interval, "effect size", "repeats", "verdict"]);
    let whole = findings.mean_whole.map_or_else(String::new, number);
    effects.add_row([
        "(whole)".to_owned(),
        whole,
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ]);
    for effect in &findings.effects {
        let mean = effect.mean_without.map_or_else(String::new, number);
        effects
            .add_row([effect.of.join(" x "), mean].into_iter().chain(numbers(effect)).chain([verdict(effect, goal)]));
    }
    if findings.interactions.is_empty() {
        return effects.to_string();
    }
    let mut pairs = show::table(&["both without", "beyond each alone", &interval, "effect size", "repeats", "verdict"]);
    for effect in &findings.interactions {
        let says = match &effect.estimate {
            Some(estimate) if !estimate.holds_zero() => "they depend on each other".to_owned(),
            Some(_) | None => verdict(effect, goal),
        };
        pairs.add_row([effect.of.join(" and ")].into_iter().chain(numbers(effect)).chain([says]));
    }
    format!("{effects}\n{pairs}")
}

/// Difference, interval, effect size, repeats.
fn numbers(effect: &Effect) -> [String; 4] {
    let Some(estimate) = &effect.estimate else { return Default::default() };
    [
        signed(estimate.mean),
        estimate.interval.map_or_else(String::new, |(low, high)| format!("{} to {}", signed(low), signed(high))),
        estimate.effect_size.map_or_else(String::new, |size| format!("{size:+.2}")),
        estimate.repeats.to_string(),
    ]
}

/// A difference, which says in which direction.
fn signed(value: f64) -> String {
    let sign = if value.is_sign_negative() { "" } else { "+" };
    format!("{sign}{}", number(value))
}

fn verdict(effect: &Effect, goal: Goal) -> String {
    let failure = effect.failures.first();
    match (&effect.estimate, failure) {
        (None, Some(failure)) => failure.clone(),
        (None, None) => "not measured".to_owned(),
        (Some(estimate), _) if estimate.holds_zero() => "no difference shown".to_owned(),
        (Some(Estimate { mean, .. }), _) if goal.is_better(*mean, 0.0) => "better without".to_owned(),
        (Some(_), _) => "worse without".to_owned(),
    }
}

/// The findings as a line of JSON.
pub fn json(findings: &Findings) -> Value {
    let effect = |effect: &Effect| {
        let mut line = json!({"of": effect.of, "mean_without": effect.mean_without, "failures": effect.failures});
        if let Some(estimate) = &effect.estimate {
            line["difference"] = estimate.mean.into();
            line["deviation"] = estimate.deviation.into();
            line["interval"] = json!(estimate.interval);
            line["bootstrap_interval"] = json!(estimate.bootstrap);
            line["effect_size"] = json!(estimate.effect_size);
            line["repeats"] = estimate.repeats.into();
        }
        line
    };
    let all = |effects: &[Effect]| effects.iter().map(effect).collect::<Vec<_>>();
    json!({
        "type": "findings",
        "confidence": CONFIDENCE,
        "mean_whole": findings.mean_whole,
        "effects": all(&findings.effects),
        "interactions": all(&findings.interactions),
    })
}
