//! What each stopper says, computed by hand.

use std::collections::BTreeSet;

use regatta_schemas::TrialId;
use regatta_schemas::reasons::{Outcome, StopReason};
use regatta_schemas::study::first_rung;
use regatta_search::stoppers::Chances;
use serde_json::{Value, json};

use crate::stoppers::{figures, measure, stopper};

/// What happens to a stopper, and what it must say.
#[derive(Clone)]
enum Row {
    /// Trial, resource, value; the (threshold, competitors) of the stop that must follow, if one must.
    Measured(u32, u32, f64, Option<(f64, u32)>),
    Ended(u32, Outcome),
    /// The trial is offered, to begin or to go on, until there.
    Offered(u32, Option<u32>),
    /// The value of the trial at the rung where it is set aside then.
    SetAside(u32, u32, f64),
    /// Who must be the next to go on.
    Next(Option<u32>),
    /// The same where nothing else can happen.
    Last(Option<u32>),
    /// Whether the trial may begin.
    Admits(u32, bool),
    /// The (threshold, competitors) by which a trial that is set aside was not promoted.
    Outranked(u32, Option<(f64, u32)>),
}

fn check(choice: Value, goal: &str, rows: &[Row]) {
    let mut stopper = stopper(&choice, goal);
    let mut begun = BTreeSet::new();
    let mut set_aside = BTreeSet::new();
    for (number, row) in rows.iter().enumerate() {
        let what = format!("{choice} row {number}");
        let bar = |reason: &StopReason| {
            let (_, _, threshold, competitors) = figures(reason, goal);
            (threshold, competitors)
        };
        match row {
            Row::Ended(trial, outcome) => stopper.ended(TrialId(*trial), *outcome),
            Row::Measured(trial, resource, value, expected) => {
                let verdict = measure(&mut *stopper, *trial, *resource, *value);
                if let Some(reason) = &verdict {
                    assert_eq!(figures(reason, goal).0, *resource, "{what}: resource");
                }
                assert_eq!(verdict.as_ref().map(bar), *expected, "{what}");
            }
            Row::Offered(trial, expected) => {
                let id = TrialId(*trial);
                let until = stopper.until(id);
                assert_eq!(until, *expected, "{what}");
                if begun.insert(*trial) {
                    stopper.begun(id, until);
                } else if set_aside.remove(&id) {
                    stopper.promoted(id);
                }
                assert_eq!(stopper.until(id), *expected, "{what}: once it is offered");
            }
            Row::SetAside(trial, resource, value) => {
                assert_eq!(measure(&mut *stopper, *trial, *resource, *value), None, "{what}");
                stopper.paused(TrialId(*trial), *resource);
                set_aside.insert(TrialId(*trial));
            }
            Row::Next(expected) | Row::Last(expected) => {
                let is_free = |trial: TrialId| set_aside.contains(&trial);
                let chances = Chances { is_free: &is_free, is_last: matches!(row, Row::Last(_)), next: None };
                assert_eq!(stopper.promotion(chances), expected.map(TrialId), "{what}");
            }
            Row::Admits(trial, expected) => assert_eq!(stopper.admits(TrialId(*trial)), *expected, "{what}"),
            Row::Outranked(trial, expected) => {
                assert_eq!(stopper.outranked(TrialId(*trial)).as_ref().map(bar), *expected, "{what}");
            }
        }
    }
}

#[test]
fn the_median_rule_is_as_computed_by_hand() {
    use Row::{Ended, Measured};
    let choice = json!({"name": "median", "es_min": 2, "grace": 1});
    check(
        choice.clone(),
        "maximize",
        &[
            Measured(0, 1, 0.125, None),
            Measured(0, 2, 0.375, None),
            Ended(0, Outcome::Finished), // averages 0.125, 0.25
            Measured(1, 1, 0.5, None),
            Measured(2, 1, 0.0, None), // only one has finished
            Measured(1, 2, 0.75, None),
            Ended(1, Outcome::Finished),             // averages 0.5, 0.625
            Measured(3, 0, 0.0, None),               // within its grace
            Measured(3, 1, 0.25, Some((0.3125, 2))), // median of 0.125 and 0.5
            Measured(4, 1, 0.3125, None),            // equal is not worse
            Measured(4, 2, 0.1, Some((0.4375, 2))),  // its best, 0.3125, against the median of 0.25 and 0.625
            Ended(4, Outcome::Stopped),              // is not in the median
            Measured(5, 1, 1.0, None),
            Measured(5, 2, 0.0, None),   // its best counts
            Ended(5, Outcome::Finished), // averages 1.0, 0.5
            Measured(6, 1, 0.4, Some((0.5, 3))),
            Measured(7, 2, 0.4, Some((0.5, 3))),
            Measured(8, 7, 0.4, Some((0.5, 3))), // beyond the others' ends: their whole averages
            Ended(9, Outcome::Failed),           // counts as worst
            Measured(10, 1, 0.25, Some((0.3125, 4))), // median of -inf, 0.125, 0.5, 1.0
        ],
    );
    check(
        choice,
        "minimize",
        &[
            Measured(0, 1, 1.0, None),
            Ended(0, Outcome::Finished),
            Measured(1, 1, 3.0, None),
            Ended(1, Outcome::Finished),
            Measured(2, 1, 2.5, Some((2.0, 2))),
            Ended(3, Outcome::Failed),
            Ended(4, Outcome::Failed),
            Ended(5, Outcome::Failed),
            Measured(6, 1, 9.0, None), // the median is a failed one
        ],
    );
}

#[test]
fn a_percentile_is_as_computed_by_hand() {
    use Row::{Ended, Measured};
    let finish = |trial: u32| [Measured(trial, 1, f64::from(trial) / 4.0, None), Ended(trial, Outcome::Finished)];
    let finished: Vec<Row> = (0..5).flat_map(finish).collect();
    let judged = [
        Measured(5, 1, 0.7, Some((0.75, 5))), // the second best of 5
        Measured(6, 1, 0.75, None),
        Ended(7, Outcome::Failed),
        Measured(8, 1, 0.6875, None), // a quarter of the way from 0.75 to 0.5
        Measured(9, 1, 0.625, Some((0.6875, 6))),
    ];
    let choice = json!({"name": "percentile", "percentile": 25.0, "es_min": 5});
    check(choice, "maximize", &[finished, judged.to_vec()].concat());
}

#[test]
fn asha_is_as_computed_by_hand() {
    use Row::{Ended, Measured};
    check(
        json!({"name": "asha", "eta": 2, "min_resource": 1}),
        "maximize",
        &[
            Measured(0, 1, 0.5, None),             // the first goes on
            Measured(1, 1, 0.4, Some((0.5, 2))),   // the best 1 of 2
            Measured(2, 1, 0.6, None),             // the best 1 of 3
            Measured(3, 1, 0.55, None),            // the best 2 of 4
            Measured(4, 1, 0.45, Some((0.55, 5))), // the best 2 of 5
            Measured(0, 2, 0.55, None),            // the next rung
            Measured(2, 2, 0.5, Some((0.55, 2))),
            Measured(3, 3, 0.7, None), // it skipped the rung's resource, and is compared there all the same
            Ended(3, Outcome::Failed), // it is worst from now on, at the rung 4 as well
            Measured(5, 1, 0.48, None), // the best 3 of 6: 0.6, 0.5, 0.48
            Measured(6, 1, 0.47, Some((0.48, 7))),
            Measured(7, 1, 0.48, None), // the best 4 of 8: equal to the third
            Measured(0, 4, 0.1, None),  // the best 1 of 2, the other one failed
            Measured(0, 8, 0.0, None),  // 8 is a rung below 9
        ],
    );
    check(
        json!({"name": "asha", "eta": 3, "min_resource": 1}),
        "minimize",
        &[
            Measured(0, 1, 3.0, None),
            Measured(1, 1, 4.0, Some((3.0, 2))),
            Measured(2, 1, 3.0, None),
            Measured(3, 1, 2.0, None),
            Measured(0, 2, 9.0, None),           // 2 is no rung
            Measured(4, 1, 3.0, Some((2.0, 5))), // the best 1 of 5
            Measured(5, 1, 3.0, None),           // the best 2 of 6: 2.0, 3.0
            Measured(0, 9, 9.0, None),           // rung 3; 9 is the whole resource
        ],
    );
}

#[test]
fn promotion_is_as_computed_by_hand() {
    use Row::{Ended, Last, Next, Offered, Outranked, SetAside};
    check(
        json!({"name": "asha", "eta": 2, "min_resource": 2, "mode": "promote"}),
        "maximize",
        &[
            Next(None),
            Offered(0, Some(2)),
            Offered(1, Some(2)),
            SetAside(0, 2, 0.5),
            Next(None), // the best 0 of 1
            SetAside(1, 2, 0.4),
            Next(Some(0)), // the best 1 of 2
            Offered(0, Some(4)),
            Next(None),
            Offered(0, Some(4)), // its agent was lost
            Offered(2, Some(2)),
            Offered(3, Some(2)),
            SetAside(2, 2, 0.7),
            Next(Some(2)), // the best 1 of 3
            SetAside(3, 2, 0.6),
            Offered(2, Some(4)),
            Next(Some(3)), // the best 2 of 4: 2 and 3, and 0 went on before
            SetAside(0, 4, 0.8),
            SetAside(2, 4, 0.9),
            Next(Some(2)), // the higher rung is first
            Offered(2, Some(8)),
            Next(Some(3)),
            Offered(3, Some(4)),
            Ended(3, Outcome::Failed), // the worst of 3 at rung 4, and of 4 at rung 2: 0.7 and 0.5 are the best
            Next(None),
            SetAside(2, 8, 1.0),
            Next(None),
            Last(Some(2)), // nobody was trained to the end yet
            Offered(2, None),
            Last(Some(0)), // nor yet
            Ended(2, Outcome::Finished),
            Last(None),
            Outranked(1, Some((0.5, 4))),
            Outranked(0, Some((0.9, 3))),
        ],
    );
    check(
        json!({"name": "asha", "eta": 3, "min_resource": 1, "brackets": 2, "mode": "promote"}),
        "minimize",
        &[
            Offered(0, Some(1)),
            Offered(1, Some(3)), // the second bracket
            Offered(2, Some(1)),
            Offered(4, Some(1)),
            SetAside(0, 1, 0.3),
            SetAside(1, 3, 0.9),
            SetAside(2, 1, 0.2),
            Next(None),
            SetAside(4, 1, 0.2),
            Next(Some(2)), // of equals, the older
            Offered(2, Some(3)),
            SetAside(2, 3, 0.1),
            Last(Some(2)), // of the highest rung, in the first bracket
        ],
    );
}

#[test]
fn pasha_is_as_computed_by_hand() {
    use Row::{Last, Next, Offered, SetAside};
    let begin = [
        Offered(0, Some(1)),
        Offered(1, Some(1)),
        Offered(2, Some(1)),
        Offered(3, Some(1)),
        SetAside(0, 1, 0.5),
        SetAside(1, 1, 0.4),
        SetAside(2, 1, 0.3),
        SetAside(3, 1, 0.2),
        Next(Some(0)),
        Offered(0, Some(2)),
        Offered(1, Some(2)),
        SetAside(0, 2, 0.6),
    ];
    let choice = json!({"name": "pasha", "eta": 2});
    let settled = [SetAside(1, 2, 0.5), Next(None), Last(Some(0)), Offered(0, Some(4))];
    // The ranking has changed, so that another rung is open.
    let unsettled = [SetAside(1, 2, 0.7), Next(Some(1)), Offered(1, Some(4))];
    for end in [&settled[..], &unsettled[..]] {
        check(choice.clone(), "maximize", &[&begin[..], end].concat());
    }
}

#[test]
fn halving_is_as_computed_by_hand() {
    use Row::{Admits, Ended, Last, Next, Offered, Outranked, SetAside};
    check(
        json!({"name": "halving", "eta": 3, "min_resource": 3}),
        "maximize",
        &[
            Admits(2, true),
            Offered(0, Some(3)),
            Offered(1, Some(3)),
            Offered(2, Some(3)),
            Admits(3, false), // a cohort has 3 trials
            SetAside(0, 3, 0.5),
            SetAside(1, 3, 0.6),
            Next(None),
            Ended(2, Outcome::Failed), // all have come
            Next(Some(1)),
            Admits(3, false),
            Offered(1, None),
            Next(None),
            Ended(1, Outcome::Finished),
            Admits(3, true),
            Admits(6, false),
            Outranked(0, Some((0.6, 2))),
            Offered(3, Some(3)),
            SetAside(3, 3, 0.1),
            Next(None),
            Last(Some(3)), // the others will never come
            Offered(3, None),
        ],
    );
}

#[test]
fn stages_are_as_computed_by_hand() {
    use Row::{Admits, Ended, Measured};
    check(
        json!({"name": "stages", "size": 2}),
        "maximize",
        &[
            Admits(1, true),
            Admits(2, false),
            Ended(0, Outcome::Finished),
            Admits(2, false),
            Ended(1, Outcome::Stopped),
            Ended(1, Outcome::Stopped),
            Admits(2, true),
            Admits(3, true),
            Admits(4, false),
        ],
    );
    check(
        json!({"name": "stages", "size": 2, "early_stopping": "agent"}),
        "maximize",
        &[
            Measured(0, 1, 0.5, None),
            Measured(0, 5, 0.5, None),
            Measured(1, 5, 0.1, None), // an agent knows no other trial
            Measured(0, 6, 0.5, Some((0.5, 1))),
        ],
    );
}

#[test]
fn rules_without_competitors_are_as_computed_by_hand() {
    use Row::Measured;
    check(
        json!({"name": "patience", "epochs": 2, "min_delta": 0.125}),
        "maximize",
        &[
            Measured(0, 1, 0.5, None),
            Measured(0, 2, 0.5625, None),
            Measured(1, 3, 0.1, None),
            Measured(0, 3, 0.625, Some((0.625, 1))), // is not more than 0.5 + 0.125
            Measured(1, 4, 0.25, None),
            Measured(1, 6, 0.25, Some((0.375, 1))),
        ],
    );
    check(
        json!({"name": "threshold", "lower": 0.25, "upper": 0.75, "grace": 2}),
        "minimize",
        &[
            Measured(0, 1, 0.0, None), // within its grace
            Measured(0, 2, 0.25, None),
            Measured(0, 3, 0.125, Some((0.25, 1))),
            Measured(1, 2, 0.75, None),
            Measured(1, 3, 0.875, Some((0.75, 1))),
        ],
    );
}

#[test]
fn the_first_rung_is_a_ninth_of_the_resource_where_it_is_left_out() {
    for (resource, rung) in [(1, 1), (9, 1), (10, 2), (52, 6), (81, 9)] {
        assert_eq!(first_rung(None, resource), rung);
        assert_eq!(first_rung(Some(1), resource), 1);
    }
}
