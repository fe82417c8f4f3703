//! The program that plays training: it reads a configuration a line and answers with its learning curve a line.
//!
//! Asked `{"params": {...}, "resource": 52}` it answers `{"validation_accuracy": [...], "elapsed_s": [...]}`: for each
//! metric one number an epoch, and the seconds since the trial began at each epoch's end.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use regatta_schemas::study::StudyFile;
use regatta_search::simulator::Stretch;
use serde_json::{Map, Value, json};

use super::curve::Curve;

#[derive(Debug)]
pub struct Program {
    command: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Sent along with every configuration.
    extra: Map<String, Value>,
}

impl Program {
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &str, extra: Map<String, Value>) -> anyhow::Result<Self> {
        // The words of a command line are the shell's to take apart; `exec` leaves one process.
        let mut child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the objective `{command}`"))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the objective `{command}` has no input or output");
        };
        Ok(Self { command: command.to_owned(), child, questions, answers: BufReader::new(answers), extra })
    }

    /// # Errors
    /// When it ends, or answers something else than a curve.
    pub fn curve(&mut self, stretches: &[Stretch], study: &StudyFile) -> anyhow::Result<Curve> {
        let question = self.question(stretches, study.budget.resource);
        let mut answer = String::new();
        let asked = writeln!(self.questions, "{question}").and_then(|()| self.questions.flush());
        if asked.and_then(|()| self.answers.read_line(&mut answer)).is_err() || answer.is_empty() {
            let end = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            bail!("the objective `{}` ended ({end}) at the question {question}", self.command);
        }
        read(&answer, study)
            .with_context(|| format!("the objective `{}` answered {question} with {}", self.command, answer.trim_end()))
    }

    fn question(&self, stretches: &[Stretch], resource: u32) -> String {
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
        question.insert("resource".to_owned(), resource.into());
        Value::Object(question).to_string()
    }
}

fn read(answer: &str, study: &StudyFile) -> anyhow::Result<Curve> {
    let values: BTreeMap<String, Vec<f64>> =
        serde_json::from_str(answer).context("that is no object of lists of numbers")?;
    Ok(Curve::new(values, study)?)
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to tell of anything else.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
