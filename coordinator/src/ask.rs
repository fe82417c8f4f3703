//! The small commands: list, show, stop, pause, resume, delete, submit, logs, export.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use regatta_broker::Link;
use regatta_schemas::api::{
    Done, Endpoint, FleetShown, StudyList, StudyRequest, TrialRequest, TrialSubmit, TrialSubmitted,
};
use regatta_schemas::{PoolId, StudyId};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::ablate;
use crate::calls;
use crate::cli;
use crate::follow::{Following, Standing, View};
use crate::front::Reference;
use crate::history::History;
use crate::model;
use crate::nats::{AskError, Client, OutputReader, Until, Wire};
use crate::output::{print_bytes, print_line};
use crate::recorded::Recorded;
use crate::run::{Afterwards, follow_and_ask, who};
use crate::show;

/// `regatta study ...`
///
/// # Errors
/// The coordinator's rejection, with all its faults.
pub async fn study(link: &Link, command: &cli::StudyCommand) -> anyhow::Result<()> {
    let client = Wire::new(link.clone()).client();
    let (endpoint, arg, done) = match command {
        cli::StudyCommand::List(json) => {
            let list: StudyList = ask(&client, Endpoint::StudyList, &Value::Object(Map::new())).await?;
            return print(json.json, &list, || show::studies(&list));
        }
        cli::StudyCommand::Show(cli::StudyShow { study: arg, reference }) => {
            let history = history(link, &arg.study).await?;
            let mut shown = history.shown().context("the study has just been deleted")?;
            if shown.summary.end.is_none() {
                let standing = Standing::of(link, &arg.study).await;
                (shown.summary.waiting_for, shown.summary.trouble) = (standing.waiting_for, standing.trouble);
            }
            let volume = |reference: &Reference| reference.volume(&shown.file, &shown.summary.front);
            let volume = reference.as_ref().map(volume).transpose()?;
            let mut json = show::json(&history, &shown)?;
            if let Some(volume) = volume {
                json["hypervolume"] = volume.into();
            }
            return print(arg.json.json, &json, || {
                let results = match ablate::findings_of(&history) {
                    Some(findings) => ablate::table(&findings, &shown),
                    None => {
                        let mut best = history.leaderboard();
                        best.truncate(show::LEADERBOARD_ROWS);
                        show::trials(&best, &shown.summary.objective.metric)
                    }
                };
                let summary = show::summary(&history, &shown);
                [results, summary].into_iter().chain(volume.map(show::hypervolume)).collect::<Vec<_>>().join("\n")
            });
        }
        cli::StudyCommand::Follow(arg) => {
            history(link, &arg.study).await?;
            let view = if arg.json.json { View::Json } else { View::Screen };
            let mut following = Following::new(link, arg.study.clone(), view);
            return follow_and_ask(&mut following, Afterwards::GoesOn).await.map(drop);
        }
        cli::StudyCommand::Stop(arg) => (Endpoint::StudyStop, arg, "stopped"),
        cli::StudyCommand::Pause(arg) => {
            (Endpoint::StudyPause, arg, "paused; running trials go on, nothing new is proposed")
        }
        cli::StudyCommand::Resume(arg) => (Endpoint::StudyResume, arg, "goes on"),
        cli::StudyCommand::Delete(arg) => (Endpoint::StudyDelete, arg, "deleted"),
    };
    let request = StudyRequest { study: arg.study.clone(), by: who() };
    let answer: Done = ask(&client, endpoint, &request).await?;
    print(arg.json.json, &answer, || format!("{} {done}", answer.study))
}

/// `regatta trial ...`
///
/// # Errors
/// The coordinator's rejection, with all its faults.
pub async fn trial(link: &Link, command: &cli::TrialCommand) -> anyhow::Result<()> {
    let client = Wire::new(link.clone()).client();
    match command {
        cli::TrialCommand::List(arg) => {
            let history = history(link, &arg.study).await?;
            let metric = history.shown().map_or_else(String::new, |shown| shown.summary.objective.metric);
            let trials = history.leaderboard();
            print(arg.json.json, &trials, || show::trials(&trials, &metric))
        }
        cli::TrialCommand::Show(arg) => {
            let shown = history(link, &arg.study)
                .await?
                .trial(arg.trial)
                .with_context(|| format!("{} has no trial {}", arg.study, arg.trial))?;
            print(arg.json.json, &shown, || show::trial(&shown))
        }
        cli::TrialCommand::Stop(arg) => {
            let request = TrialRequest { study: arg.study.clone(), trial: arg.trial, by: who() };
            let answer: Done = ask(&client, Endpoint::TrialStop, &request).await?;
            print(arg.json.json, &answer, || format!("trial {} of {} stopped", arg.trial, arg.study))
        }
        cli::TrialCommand::Submit(submit) => {
            let request = TrialSubmit {
                study: Some(submit.study.clone()),
                recipe: None,
                params: read_params(&submit.params)?,
                resource: None,
                pool: PoolId::default(),
                priority: submit.priority,
                labels: read_labels(&submit.labels)?,
                by: who(),
            };
            let answer: TrialSubmitted = ask(&client, Endpoint::TrialSubmit, &request).await?;
            print(submit.json.json, &answer, || format!("trial {} of {}", answer.trial, answer.study))
        }
        cli::TrialCommand::Suggest(args) => calls::suggest(&client, args).await,
        cli::TrialCommand::Observe(args) => calls::observe(&client, args).await,
        cli::TrialCommand::Export(args) => model::export(link, args).await,
    }
}

/// `regatta fleet`
///
/// # Errors
/// When no coordinator answers.
pub async fn fleet(link: &Link, json: bool) -> anyhow::Result<()> {
    let client = Wire::new(link.clone()).client();
    let fleet: FleetShown = ask(&client, Endpoint::FleetShow, &Value::Object(Map::new())).await?;
    print(json, &fleet, || show::fleet(&fleet))
}

/// `regatta logs`
///
/// # Errors
/// When there is no such study, or the stream cannot be read.
pub async fn logs(link: &Link, args: &cli::Logs) -> anyhow::Result<()> {
    history(link, &args.study).await?;
    let until = if args.follow { Until::Forever } else { Until::Now };
    let mut output = OutputReader::open(link, &args.study, args.trial, until).await?;
    let mut lines = String::new();
    while let Some((trial, line, ready)) = output.next().await? {
        lines.push_str(&format!("[trial {trial} attempt {}] {}\n", line.attempt, line.line));
        if ready == 0 {
            print_bytes(std::mem::take(&mut lines).as_bytes())?;
        }
    }
    Ok(())
}

/// `regatta export`
///
/// # Errors
/// When there is no such study, or the file cannot be written.
pub async fn export(link: &Link, args: &cli::Export) -> anyhow::Result<()> {
    let history = history(link, &args.study).await?;
    let text = match args.format {
        cli::Format::Csv => export_csv(&history)?,
        cli::Format::Json => export_json(&history)?,
    };
    match &args.output {
        Some(path) => std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display())),
        None => print_bytes(&text),
    }
}

fn export_json(history: &History) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(&serde_json::to_value(Recorded::of(history)?)?)?;
    text.push(b'\n');
    Ok(text)
}

fn export_csv(history: &History) -> anyhow::Result<Vec<u8>> {
    let trials = history.trials();
    let columns = |of: fn(&regatta_schemas::api::TrialSummary) -> Vec<String>| -> Vec<String> {
        let names: std::collections::BTreeSet<String> = trials.iter().flat_map(of).collect();
        names.into_iter().collect()
    };
    let params = columns(|trial| trial.params.keys().cloned().collect());
    let metrics = columns(|trial| trial.metrics.keys().cloned().collect());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fixed = ["trial", "status", "best", "epochs", "seconds", "attempt", "reason"];
    let header = fixed.iter().map(|name| (*name).to_owned());
    let named =
        params.iter().map(|name| format!("param_{name}")).chain(metrics.iter().map(|name| format!("metric_{name}")));
    writer.write_record(header.chain(named))?;
    for trial in &trials {
        let reason = match (&trial.stop, &trial.failure) {
            (Some(stop), _) => stop.to_string(),
            (None, Some(failure)) => format!("{}: {}", failure.cause, failure.detail),
            (None, None) => String::new(),
        };
        let mut row = vec![
            trial.trial.to_string(),
            show::status_of_trial(trial.status).to_owned(),
            trial.best.map_or_else(String::new, |value| value.to_string()),
            trial.resource.to_string(),
            trial.elapsed_s.to_string(),
            trial.attempt.to_string(),
            reason,
        ];
        row.extend(params.iter().map(|name| trial.params.get(name).map_or_else(String::new, text_of)));
        row.extend(metrics.iter().map(|name| trial.metrics.get(name).map_or_else(String::new, ToString::to_string)));
        writer.write_record(row)?;
    }
    Ok(writer.into_inner()?)
}

/// A parameter in full precision.
fn text_of(value: &regatta_schemas::ParamValue) -> String {
    match value.to_json() {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// All that the log holds of a study.
///
/// # Errors
/// When the server is away, or there is no such study.
pub async fn history(link: &Link, study: &StudyId) -> anyhow::Result<History> {
    History::read(link, study).await?.with_context(|| format!("there is no study {study}; see `regatta study list`"))
}

/// One question; a rejection becomes an error that lists all faults.
///
/// # Errors
/// When nobody answers, or with the coordinator's rejection.
pub async fn ask<Q: Serialize, A: serde::de::DeserializeOwned>(
    client: &Client,
    endpoint: Endpoint,
    question: &Q,
) -> anyhow::Result<A> {
    match client.ask(endpoint, question).await {
        Ok(answer) => Ok(answer),
        Err(AskError::Rejected(rejection)) => bail!("{}\n{}", rejection.message, show::faults(&rejection.faults)),
        Err(error) => Err(error.into()),
    }
}

pub fn print<T: Serialize>(json: bool, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { text() };
    print_line(text.trim_end())
}

/// `name=value` each, or one JSON object. A value is JSON where it can be read as such, else text.
fn read_params(words: &[String]) -> anyhow::Result<Value> {
    if let [only] = words
        && only.trim_start().starts_with('{')
    {
        return serde_json::from_str(only).context("the parameters are no JSON object");
    }
    let mut params = Map::new();
    for word in words {
        let (name, value) = word.split_once('=').with_context(|| format!("`{word}` is not name=value"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        params.insert(name.to_owned(), value);
    }
    Ok(Value::Object(params))
}

fn read_labels(words: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    words
        .iter()
        .map(|word| {
            let (name, value) = word.split_once('=').with_context(|| format!("`{word}` is not name=value"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}
