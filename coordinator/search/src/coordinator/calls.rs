//! Requests of those who train trials in a loop of their own.

use regatta_schemas::AgentId;
use regatta_schemas::api::{
    Fault, OwnPoint, Rejection, RejectionCode, TrialObserve, TrialObserved, TrialRequest, TrialSuggest,
};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::Caller;

use super::request::{invalid, no_trial, reject};
use super::{Answer, Coordinator};
use crate::study::NoSuggestion;
use crate::time::Time;

/// In whose name their records are written.
const CALLER: &str = "caller";

impl Coordinator {
    pub(super) fn suggest(&mut self, now: Time, request: &TrialSuggest) -> Result<Answer, Rejection> {
        let (id, lease_s) = (&request.study, request.lease_s);
        if !(1..=LIMITS.lease_s_max).contains(&lease_s) {
            let help = format!("give the seconds between two reports, 1 to {}", LIMITS.lease_s_max);
            return Err(invalid("the request", vec![Fault::new("lease_s", format!("is {lease_s}"), help)]));
        }
        let agent = AgentId::new(CALLER).expect("a word is a token");
        let suggested = self.going_on(id)?.suggest(now, Caller { agent, lease_s });
        self.collect(id);
        suggested.map(Answer::TrialSuggested).map_err(|why| match why {
            NoSuggestion::NothingNow => {
                reject(RejectionCode::NotReady, format!("study `{id}` has nothing to train just now; ask again"))
            }
            NoSuggestion::ExternalSampler => reject(
                RejectionCode::Conflict,
                format!("study `{id}` has an external sampler, for trials of agents alone"),
            ),
            NoSuggestion::Untrainable => reject(
                RejectionCode::NotReady,
                format!("the recipe of `{id}` cannot take this configuration; ask again"),
            ),
        })
    }

    pub(super) fn observe(&mut self, now: Time, request: &TrialObserve) -> Result<Answer, Rejection> {
        let (id, trial) = (&request.study, request.trial);
        let faults = faults(request);
        if !faults.is_empty() {
            return Err(invalid("the report", faults));
        }
        let study = match self.studies.get_mut(id) {
            Some(study) => study,
            None => return Err(self.unknown(id)),
        };
        if !study.state().trials.contains_key(&trial) {
            return Err(no_trial(&TrialRequest { study: id.clone(), trial, by: request.by.clone() }));
        }
        let faults = study.misreported(request);
        if !faults.is_empty() {
            return Err(invalid("the report", faults));
        }
        let stop = study.observe(request);
        self.fleet.set_lease(now, id, trial, study.leaseholder(trial));
        if stop.is_none() {
            self.fleet.renew(now, id, trial);
        }
        self.collect(id);
        Ok(Answer::TrialObserved(TrialObserved { study: id.clone(), trial, stop }))
    }
}

fn faults(request: &TrialObserve) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (points_max, texts_max) = (LIMITS.points_per_message_max, LIMITS.text_chars_max);
    if request.points.len() > points_max {
        let problem = format!("has {} points", request.points.len());
        faults.push(Fault::new("points", problem, format!("report at most {points_max} at once")));
    }
    if request.detail.chars().count() > texts_max {
        faults.push(Fault::new("detail", "is too long", format!("give at most {texts_max} characters")));
    }
    for (place, OwnPoint { resource, elapsed_s, metrics }) in request.points.iter().enumerate() {
        let path = |key: &str| format!("points[{place}].{key}");
        if !(1..=LIMITS.resource_max).contains(resource) {
            let help = format!("give the epochs done, 1 to {}", LIMITS.resource_max);
            faults.push(Fault::new(path("resource"), format!("is {resource}"), help));
        }
        if !elapsed_s.is_finite() || *elapsed_s < 0.0 {
            faults.push(Fault::new(path("elapsed_s"), format!("is {elapsed_s}"), "give seconds, or leave it out"));
        }
        if metrics.len() > LIMITS.metrics_per_point_max {
            let help = format!("give at most {}", LIMITS.metrics_per_point_max);
            faults.push(Fault::new(path("metrics"), format!("has {} entries", metrics.len()), help));
        }
    }
    faults
}
