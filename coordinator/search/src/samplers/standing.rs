//! How trials compare that got to different resources.
//!
//! All are put in the order of their losses at the lowest resource that any of them ended at; those that went on are
//! put in the order of their losses at the next such resource, in the places that they hold among them, and so on. So a
//! trial that was stopped keeps the place it had when it was, young trials are compared with others at their age, and
//! no curve is extrapolated.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::history::Observed;

/// Where each of these trials is in their list, the best first. Failed trials, and any that measured nothing, are last.
pub fn ranked(trials: &[&Observed]) -> Vec<usize> {
    let (mut order, mut rest): (Vec<usize>, Vec<usize>) =
        (0..trials.len()).partition(|&n| !trials[n].has_failed() && !trials[n].losses.is_empty());
    let resources: BTreeSet<u32> = order.iter().filter_map(|&n| Some(trials[n].last()?.0)).collect();
    for resource in resources {
        let got_there = |n: usize| trials[n].last().is_some_and(|(last, _)| last >= resource);
        let slots: Vec<usize> = (0..order.len()).filter(|&slot| got_there(order[slot])).collect();
        let mut members: Vec<(f64, usize)> =
            slots.iter().map(|&slot| (loss_at(trials[order[slot]], resource), order[slot])).collect();
        members.sort_by(|(a, _), (b, _)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        for (slot, (_, member)) in slots.into_iter().zip(members) {
            order[slot] = member;
        }
    }
    order.append(&mut rest);
    order
}

/// The last loss up to this resource, or else the first.
fn loss_at(trial: &Observed, resource: u32) -> f64 {
    let before = trial.losses.range(..=resource).next_back().or_else(|| trial.losses.first_key_value());
    before.map_or(f64::INFINITY, |(_, loss)| *loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regatta_schemas::Params;
    use regatta_schemas::reasons::Outcome;

    fn trial(losses: &[f64]) -> Observed {
        let losses = (1..).zip(losses.iter().copied()).collect();
        Observed { params: Params::new(), point: Vec::new(), losses, outcome: None }
    }

    fn check(trials: &[Observed], expected: &[usize]) {
        assert_eq!(ranked(&trials.iter().collect::<Vec<_>>()), expected);
    }

    #[test]
    fn trials_are_compared_at_a_resource_that_both_reached() {
        let (stopped, survivor, young) = (trial(&[5.0]), trial(&[4.0, 3.0, 2.0]), trial(&[1.0, 2.5]));
        check(&[stopped, survivor, young], &[2, 1, 0]);
    }

    #[test]
    fn those_that_went_on_are_ordered_by_their_later_losses() {
        check(&[trial(&[1.0, 0.9]), trial(&[2.0, 0.5]), trial(&[3.0])], &[1, 0, 2]);
    }

    #[test]
    fn failed_trials_are_last_and_equals_keep_their_order() {
        let failed = Observed { outcome: Some(Outcome::Failed), ..trial(&[0.0]) };
        check(&[failed, trial(&[1.0]), trial(&[1.0])], &[1, 2, 0]);
    }
}
