use std::collections::BTreeMap;

use regatta_schemas::log::{Finished, Measured, Point};
use regatta_schemas::{AgentId, Sequence, StudyId, TrialId, decode};

use super::*;

fn place(trial: u32) -> Place {
    Place::trial(StudyId::new("s").unwrap(), TrialId(trial))
}

fn me() -> AgentId {
    AgentId::new("me").unwrap()
}

fn points(trial: u32, sequence: u64) -> Parcel<u32> {
    points_of(trial, Attempt(1), sequence)
}

fn points_of(trial: u32, attempt: Attempt, sequence: u64) -> Parcel<u32> {
    let point = Point { step: sequence, resource: 1, elapsed_s: 0.0, metrics: BTreeMap::new() };
    let measured = Measured { attempt, term: Term(0), sequence: Sequence(sequence), agent: me(), points: vec![point] };
    Parcel::record(&place(trial), &Record::Measured(measured), None)
}

fn finished(trial: u32, sequence: u64) -> Parcel<u32> {
    let finished = Finished {
        attempt: Attempt(1),
        term: Term(0),
        sequence: Sequence(sequence),
        agent: me(),
        resource: 1,
        elapsed_s: 0.0,
    };
    Parcel::record(&place(trial), &Record::Finished(finished), None)
}

fn key(parcel: &Parcel<u32>) -> (u32, u64) {
    let trial = subjects::read_log(&parcel.subject).unwrap().trial.unwrap();
    let record: Record = decode(&parcel.payload).unwrap();
    (trial.0, record.key().unwrap().sequence.0)
}

/// Sends and stores all of it.
fn flush(spool: &mut Spool<u32>) -> Vec<(u32, u64)> {
    let mut sent = Vec::new();
    while let Some(parcel) = spool.take() {
        sent.push(key(&parcel));
        spool.stored(&parcel);
    }
    sent
}

fn spool_for(parcels: usize) -> Spool<u32> {
    Spool::new(points(0, 100).droppable_bytes() * parcels)
}

#[test]
fn everything_goes_in_its_order_while_it_fits() {
    let mut spool = spool_for(100);
    for sequence in 100..150 {
        assert_eq!(spool.push(points(0, sequence)), 0);
    }
    spool.push(finished(0, 150));
    assert_eq!(flush(&mut spool), (100..=150).map(|sequence| (0, sequence)).collect::<Vec<_>>());
    assert!(spool.is_empty());
}

#[test]
fn beyond_the_bound_points_in_between_go_but_neither_first_nor_newest_nor_an_end() {
    let mut spool = spool_for(10);
    for sequence in 0..1_000 {
        spool.push(points(0, 100 + sequence));
        assert!(spool.bytes <= spool.bytes_max);
    }
    spool.push(finished(0, 1_100));
    for sequence in 0..500 {
        spool.push(points(1, 100 + sequence));
    }
    let sent = flush(&mut spool);
    assert!(sent.is_sorted(), "thinning keeps the order: {sent:?}");
    for kept in [(0, 100), (0, 1_099), (0, 1_100), (1, 100), (1, 599)] {
        assert!(sent.contains(&kept), "{kept:?} is missing in {sent:?}");
    }
    assert_eq!(sent.len() as u64 + spool.dropped(), 1_501, "each is sent or counted as dropped");
    assert!(sent.len() <= 12);
}

#[test]
fn an_attempt_keeps_its_newest_points_where_the_next_of_its_trial_waits_behind_it() {
    let mut spool = Spool::new(0);
    for (attempt, sequences) in [(1, 100..103), (2, 200..203), (1, 103..104)] {
        for sequence in sequences {
            spool.push(points_of(0, Attempt(attempt), sequence));
        }
    }
    assert_eq!(flush(&mut spool), [(0, 100), (0, 200), (0, 202), (0, 103)]);
}

#[test]
fn ends_of_trials_are_never_dropped_however_little_fits() {
    let mut spool = Spool::new(0);
    for trial in 0..50 {
        spool.push(points(trial, 100));
        spool.push(points(trial, 101));
        spool.push(points(trial, 102));
        spool.push(finished(trial, 103));
    }
    let sent = flush(&mut spool);
    let expected = (0..50).flat_map(|trial| [(trial, 100), (trial, 102), (trial, 103)]).collect::<Vec<_>>();
    assert_eq!(sent, expected);
}

#[test]
fn an_end_waits_until_all_before_it_is_stored() {
    let mut spool = spool_for(10);
    spool.push(points(0, 0));
    spool.push(finished(0, 1));
    spool.push(points(1, 0));
    let first = spool.take().unwrap();
    assert!(spool.take().is_none(), "the end waits for the point");
    spool.put_back(first);
    let again = spool.take().unwrap();
    assert_eq!(key(&again), (0, 0), "the point goes again");
    assert!(spool.take().is_none());
    spool.stored(&again);
    assert_eq!(key(&spool.take().unwrap()), (0, 1));
    assert_eq!(key(&spool.take().unwrap()), (1, 0), "what comes after an end need not wait for it");
}

#[test]
fn what_was_not_stored_goes_again_in_its_old_order_before_everything_else() {
    let mut spool = spool_for(10);
    for sequence in 0..4 {
        spool.push(points(0, sequence));
    }
    let taken: Vec<_> = std::iter::from_fn(|| spool.take()).collect();
    spool.push(points(0, 4));
    let mut taken = taken.into_iter();
    spool.stored(&taken.next().unwrap());
    for parcel in taken.rev() {
        spool.put_back(parcel);
    }
    assert_eq!(flush(&mut spool), [(0, 1), (0, 2), (0, 3), (0, 4)]);
}

#[test]
fn an_attempt_is_named_until_its_end_is_stored() {
    let mut spool = spool_for(10);
    spool.push(points(0, 0));
    assert_eq!(spool.ending().count(), 0, "points end nothing");
    spool.push(finished(0, 1));
    let named = |spool: &Spool<u32>| spool.ending().map(|held| held.trial.0).collect::<Vec<_>>();
    let point = spool.take().unwrap();
    spool.stored(&point);
    let end = spool.take().unwrap();
    spool.put_back(end);
    assert_eq!(named(&spool), [0], "while it waits, is on its way, or goes again");
    let end = spool.take().unwrap();
    spool.stored(&end);
    assert!(named(&spool).is_empty());
}
