//! Every subject of the wire, written and read in this one place.

pub mod jetstream;

use crate::api::Endpoint;
use crate::ids::{AgentId, PoolId, SamplerId, StudyId, TrialId};
use crate::log::{Place, Record};

/// Each trial record's subject has a trial's number where a study's own has this word.
const STUDY_WORD: &str = "study";
/// The stop of a whole study.
const ALL_WORD: &str = "all";

pub const OFFERS_ALL: &str = "regatta.v1.trials.*";
pub const LOG_ALL: &str = "regatta.v1.log.>";
pub const STOPS_ALL: &str = "regatta.v1.stop.>";
pub const BEATS_ALL: &str = "regatta.v1.fleet.*.*";
pub const SAMPLERS_ALL: &str = "regatta.v1.sampler.*";
pub const OUTPUT_ALL: &str = "regatta.v1.output.>";
/// Who leads: in the log's stream, and no record of a study.
pub const LEADER: &str = "regatta.v1.log.leader";
pub const API_PREFIX: &str = "regatta.v1.api";
pub const API_ALL: &str = "regatta.v1.api.>";

pub fn offers(pool: &PoolId) -> String {
    format!("regatta.v1.trials.{pool}")
}

pub fn log(place: &Place, record: &Record) -> String {
    match place.trial {
        Some(trial) => format!("regatta.v1.log.{}.{trial}.{}", place.study, record.kind()),
        None => format!("regatta.v1.log.{}.{STUDY_WORD}.{}", place.study, record.kind()),
    }
}

/// Whether a record may lie on this subject: who may publish its kind is a matter of its subject.
pub fn is_log_of(subject: &str, place: &Place, record: &Record) -> bool {
    matches!(record, Record::Unknown) || subject == log(place, record)
}

/// Every record of one study.
pub fn log_of_study(study: &StudyId) -> String {
    format!("regatta.v1.log.{study}.>")
}

/// Every record of one study's own, its trials' left out.
pub fn log_of_study_itself(study: &StudyId) -> String {
    format!("regatta.v1.log.{study}.{STUDY_WORD}.>")
}

/// The record that stays of a study that was deleted.
pub fn log_of_deletion(study: &StudyId) -> String {
    format!("regatta.v1.log.{study}.{STUDY_WORD}.study_deleted")
}

/// Every record of one kind, of every trial.
pub fn log_of_kind(kind: &str) -> String {
    format!("regatta.v1.log.*.*.{kind}")
}

/// Every record of one trial.
pub fn log_of_trial(study: &StudyId, trial: TrialId) -> String {
    format!("regatta.v1.log.{study}.{trial}.>")
}

pub fn stop(study: &StudyId, trial: TrialId) -> String {
    format!("regatta.v1.stop.{study}.{trial}")
}

pub fn stop_study(study: &StudyId) -> String {
    format!("regatta.v1.stop.{study}.{ALL_WORD}")
}

/// Every stop of one study.
pub fn stops_of_study(study: &StudyId) -> String {
    format!("regatta.v1.stop.{study}.*")
}

pub fn beat(pool: &PoolId, agent: &AgentId) -> String {
    format!("regatta.v1.fleet.{pool}.{agent}")
}

/// The beats of every agent of a pool.
pub fn beats_of_pool(pool: &PoolId) -> String {
    format!("regatta.v1.fleet.{pool}.*")
}

pub fn output(study: &StudyId, trial: TrialId) -> String {
    format!("regatta.v1.output.{study}.{trial}")
}

/// The output of every trial of one study.
pub fn output_of_study(study: &StudyId) -> String {
    format!("regatta.v1.output.{study}.*")
}

/// Where a study asks an external sampler.
pub fn sampler(sampler: &SamplerId) -> String {
    format!("regatta.v1.sampler.{sampler}")
}

pub fn api(endpoint: Endpoint) -> String {
    format!("{API_PREFIX}.{}", endpoint.name())
}

/// What the subjects begin with on which a role hears answers.
pub fn inbox(role: &str) -> String {
    format!("_INBOX_{role}")
}

/// Every answer to a role.
pub fn inboxes(role: &str) -> String {
    format!("{}.>", inbox(role))
}

/// The place a log subject names; None where it is no log subject of this version.
pub fn read_log(subject: &str) -> Option<Place> {
    let mut tokens = subject.strip_prefix("regatta.v1.log.")?.split('.');
    let study = StudyId::new(tokens.next()?).ok()?;
    let trial = match tokens.next()? {
        STUDY_WORD => None,
        number => Some(number.parse().ok()?),
    };
    tokens.next()?;
    tokens.next().is_none().then_some(Place { study, trial })
}

/// The study and trial a stop subject names; a trial of None means all of them.
pub fn read_stop(subject: &str) -> Option<(StudyId, Option<TrialId>)> {
    let (study, trial) = two_tokens(subject, "regatta.v1.stop.")?;
    let trial = match trial {
        ALL_WORD => None,
        number => Some(number.parse().ok()?),
    };
    Some((StudyId::new(study).ok()?, trial))
}

/// The pool and agent a beat's subject names.
pub fn read_beat(subject: &str) -> Option<(PoolId, AgentId)> {
    let (pool, agent) = two_tokens(subject, "regatta.v1.fleet.")?;
    Some((PoolId::new(pool).ok()?, AgentId::new(agent).ok()?))
}

/// The study and trial an output subject names.
pub fn read_output(subject: &str) -> Option<(StudyId, TrialId)> {
    let (study, trial) = two_tokens(subject, "regatta.v1.output.")?;
    Some((StudyId::new(study).ok()?, trial.parse().ok()?))
}

fn two_tokens<'a>(subject: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (first, second) = subject.strip_prefix(prefix)?.split_once('.')?;
    (!second.contains('.')).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ByWhom;

    #[test]
    fn what_is_written_is_read_back() {
        let study = StudyId::new("digits-3f2a").unwrap();
        let (pool, agent) = (PoolId::default(), AgentId::new("a1").unwrap());
        let record = Record::StudyPaused(ByWhom { by: "me".into() });
        for place in [Place::study(study.clone()), Place::trial(study.clone(), TrialId(7))] {
            assert_eq!(read_log(&log(&place, &record)), Some(place));
        }
        assert_eq!(read_stop(&stop(&study, TrialId(7))), Some((study.clone(), Some(TrialId(7)))));
        assert_eq!(read_stop(&stop_study(&study)), Some((study.clone(), None)));
        assert_eq!(read_beat(&beat(&pool, &agent)), Some((pool, agent)));
        assert_eq!(read_output(&output(&study, TrialId(0))), Some((study, TrialId(0))));
    }

    #[test]
    fn a_decision_does_not_count_on_the_subject_of_a_report() {
        let place = Place::trial(StudyId::new("s").unwrap(), TrialId(1));
        let paused = Record::StudyPaused(ByWhom { by: "me".into() });
        assert!(is_log_of("regatta.v1.log.s.1.study_paused", &place, &paused));
        assert!(!is_log_of("regatta.v1.log.s.1.measured", &place, &paused));
        assert!(!is_log_of("regatta.v1.log.s.study.study_paused", &place, &paused));
        assert!(is_log_of("regatta.v1.log.s.1.of_a_later_version", &place, &Record::Unknown));
    }

    #[test]
    fn foreign_subjects_are_not_read() {
        for subject in [
            "",
            "regatta.v1.log.s",
            "regatta.v1.log.s.x.measured",
            "regatta.v2.log.s.1.measured",
            "regatta.v1.log.s.1.a.b",
        ] {
            assert_eq!(read_log(subject), None, "{subject}");
        }
        for subject in ["regatta.v1.stop.s", "regatta.v1.stop.s.1.2", "regatta.v1.stop.s.-1"] {
            assert_eq!(read_stop(subject), None, "{subject}");
        }
    }
}
