//! How studies, trials and agents look on a terminal.

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::HumanDuration;
use regatta_schemas::Params;
use regatta_schemas::api::Fault;
use regatta_schemas::api::{
    FleetShown, FrontMember, LaneUse, StudyList, StudyShown, StudyStatus, StudySummary, TrialShown, TrialStatus,
    TrialSummary,
};
use regatta_schemas::log::Lineage;
use regatta_schemas::reasons::number;
use regatta_schemas::study::{Constraint, Stopper};
use regatta_search::Time;
use serde::Serialize;
use serde_json::Value;

use crate::clock;
use crate::history::History;

/// Rows of a leaderboard.
pub const LEADERBOARD_ROWS: usize = 10;

pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    table
}

/// All faults, each with its place and what would be right.
pub fn faults(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        let place = if fault.path.is_empty() { "(whole)" } else { &fault.path };
        text.push_str(&format!("  {place}: {}\n", fault.problem));
        if !fault.help.is_empty() {
            text.push_str(&format!("      help: {}\n", fault.help));
        }
    }
    text
}

pub fn studies(list: &StudyList) -> String {
    if list.studies.is_empty() {
        return "no study yet; start one with `regatta run STUDY_FILE`".to_owned();
    }
    let mut table = table(&["study", "status", "trials", "running", "best", "waits for"]);
    for study in &list.studies {
        table.add_row([
            study.study.to_string(),
            status_of_study(study.status).to_owned(),
            format!("{}/{}", ended(study), study.trials_max),
            study.trials.running.to_string(),
            study.best.as_ref().map_or_else(String::new, |best| number(best.value)),
            study.waiting_for.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

/// Trials that have ended.
pub fn ended(study: &StudySummary) -> u32 {
    study.trials.finished + study.trials.stopped + study.trials.failed
}

/// The end of a study in a few lines.
pub fn summary(history: &History, shown: &StudyShown) -> String {
    let StudyShown { summary, file } = shown;
    let counts = summary.trials;
    let mut lines = Vec::new();
    let end = match (&summary.end, summary.status) {
        (Some(end), _) => end.to_string(),
        (None, status) => status_of_study(status).to_owned(),
    };
    lines.push(format!("{}  {end}", summary.study));
    if let Some(waits) = &summary.waiting_for {
        lines.push(format!("waits for  {waits}"));
    }
    if let Some(trouble) = &summary.trouble {
        lines.push(format!("trouble  {trouble}"));
    }
    lines.extend(best(history, shown));
    if !summary.ancestors.is_empty() {
        let from = summary.ancestors.iter().map(|from| format!("trial {} at epoch {}", from.trial, from.resource));
        lines.push(format!("        which goes on from {}", from.collect::<Vec<_>>().join(", which goes on from ")));
    }
    lines.extend(summary.front.iter().map(front_member));
    lines.push(format!(
        "trials  {} finished, {} stopped early, {} failed, {} running, {} set aside, {} waiting",
        counts.finished, counts.stopped, counts.failed, counts.running, counts.paused, counts.waiting
    ));
    let proposed = u64::from(ended(summary) + counts.running + counts.paused + counts.waiting);
    let full = proposed * u64::from(file.budget.resource);
    // A population's copies have no beginning of their own.
    if matches!(file.stopper, Stopper::Pbt { .. }) {
        lines.push(format!("epochs  {}", summary.resource_spent));
    } else if full > 0 {
        lines.push(format!(
            "epochs  {} of the {full} that these trials take unstopped ({:.0} %)",
            summary.resource_spent,
            100.0 * summary.resource_spent as f64 / full as f64
        ));
    }
    lines.extend(summary.lanes.and_then(lane_use).map(|used| format!("lanes   {used}")));
    lines.join("\n")
}

/// A trial that no other dominates.
pub fn front_member(member: &FrontMember) -> String {
    let value = |(metric, value): (&String, &f64)| format!("{metric} {}", number(*value));
    let values: Vec<String> = member.values.iter().map(value).collect();
    format!("front   trial {}: {}", member.trial, values.join("  "))
}

/// What a front is worth.
pub fn hypervolume(volume: f64) -> String {
    format!("        a hypervolume of {} up to the reference", number(volume))
}

/// How well lanes were used; None: nothing was offered.
pub fn lane_use(LaneUse { lanes, busy_s, idle_s }: LaneUse) -> Option<String> {
    let total = busy_s + idle_s;
    let idle = 100.0 * idle_s / total;
    (total > 0.0).then(|| {
        format!(
            "{lanes}, idle {idle_s:.1} of {total:.1} lane-seconds ({idle:.2} %), between the first offer and the last"
        )
    })
}

fn best(history: &History, shown: &StudyShown) -> Vec<String> {
    let StudyShown { summary, file } = shown;
    let metric = &summary.objective.metric;
    if let Some(best) = &summary.best {
        let line = format!("best    {metric} {} by trial {}", number(best.value), best.trial);
        let with = history.best_params().filter(|params| !params.is_empty());
        return std::iter::once(line).chain(with.map(|with| format!("        with {}", params(&with)))).collect();
    }
    if file.constraints.is_empty() || !history.metrics().contains(metric) {
        return vec![format!("best    no trial has measured {metric} yet")];
    }
    let bounds: Vec<String> = file.constraints.iter().map(bounds).collect();
    let nearest = match history.nearest_to_constraints() {
        Some((trial, point)) => {
            let value = |name: &String| Some(format!("{name} {}", number(*point.metrics.get(name)?)));
            let values: Vec<String> =
                file.constraints.iter().filter_map(|constraint| value(&constraint.metric)).collect();
            format!("the nearest, trial {trial}, had {} at epoch {}", values.join(", "), point.resource)
        }
        None => "none has measured all that they are of".to_owned(),
    };
    vec![format!("best    no trial keeps the constraints ({}); {nearest}", bounds.join(", "))]
}

fn bounds(Constraint { metric, min, max }: &Constraint) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("{min} <= {metric} <= {max}"),
        (Some(min), None) => format!("{metric} >= {min}"),
        (None, Some(max)) => format!("{metric} <= {max}"),
        (None, None) => metric.clone(),
    }
}

/// Parameters in a line.
pub fn params(params: &Params) -> String {
    params.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// What is shown of a study as JSON; its best trial has its parameters.
///
/// # Errors
/// It is no JSON.
pub fn json(history: &History, shown: &impl Serialize) -> serde_json::Result<Value> {
    let mut shown = serde_json::to_value(shown)?;
    if let (Some(best), Some(params)) = (shown.get_mut("best"), history.best_params()) {
        best["params"] = serde_json::to_value(params)?;
    }
    Ok(shown)
}

/// Trials as a table, in the order given.
pub fn trials(trials: &[TrialSummary], metric: &str) -> String {
    let names: std::collections::BTreeSet<&str> =
        trials.iter().flat_map(|trial| trial.params.keys().map(String::as_str)).collect();
    let mut header = vec!["trial", "status", metric, "epochs", "seconds"];
    header.extend(names.iter().copied());
    let mut table = table(&header);
    for trial in trials {
        let mut row = vec![
            trial.trial.to_string(),
            status_of_trial(trial.status).to_owned(),
            trial.best.map_or_else(String::new, number),
            trial.resource.to_string(),
            format!("{:.1}", trial.elapsed_s),
        ];
        row.extend(names.iter().map(|name| trial.params.get(*name).map_or_else(String::new, ToString::to_string)));
        table.add_row(row);
    }
    table.to_string()
}

pub fn trial(shown: &TrialShown) -> String {
    let TrialShown { summary, points, checkpoint } = shown;
    let mut lines = vec![format!(
        "trial {}  {}  attempt {}  {} epochs  {:.1} s",
        summary.trial,
        status_of_trial(summary.status),
        summary.attempt,
        summary.resource,
        summary.elapsed_s
    )];
    lines.extend(summary.params.iter().map(|(name, value)| format!("  {name} = {value}")));
    if let Lineage::Inherited { parent, checkpoint, replaced, .. } = &summary.lineage {
        let resource = checkpoint.resource;
        lines.push(format!("goes on from trial {parent} at epoch {resource}, in the place of trial {replaced}"));
    }
    lines.extend(summary.stop.iter().map(|reason| format!("stopped: {reason}")));
    lines.extend(summary.failure.iter().map(|failure| format!("failed ({}): {}", failure.cause, failure.detail)));
    lines.extend(
        checkpoint
            .iter()
            .map(|kept| format!("checkpoint at epoch {}: {} bytes, object {}", kept.resource, kept.bytes, kept.object)),
    );
    let names: std::collections::BTreeSet<&str> =
        points.iter().flat_map(|point| point.metrics.keys().map(String::as_str)).collect();
    let mut header = vec!["epoch", "seconds"];
    header.extend(names.iter().copied());
    let mut curve = table(&header);
    for point in points {
        let mut row = vec![point.resource.to_string(), format!("{:.2}", point.elapsed_s)];
        row.extend(names.iter().map(|name| point.metrics.get(*name).map_or_else(String::new, |value| number(*value))));
        curve.add_row(row);
    }
    lines.push(curve.to_string());
    lines.join("\n")
}

pub fn fleet(fleet: &FleetShown) -> String {
    let leader = fleet.leader.as_ref().map_or_else(String::new, |leader| {
        let leads = clock::now() - Time::from_millis(leader.since_ms);
        format!("\nled by {} for {}", leader.coordinator, HumanDuration(leads))
    });
    if fleet.agents.is_empty() {
        return format!("no agent beats; start one with `regatta-agent`{leader}");
    }
    let mut table = table(&["agent", "pool", "device", "lanes", "busy", "state", "last beat"]);
    for agent in &fleet.agents {
        table.add_row([
            agent.agent.to_string(),
            agent.pool.to_string(),
            agent.device.clone(),
            agent.lanes.to_string(),
            agent.busy.to_string(),
            if agent.draining { "drains" } else { "takes trials" }.to_owned(),
            format!("{:.1} s ago", agent.silent_ms as f64 / 1_000.0),
        ]);
    }
    let troubles = fleet.agents.iter().filter_map(|agent| Some((&agent.agent, agent.trouble.as_ref()?)));
    let troubles: String = troubles.map(|(agent, trouble)| format!("\ntrouble of {agent}: {trouble}")).collect();
    format!("{table}{leader}{troubles}")
}

pub fn status_of_study(status: StudyStatus) -> &'static str {
    match status {
        StudyStatus::Running => "running",
        StudyStatus::Paused => "paused",
        StudyStatus::Concluded => "concluded",
        StudyStatus::Unknown => "unknown",
    }
}

pub fn status_of_trial(status: TrialStatus) -> &'static str {
    match status {
        TrialStatus::Waiting => "waiting",
        TrialStatus::Running => "running",
        TrialStatus::Paused => "paused",
        TrialStatus::Finished => "finished",
        TrialStatus::Stopped => "stopped",
        TrialStatus::Failed => "failed",
        TrialStatus::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

    use serde_json::json;

    use super::*;
    use crate::history::tests::played;

    fn told(history: &History) -> String {
        summary(history, &history.shown().unwrap())
    }

    #[test]
    fn where_no_trial_keeps_the_constraints_the_nearest_is_named() {
        let constraints = json!({"constraints": [{"metric": "loss", "max": 0.5}, {"metric": "size", "min": 2.0}]});
        let trials = [json!({"score": 0.9, "loss": 0.8, "size": 3.0}), json!({"score": 0.4, "loss": 0.6, "size": 2.0})];
        let nearest = told(&played(constraints.clone(), &trials));
        assert!(
            nearest.contains("(loss <= 0.5, size >= 2); the nearest, trial 1, had loss 0.6000, size 2.0000"),
            "{nearest}"
        );
        let unknown = told(&played(constraints, &[json!({"score": 0.9, "loss": 0.8})]));
        assert!(unknown.contains("none has measured"), "{unknown}");
    }

    #[test]
    fn the_best_trial_is_told_with_its_parameters() {
        let history = played(json!({}), &[json!({"score": 2.0131e-7})]);
        let best = told(&history);
        assert!(best.contains("score 2.013e-7 by trial 0\n        with rate=0.25"), "{best}");
        let shown = json(&history, &history.shown().unwrap().summary).unwrap();
        assert_eq!(shown["best"]["params"], json!({"rate": 0.25}));
    }
}
