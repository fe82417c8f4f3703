//! `regatta trial suggest` and `regatta trial observe`: for people with training loops of their own.

use std::collections::BTreeMap;

use anyhow::Context;
use regatta_schemas::Term;
use regatta_schemas::api::{Endpoint, OwnEnd, OwnPoint, TrialObserve, TrialObserved, TrialSuggest, TrialSuggested};

use crate::ask::{ask, print};
use crate::cli;
use crate::nats::Client;
use crate::run::who;
use crate::show;

/// # Errors
/// The coordinator's rejection.
pub async fn suggest(client: &Client, args: &cli::Suggest) -> anyhow::Result<()> {
    let request = TrialSuggest { study: args.study.clone(), lease_s: args.lease_s, by: who() };
    let suggested: TrialSuggested = ask(client, Endpoint::TrialSuggest, &request).await?;
    print(args.json.json, &suggested, || {
        let TrialSuggested { trial, attempt, params, resource, .. } = &suggested;
        format!("trial {trial}, attempt {attempt}, to {resource} epochs: {}", show::params(params))
    })
}

/// # Errors
/// The coordinator's rejection, with all its faults.
pub async fn observe(client: &Client, args: &cli::Observe) -> anyhow::Result<()> {
    let metrics = args.metrics.iter().map(|text| metric(text)).collect::<anyhow::Result<BTreeMap<String, f64>>>()?;
    let point = args.epoch.map(|resource| OwnPoint { resource, elapsed_s: args.elapsed_s, metrics });
    let request = TrialObserve {
        study: args.study.clone(),
        trial: args.trial,
        attempt: args.attempt,
        term: Term::default(),
        points: point.into_iter().collect(),
        end: args.end.map(|end| match end {
            cli::End::Done => OwnEnd::Done,
            cli::End::Failed => OwnEnd::Failed,
            cli::End::Released => OwnEnd::Released,
        }),
        detail: args.detail.clone(),
        by: who(),
    };
    let observed: TrialObserved = ask(client, Endpoint::TrialObserve, &request).await?;
    print(args.json.json, &observed, || match &observed.stop {
        Some(reason) => format!("stop: {reason}"),
        None => "noted".to_owned(),
    })
}

fn metric(text: &str) -> anyhow::Result<(String, f64)> {
    let (name, value) = text.split_once('=').with_context(|| format!("`{text}` is no metric=value"))?;
    Ok((name.to_owned(), value.parse().with_context(|| format!("`{value}` is no number"))?))
}
