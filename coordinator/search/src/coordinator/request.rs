//! What can be asked of the coordinator: checked whole, then answered, or refused with everything that is wrong.

use regatta_schemas::api::{
    Done, Fault, FleetShown, Rejection, RejectionCode, Request, StudyCreate, StudyList, StudyRequest, StudyShown,
    StudyStarted, TrialList, TrialObserved, TrialRequest, TrialShown, TrialSubmit, TrialSubmitted, TrialSuggested,
};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{ByWhom, Lineage, Place, Proposed, Record, StudyCreated};
use regatta_schemas::study::{Budget, Goal, Objective, Sampler, Stopper, StudyFile, default_retries};
use regatta_schemas::{Params, StudyId, TrialId, check, subjects};
use serde_json::Value;

use super::{Command, Coordinator};
use crate::random::trial_seed;
use crate::study::Study;
use crate::time::Time;

/// The answer to a request that was not rejected. Where commands came with it, send it once they are carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    StudyStarted(StudyStarted),
    StudyList(StudyList),
    StudyShown(StudyShown),
    Done(Done),
    TrialSubmitted(TrialSubmitted),
    TrialList(TrialList),
    TrialShown(TrialShown),
    TrialSuggested(TrialSuggested),
    TrialObserved(TrialObserved),
    FleetShown(FleetShown),
}

/// The objective of a bare recipe, which every recipe reports.
const BARE_OBJECTIVE: &str = "validation_loss";

impl Coordinator {
    /// Checks a request, and answers or rejects it. Afterwards, drain [`Self::next_command`]; the answer goes
    /// out once those commands are carried out. `new_id` names the study that the request makes, if it makes one.
    ///
    /// # Errors
    /// Why the request was refused; then nothing is done.
    pub fn request(&mut self, now: Time, request: &Request, new_id: StudyId) -> Result<Answer, Rejection> {
        if !self.is_live {
            return Err(reject(RejectionCode::NotReady, "the coordinator is reading its log; ask again"));
        }
        let answer = match request {
            Request::StudyCreate(request) => self.create_study(request, new_id),
            Request::StudyList => Ok(Answer::StudyList(StudyList { studies: self.summaries() })),
            Request::StudyShow(request) => self.known(&request.study).map(|study| {
                let summary = self.summary(&request.study, study);
                Answer::StudyShown(StudyShown { summary, file: Box::new(study.state().file.clone()) })
            }),
            Request::StudyStop(request) => self.change(request, |study, by| study.stop(now, by)),
            Request::StudyPause(request) => self.change(request, Study::pause),
            Request::StudyResume(request) => self.change(request, Study::resume),
            Request::StudyDelete(request) => self.delete_study(request),
            Request::TrialSubmit(request) => self.submit(request, new_id),
            Request::TrialList(request) => {
                self.known(&request.study).map(|study| Answer::TrialList(study.trial_list()))
            }
            Request::TrialShow(request) => self.known(&request.study).and_then(|study| {
                study.trial_shown(request.trial).map(Answer::TrialShown).ok_or_else(|| no_trial(request))
            }),
            Request::TrialStop(request) => self.stop_trial(request),
            Request::TrialSuggest(request) => self.suggest(now, request),
            Request::TrialObserve(request) => self.observe(now, request),
            Request::FleetShow => {
                Ok(Answer::FleetShown(FleetShown { agents: self.fleet.summaries(now), leader: None }))
            }
        };
        self.grant_lanes(now);
        answer
    }

    fn create_study(&mut self, request: &StudyCreate, id: StudyId) -> Result<Answer, Rejection> {
        let file = check::study_file(&request.study).map_err(|faults| invalid("the study file", faults))?;
        self.begin(id.clone(), file, None)?;
        Ok(Answer::StudyStarted(StudyStarted { study: id }))
    }

    /// `trial`: one that comes along with the study.
    fn begin(&mut self, id: StudyId, study: StudyFile, trial: Option<TrialId>) -> Result<(), Rejection> {
        if self.studies.contains_key(&id) || self.creating.contains_key(&id) {
            return Err(reject(RejectionCode::Conflict, format!("there is a study `{id}` already")));
        }
        self.creating.insert(id.clone(), trial);
        let record = Record::StudyCreated(StudyCreated { study: Box::new(study) });
        self.commands.push_back(Command::Append { place: Place::study(id), record });
        Ok(())
    }

    /// Pauses, resumes or stops a study that goes on. What is already so is done.
    fn change(&mut self, request: &StudyRequest, how: impl FnOnce(&mut Study, String)) -> Result<Answer, Rejection> {
        let study = self.going_on(&request.study)?;
        how(study, request.by.clone());
        self.collect(&request.study);
        Ok(Answer::Done(Done { study: request.study.clone() }))
    }

    /// Has a concluded study forgotten, by whoever reads the record.
    fn delete_study(&mut self, request: &StudyRequest) -> Result<Answer, Rejection> {
        let id = &request.study;
        if self.known(id)?.state().conclusion.is_none() {
            return Err(reject(RejectionCode::Conflict, format!("study `{id}` goes on; stop it first")));
        }
        let record = Record::StudyDeleted(ByWhom { by: request.by.clone() });
        self.commands.push_back(Command::Append { place: Place::study(id.clone()), record });
        Ok(Answer::Done(Done { study: id.clone() }))
    }

    fn stop_trial(&mut self, request: &TrialRequest) -> Result<Answer, Rejection> {
        let study = self.going_on(&request.study)?;
        let trial = study.state().trials.get(&request.trial).ok_or_else(|| no_trial(request))?;
        if trial.has_ended() {
            return Err(reject(RejectionCode::Conflict, format!("trial {} has ended", request.trial)));
        }
        study.stop_trial(request.trial, request.by.clone());
        self.collect(&request.study);
        Ok(Answer::Done(Done { study: request.study.clone() }))
    }

    fn submit(&mut self, request: &TrialSubmit, new_id: StudyId) -> Result<Answer, Rejection> {
        let mut faults = label_faults(request);
        match (&request.study, &request.recipe) {
            (Some(id), None) => self.submit_into(id, request, faults),
            (None, Some(recipe)) => self.submit_alone(recipe, request, new_id, faults),
            (Some(_), Some(_)) | (None, None) => {
                let help = "give `study` for a trial in a study's space, or `recipe` for one of its own";
                faults.push(Fault::new("", "exactly one of `study` and `recipe` is needed", help));
                Err(invalid("the trial", faults))
            }
        }
    }

    fn submit_into(
        &mut self,
        id: &StudyId,
        request: &TrialSubmit,
        mut faults: Vec<Fault>,
    ) -> Result<Answer, Rejection> {
        let study = self.going_on(id)?;
        if study.state().file.ablation.is_some() {
            return Err(reject(RejectionCode::Conflict, format!("study `{id}` is an ablation, which takes no trials")));
        }
        let lineage = Lineage::Submitted { by: request.by.clone() };
        if request.resource.is_some() {
            faults.push(Fault::new("resource", "is the study's to say", "leave it out"));
        }
        let params = match check::params(&study.state().file.space, &request.params) {
            Ok(params) => params,
            Err(more) => {
                faults.extend(more);
                Params::new()
            }
        };
        if faults.is_empty()
            && let Err(failure) = study.recipe(&params, &lineage)
        {
            faults.push(Fault::new("params", failure.detail, "choose values that the recipe can take"));
        }
        if !faults.is_empty() {
            return Err(invalid("the trial", faults));
        }
        if study.trials_left() == 0 {
            let message =
                format!("study `{id}` has no trials left in its budget of {}", study.state().file.budget.trials);
            return Err(reject(RejectionCode::Conflict, message));
        }
        let seed = study.seed_of(study.next_trial());
        let trial = study.submit(proposed(request, params, seed));
        self.collect(id);
        Ok(submitted(id.clone(), trial))
    }

    /// A bare recipe becomes a study of its own: an empty space, a budget of one trial, and that trial.
    fn submit_alone(
        &mut self,
        recipe: &Value,
        request: &TrialSubmit,
        id: StudyId,
        mut faults: Vec<Fault>,
    ) -> Result<Answer, Rejection> {
        if let Err(more) = check::recipe(recipe) {
            faults.extend(more);
        }
        let is_empty = request.params.is_null() || request.params.as_object().is_some_and(serde_json::Map::is_empty);
        if !is_empty {
            faults.push(Fault::new(
                "params",
                "has no meaning beside a bare recipe",
                "write the values into the recipe",
            ));
        }
        let resource = request.resource.unwrap_or(0);
        if !(1..=LIMITS.resource_max).contains(&resource) {
            let help = format!("give the epochs to train, 1 to {}", LIMITS.resource_max);
            faults.push(Fault::new("resource", "is needed beside a bare recipe", help));
        }
        let (true, Value::Object(recipe)) = (faults.is_empty(), recipe) else {
            return Err(invalid("the trial", faults));
        };
        let file = bare_study(&id, recipe.clone(), resource, request);
        let trial = TrialId(0);
        let record = Record::Proposed(proposed(request, Params::new(), trial_seed(file.seed, trial)));
        self.begin(id.clone(), file, Some(trial))?;
        self.commands.push_back(Command::Append { place: Place::trial(id.clone(), trial), record });
        Ok(submitted(id, trial))
    }

    fn known(&self, id: &StudyId) -> Result<&Study, Rejection> {
        self.studies.get(id).ok_or_else(|| self.unknown(id))
    }

    /// A study that is neither concluded nor about to be.
    pub(super) fn going_on(&mut self, id: &StudyId) -> Result<&mut Study, Rejection> {
        let unknown = self.unknown(id);
        let study = self.studies.get_mut(id).ok_or(unknown)?;
        match study.end() {
            Some(end) => Err(reject(RejectionCode::Conflict, format!("study `{id}` has ended: {end}"))),
            None => Ok(study),
        }
    }

    pub(super) fn unknown(&self, id: &StudyId) -> Rejection {
        if self.creating.contains_key(id) {
            return reject(RejectionCode::NotReady, format!("study `{id}` is just being created; ask again"));
        }
        no_study(id)
    }
}

fn bare_study(
    id: &StudyId,
    recipe: regatta_schemas::study::RecipeTemplate,
    resource: u32,
    request: &TrialSubmit,
) -> StudyFile {
    StudyFile {
        name: id.to_string(),
        initial: Vec::new(),
        earlier: Vec::new(),
        further_objectives: Vec::new(),
        constraints: Vec::new(),
        objective: Objective { metric: BARE_OBJECTIVE.to_owned(), goal: Goal::Minimize },
        space: Default::default(),
        ablation: None,
        sampler: Sampler::Random,
        stopper: Stopper::None,
        budget: Budget { trials: 1, resource, wall_time_s: None, target: None, converged: None, failures: None },
        seed: 0,
        pool: request.pool.clone(),
        weight: 1.0,
        retries: default_retries(),
        keep_checkpoints: None,
        recipe,
    }
}

fn proposed(request: &TrialSubmit, params: Params, seed: u64) -> Proposed {
    Proposed {
        params,
        lineage: Lineage::Submitted { by: request.by.clone() },
        seed,
        priority: request.priority,
        labels: request.labels.clone(),
    }
}

fn submitted(study: StudyId, trial: TrialId) -> Answer {
    let log_subject = subjects::log_of_trial(&study, trial);
    Answer::TrialSubmitted(TrialSubmitted { study, trial, log_subject })
}

fn label_faults(request: &TrialSubmit) -> Vec<Fault> {
    let mut faults = Vec::new();
    if request.labels.len() > LIMITS.labels_max {
        let problem = format!("has {} labels", request.labels.len());
        faults.push(Fault::new("labels", problem, format!("give at most {}", LIMITS.labels_max)));
    }
    for (name, value) in &request.labels {
        if name.len() > LIMITS.id_chars_max || value.chars().count() > LIMITS.text_chars_max {
            let (names, texts) = (LIMITS.id_chars_max, LIMITS.text_chars_max);
            let help = format!("a name has at most {names} characters, a text at most {texts}");
            faults.push(Fault::new(format!("labels.{name}"), "is too long", help));
        }
    }
    faults
}

pub(super) fn reject(code: RejectionCode, message: impl Into<String>) -> Rejection {
    Rejection { code, message: message.into(), faults: Vec::new() }
}

pub(super) fn invalid(what: &str, faults: Vec<Fault>) -> Rejection {
    let count = faults.len();
    let message = format!("{what} has {count} fault{}", if count == 1 { "" } else { "s" });
    Rejection { code: RejectionCode::Invalid, message, faults }
}

fn no_study(id: &StudyId) -> Rejection {
    reject(RejectionCode::NotFound, format!("there is no study `{id}`"))
}

pub(super) fn no_trial(request: &TrialRequest) -> Rejection {
    reject(RejectionCode::NotFound, format!("study `{}` has no trial {}", request.study, request.trial))
}
