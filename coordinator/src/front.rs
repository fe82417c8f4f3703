//! What the trials that no other dominates are worth together.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use regatta_schemas::api::FrontMember;
use regatta_schemas::study::{Objective, StudyFile};
use regatta_search::pareto::hypervolume;

/// A value of each objective that all of a front is better than.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference(BTreeMap<String, f64>);

impl Reference {
    /// From `METRIC=VALUE,...`.
    ///
    /// # Errors
    /// What is wrong with the text, for the command line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let usage = || format!("`{text}` is no METRIC=VALUE,...");
        let value = |part: &str| {
            let (metric, value) = part.split_once('=').ok_or_else(usage)?;
            let value = value.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(usage)?;
            Ok((metric.trim().to_owned(), value))
        };
        text.split(',').map(value).collect::<Result<_, String>>().map(Self)
    }

    /// The hypervolume between the front and this, in the objectives' units multiplied.
    ///
    /// # Errors
    /// It lacks an objective of the study, or names another metric.
    pub fn volume(&self, study: &StudyFile, front: &[FrontMember]) -> anyhow::Result<f64> {
        let objectives: Vec<&Objective> = study.objectives().collect();
        if objectives.len() == 1 {
            bail!("--reference is for studies with several objectives");
        }
        if let Some(metric) = self.0.keys().find(|metric| objectives.iter().all(|other| other.metric != **metric)) {
            bail!("--reference names `{metric}`, which is no objective of the study");
        }
        let losses = |values: &BTreeMap<String, f64>| {
            let loss = |objective: &&Objective| Some(objective.goal.loss(*values.get(&objective.metric)?));
            objectives.iter().map(loss).collect::<Option<Vec<f64>>>()
        };
        let reference = losses(&self.0).with_context(|| {
            let names: Vec<&str> = objectives.iter().map(|objective| objective.metric.as_str()).collect();
            format!("--reference needs a value of each objective: {}", names.join(", "))
        })?;
        let members: Vec<Vec<f64>> = front.iter().filter_map(|member| losses(&member.values)).collect();
        Ok(hypervolume(&members.iter().map(Vec::as_slice).collect::<Vec<_>>(), &reference))
    }
}

#[cfg(test)]
mod tests {
    use regatta_schemas::TrialId;
    use serde_json::json;

    use super::*;
    use crate::history::tests::played;

    #[test]
    fn a_front_is_worth_what_it_is_better_than_the_reference() {
        let further = json!([{"metric": "latency", "goal": "minimize"}]);
        let file = *played(json!({"further_objectives": further}), &[]).shown().expect("it was created").file;
        let member = |number, score, latency| FrontMember {
            trial: TrialId(number),
            values: [("score".to_owned(), score), ("latency".to_owned(), latency)].into(),
        };
        let front = [member(0, 0.75, 20.0), member(1, 0.5, 10.0)];
        let volume = |text: &str| Reference::parse(text).expect("it can be read").volume(&file, &front);
        // Of scores above 0.25 and latencies below 30: 0.5 x 10 and, below 20, 0.25 x 10.
        assert_eq!(volume("score=0.25, latency=30").expect("it is whole"), 7.5);
        let error = |text| volume(text).expect_err("it is not").to_string();
        assert!(error("score=0.25").contains("score, latency"));
        assert!(error("score=0.25,latency=30,loss=1").contains("`loss`"));
        assert!(["", "score", "score=x", "score=inf"].iter().all(|text| Reference::parse(text).is_err()));
    }
}
