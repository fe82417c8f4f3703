//! The program that plays training: it reads a configuration a line and answers with its learning curve a line.
//!
//! Asked `{"params": {...}, "resource": 52}` it answers `{"validation_accuracy": [...], "elapsed_s": [...]}`: for each
//! metric one number an epoch, and the seconds since the trial began at each epoch's end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use regatta_search::simulator::{Epoch, Stretch};
use serde_json::{Map, Value, json};

const ELAPSED: &str = "elapsed_s";

pub struct Objective {
    command: String,
    program: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Sent along with every configuration.
    extra: Map<String, Value>,
    /// Epochs of a curve.
    resource: u32,
    metric: String,
    curve_by_question: BTreeMap<String, Curve>,
}

#[derive(Debug)]
struct Curve {
    values_by_metric: BTreeMap<String, Vec<f64>>,
    elapsed_s: Vec<f64>,
}

impl Objective {
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: &str, extra: Map<String, Value>, resource: u32, metric: String) -> anyhow::Result<Self> {
        // The words of a command line are the shell's to take apart; `exec` leaves one process.
        let mut program = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the objective `{command}`"))?;
        let (Some(questions), Some(answers)) = (program.stdin.take(), program.stdout.take()) else {
            bail!("the objective `{command}` has no input or output");
        };
        let (command, answers) = (command.to_owned(), BufReader::new(answers));
        Ok(Self { command, program, questions, answers, extra, resource, metric, curve_by_question: BTreeMap::new() })
    }

    /// What an epoch, counted from 1, of a trial that came this way gives. Each way is asked for once.
    ///
    /// # Errors
    /// When the program ends, or answers something else than a curve.
    pub fn epoch(&mut self, stretches: &[Stretch], number: u32) -> anyhow::Result<Epoch> {
        let question = self.question(stretches);
        if !self.curve_by_question.contains_key(&question) {
            let curve = self.ask(&question)?;
            self.curve_by_question.insert(question.clone(), curve);
        }
        let Curve { values_by_metric, elapsed_s } = &self.curve_by_question[&question];
        let place = number.clamp(1, self.resource) as usize - 1;
        let metrics = values_by_metric.iter().map(|(name, values)| (name.clone(), values[place])).collect();
        let before = if place == 0 { 0.0 } else { elapsed_s[place - 1] };
        Ok(Epoch { metrics, seconds: elapsed_s[place] - before })
    }

    fn question(&self, stretches: &[Stretch]) -> String {
        let mut question = self.extra.clone();
        if let [before @ .., last] = stretches {
            question.insert("params".to_owned(), json!(last.params));
            let began = stretches.iter().skip(1).map(|next| next.after);
            let parents: Vec<Value> = before
                .iter()
                .zip(began)
                .map(|(parent, until)| json!({ "params": parent.params, "until": until }))
                .collect();
            if !parents.is_empty() {
                question.insert("before".to_owned(), parents.into());
            }
        }
        question.insert("resource".to_owned(), self.resource.into());
        Value::Object(question).to_string()
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<Curve> {
        let mut answer = String::new();
        let asked = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        if asked.and_then(|()| self.answers.read_line(&mut answer)).is_err() || answer.is_empty() {
            let end = self.program.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            bail!("the objective `{}` ended ({end}) at the question {question}", self.command);
        }
        self.read(&answer)
            .with_context(|| format!("the objective `{}` answered {question} with {}", self.command, answer.trim_end()))
    }

    fn read(&self, answer: &str) -> anyhow::Result<Curve> {
        let mut values_by_metric: BTreeMap<String, Vec<f64>> =
            serde_json::from_str(answer).context("that is no object of lists of numbers")?;
        let elapsed_s =
            values_by_metric.remove(ELAPSED).with_context(|| format!("it wants `{ELAPSED}`, one number an epoch"))?;
        ensure!(values_by_metric.contains_key(&self.metric), "it lacks the objective, `{}`", self.metric);
        for (name, values) in
            values_by_metric.iter().map(|(name, values)| (name.as_str(), values)).chain([(ELAPSED, &elapsed_s)])
        {
            let count = values.len();
            ensure!(
                count >= self.resource as usize,
                "`{name}` has {count} values, and a trial {} epochs",
                self.resource
            );
        }
        let is_rising =
            elapsed_s.windows(2).all(|pair| pair[0] <= pair[1]) && elapsed_s.first().is_some_and(|s| *s >= 0.0);
        ensure!(is_rising && elapsed_s.iter().all(|s| s.is_finite()), "`{ELAPSED}` must rise from 0 on");
        Ok(Curve { values_by_metric, elapsed_s })
    }
}

impl Drop for Objective {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to tell of anything else.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}
