//! The table of a storm: what was done, when it was noticed, what it cost.

use std::collections::BTreeMap;

use regatta_schemas::log::Record;
use regatta_schemas::reasons::OfferReason;
use regatta_search::study::State;
use regatta_tests::History;

use crate::storm::{Fault, Injected};

/// An agent's lease that ends later was lost to a later fault.
const NOTICED_WITHIN_US: u64 = 10_000_000;

/// Microseconds from the fault until the log shows that it was noticed: until the agent's lease is declared lost or,
/// for the coordinator and the server, until the next record.
fn noticed_after(injected: &Injected, history: &History) -> Option<u64> {
    let later = || history.0.iter().filter(|entry| entry.at_us > injected.at_us);
    let entry = match &injected.agent {
        Some(struck) if injected.fault.ends_leases() => later().find(|entry| {
            matches!(&entry.record, Record::Offered(offered)
                if matches!(&offered.reason, OfferReason::LeaseLost { agent, .. } if agent == struck))
        }),
        Some(_) => None,
        None if injected.fault == Fault::LeaderKilled => {
            later().find(|entry| matches!(entry.record, Record::Proposed(_) | Record::Offered(_)))
        }
        None => later().next(),
    };
    Some(entry?.at_us - injected.at_us)
}

/// Whether the agent held a trial when it was struck.
fn held(injected: &Injected, history: &History) -> bool {
    let Some(struck) = &injected.agent else { return false };
    let mut holds = 0;
    for entry in history.0.iter().filter(|entry| entry.at_us <= injected.at_us) {
        match &entry.record {
            Record::Accepted(accepted) if accepted.agent == *struck => holds += 1,
            Record::Finished(_) | Record::Failed(_) | Record::Released(_)
                if entry.record.key().is_some_and(|key| key.agent == struck) =>
            {
                holds -= 1;
            }
            _ => {}
        }
    }
    holds > 0
}

pub fn print(seed: u64, injected: &[Injected], history: &History, state: &State, epochs: u32) {
    let mut noticed_by_fault: BTreeMap<Fault, (usize, usize, Vec<u64>)> = BTreeMap::new();
    for one in injected {
        let (times, holding, noticed) = noticed_by_fault.entry(one.fault).or_default();
        *times += 1;
        *holding += usize::from(held(one, history));
        let is_of_interest = one.agent.is_none() || held(one, history);
        noticed.extend(noticed_after(one, history).filter(|us| is_of_interest && *us < NOTICED_WITHIN_US));
    }
    println!("\n| fault (seed {seed}) | times | while it held a trial | noticed | p50 s | p99 s |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (fault, (times, holding, noticed)) in &mut noticed_by_fault {
        noticed.sort_unstable();
        let at = |share: f64| {
            let place = ((noticed.len() as f64 - 1.0) * share).round() as usize;
            noticed.get(place).map_or("-".to_owned(), |us| format!("{:.2}", *us as f64 / 1e6))
        };
        println!("| {} | {times} | {holding} | {} | {} | {} |", fault.name(), noticed.len(), at(0.5), at(0.99));
    }
    let (mut lost, mut twice) = (0, 0);
    for trial in state.trials.values() {
        for epoch in 1..=epochs {
            let count = trial.points.iter().filter(|point| point.resource == epoch).count();
            lost += usize::from(count == 0);
            twice += count.saturating_sub(1);
        }
    }
    let records = history.0.len();
    let leases = history.0.iter().filter(|entry| {
        matches!(&entry.record, Record::Offered(offered) if matches!(offered.reason, OfferReason::LeaseLost { .. }))
    });
    println!(
        "\n{} faults, {} trials, {records} records, {} leases lost; epochs lost: {lost}; epochs counted twice: {twice}\n",
        injected.len(),
        state.trials.len(),
        leases.count()
    );
}
