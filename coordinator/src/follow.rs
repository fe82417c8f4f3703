//! Follows a study to its end: a progress bar and a line for each trial that ends, or every record as JSON.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use regatta_broker::{BrokerError, Link};
use regatta_schemas::api::{Endpoint, Rejection, RejectionCode, StudyRequest, StudyShown, TrialStatus, anonymous};
use regatta_schemas::log::{Lineage, Record};
use regatta_schemas::reasons::number;
use regatta_schemas::{StudyId, TrialId};

use crate::ablate;
use crate::history::History;
use crate::nats::{AskError, Entry, LogReader, Read, Until, Wire};
use crate::output::print_line;
use crate::show;

/// Messages of points between two updates of the screen.
const POINTS_PER_UPDATE: u32 = 8;
/// Between two questions to the coordinator about what the study waits for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How a followed study is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Screen,
    Json,
}

/// A study that is followed, and what is known of it so far.
pub struct Following {
    link: Link,
    study: StudyId,
    history: History,
    screen: Screen,
}

impl Following {
    pub fn new(link: &Link, study: StudyId, view: View) -> Self {
        Self { link: link.clone(), history: History::new(study.clone()), study, screen: Screen::new(view) }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    pub fn study(&self) -> &StudyId {
        &self.study
    }

    /// Shows what happens until the study has concluded, and hands out all of it.
    ///
    /// # Errors
    /// When there is no such study, or the log cannot be read.
    pub async fn follow(&mut self) -> anyhow::Result<History> {
        let Self { link, study, history, screen } = self;
        let mut log = LogReader::open(link, Some(study), Until::Forever).await?;
        let mut points_since_update = 0_u32;
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let read = tokio::select! {
                read = log.next() => read,
                _ = looks.tick(), if screen.view == View::Screen => {
                    screen.take_standing(Standing::of(link, study).await);
                    screen.update(history, None);
                    continue;
                }
            };
            let entry = match read {
                Ok(Read::Record(entry)) => *entry,
                Ok(Read::Elected { .. } | Read::Foreign) => continue,
                Ok(Read::End) => anyhow::bail!("the log of {study} ended"),
                Err(error @ BrokerError::TailLost { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::debug!(%error, "the log cannot be read; trying again");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            screen.tell_record(&entry)?;
            let ended = ended_trial(&entry);
            let is_concluded = matches!(entry.record, Record::StudyConcluded(_));
            let is_point = matches!(entry.record, Record::Measured(_));
            history.take(entry);
            points_since_update = if is_point { points_since_update + 1 } else { 0 };
            // Points are many; the screen need not follow each.
            if points_since_update.is_multiple_of(POINTS_PER_UPDATE) {
                screen.update(history, ended);
            }
            if is_concluded {
                screen.close(history)?;
                return Ok(std::mem::replace(history, History::new(study.clone())));
            }
        }
    }

    /// Shows on a screen what was found so far, of a study whose end was not seen.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn close_early(&self) -> anyhow::Result<()> {
        let is_begun = self.history.shown().is_some();
        if is_begun && self.screen.view == View::Screen { self.screen.close(&self.history) } else { Ok(()) }
    }
}

/// What only the coordinator knows of a study, who hears the fleet; nothing while it does not answer.
#[derive(Debug, Default)]
pub struct Standing {
    pub waiting_for: Option<String>,
    pub trouble: Option<String>,
}

impl Standing {
    pub async fn of(link: &Link, study: &StudyId) -> Self {
        let request = StudyRequest { study: study.clone(), by: anonymous() };
        let answer = Wire::new(link.clone()).client().ask::<_, StudyShown>(Endpoint::StudyShow, &request).await;
        match answer {
            Ok(shown) => Self { waiting_for: shown.summary.waiting_for, trouble: shown.summary.trouble },
            Err(AskError::NoCoordinator) => Self { waiting_for: Some("a coordinator".to_owned()), trouble: None },
            Err(AskError::Rejected(Rejection { code: RejectionCode::NotReady, message, .. })) => {
                Self { waiting_for: None, trouble: Some(message) }
            }
            Err(AskError::Away(_) | AskError::Unreadable(_) | AskError::Rejected(_)) => Self::default(),
        }
    }
}

/// The trial that this record may have ended.
fn ended_trial(entry: &Entry) -> Option<TrialId> {
    match entry.record {
        Record::Finished(_) | Record::Stopped(_) | Record::Concluded(_) => entry.place.trial,
        _ => None,
    }
}

struct Screen {
    view: View,
    standing: Standing,
    bar: ProgressBar,
}

impl Screen {
    fn new(view: View) -> Self {
        let bar = if view == View::Screen && std::io::stderr().is_terminal() {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(
            ProgressStyle::with_template("{bar:30} {pos}/{len} trials  {msg}  {elapsed}")
                .expect("the template is well formed"),
        );
        Self { view, standing: Standing::default(), bar }
    }

    fn tell_record(&self, entry: &Entry) -> anyhow::Result<()> {
        if self.view == View::Screen {
            // Its name is what every other command wants to know.
            if let Record::StudyCreated(created) = &entry.record {
                let (study, budget) = (&entry.place.study, &created.study.budget);
                self.bar.suspend(|| {
                    eprintln!("{study} has begun: up to {} trials of {} epochs", budget.trials, budget.resource);
                });
            }
            return Ok(());
        }
        let mut line = serde_json::to_value(&entry.record)?;
        let fields = line.as_object_mut().context("every record is an object")?;
        // A study's first record has the study's file there.
        if let Some(file) = fields.insert("study".to_owned(), entry.place.study.as_str().into()) {
            fields.insert("file".to_owned(), file);
        }
        if let Some(trial) = entry.place.trial {
            fields.insert("trial".to_owned(), trial.0.into());
        }
        fields.insert("at_ms".to_owned(), (entry.at_us / 1_000).into());
        print_line(&line.to_string())
    }

    /// A trouble is told once, when it comes or becomes another.
    fn take_standing(&mut self, standing: Standing) {
        if let Some(trouble) = standing.trouble.as_ref().filter(|new| self.standing.trouble.as_ref() != Some(*new)) {
            self.bar.suspend(|| eprintln!("trouble: {trouble}"));
        }
        self.standing = standing;
    }

    fn update(&self, history: &History, ended: Option<TrialId>) {
        let Some(shown) = history.shown() else { return };
        let summary = &shown.summary;
        self.bar.set_length(u64::from(summary.trials_max));
        self.bar.set_position(u64::from(show::ended(summary)));
        let best = summary.best.as_ref().map_or_else(
            || "no result yet".to_owned(),
            |best| format!("best {} (trial {})", number(best.value), best.trial),
        );
        let waits = self.standing.waiting_for.as_ref().map_or_else(String::new, |what| format!(", waits for {what}"));
        self.bar.set_message(format!(
            "{best}  {} running, {} stopped, {} failed, {} epochs{waits}",
            summary.trials.running, summary.trials.stopped, summary.trials.failed, summary.resource_spent
        ));
        if self.view == View::Screen
            && let Some(trial) = ended.and_then(|trial| history.trial(trial))
        {
            let summary = trial.summary;
            let why = match summary.status {
                TrialStatus::Stopped => summary.stop.map_or_else(String::new, |reason| reason.to_string()),
                TrialStatus::Failed => {
                    summary.failure.map_or_else(String::new, |failure| format!("{}: {}", failure.cause, failure.detail))
                }
                TrialStatus::Finished
                | TrialStatus::Paused
                | TrialStatus::Waiting
                | TrialStatus::Running
                | TrialStatus::Unknown => String::new(),
            };
            let why = match &summary.lineage {
                Lineage::Ablated { without, repeat } => {
                    format!("repeat {repeat}, {}  {why}", ablate::without(without))
                }
                Lineage::Inherited { parent, checkpoint, .. } => {
                    format!("from trial {parent} at {}  {why}", checkpoint.resource)
                }
                Lineage::Sampled { .. } | Lineage::Submitted { .. } | Lineage::Unknown => why,
            };
            let value = summary.best.map_or_else(|| "-".to_owned(), number);
            self.bar.suspend(|| {
                let line = format!(
                    "trial {:>4}  {:<8}  {value:>8}  epoch {:>4}  {why}",
                    summary.trial.0,
                    show::status_of_trial(summary.status),
                    summary.resource
                );
                // Whoever no longer reads these lines may still want the study to go on.
                drop(print_line(&line));
            });
        }
    }

    fn close(&self, history: &History) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        let shown = history.shown().context("a concluded study is in its log")?;
        match self.view {
            View::Json => {
                let mut line = show::json(history, &shown.summary)?;
                line["type"] = "summary".into();
                print_line(&line.to_string())?;
                ablate::findings_of(history).map_or(Ok(()), |findings| print_line(&ablate::json(&findings).to_string()))
            }
            View::Screen if shown.file.ablation.is_some() => {
                if let Some(findings) = ablate::findings_of(history) {
                    print_line(&ablate::table(&findings, &shown))?;
                }
                print_line(&show::summary(history, &shown))
            }
            View::Screen => {
                let mut best = history.leaderboard();
                best.truncate(show::LEADERBOARD_ROWS);
                print_line(&show::trials(&best, &shown.summary.objective.metric))?;
                print_line(&show::summary(history, &shown))
            }
        }
    }
}
