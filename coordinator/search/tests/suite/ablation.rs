//! An ablation is a study like any other: the same machine, whose trials were laid down beforehand.

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::api::{Request, TrialSubmit};
use regatta_schemas::log::Lineage;
use regatta_schemas::recipe::Recipe;
use regatta_schemas::study::StudyFile;
use regatta_search::simulator::study_id;
use serde_json::json;

use crate::files::{recipe_json, study};
use crate::stage::Stage;

fn ablation(design: &str) -> StudyFile {
    study(json!({
        "space": {},
        "sampler": null,
        "recipe": recipe_json(0.1.into()),
        "budget": {"resource": 4},
        "ablation": {
            "components": {"hidden": {"layers": ["layers.0"]}, "slow": {"patch": {"optimizer": {"learning_rate": 0.001}}}},
            "repeats": 3,
            "design": design,
        },
    }))
}

#[test]
fn the_budget_is_as_many_trials_as_the_ablation_has() {
    for (design, trials) in [("leave_one_out", 9), ("pairs", 12), ("factorial", 12)] {
        assert_eq!(ablation(design).budget.trials, trials, "{design}");
    }
}

#[test]
fn every_set_is_trained_once_a_repeat_with_the_repeats_seed_and_its_own_recipe() {
    let mut stage = Stage::new(vec![ablation("pairs")]);
    stage.beat("me", 20, &[]);
    let mut sets: BTreeMap<u32, BTreeSet<Vec<String>>> = BTreeMap::new();
    let mut seeds: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for offer in &stage.offers {
        let proposed = &stage.trial(offer.trial.0).proposed;
        let Lineage::Ablated { without, repeat } = &proposed.lineage else { panic!("{proposed:?}") };
        let is_slow = without.iter().any(|name| name == "slow");
        let has_hidden = !without.iter().any(|name| name == "hidden");
        let Recipe::Training(training) = &offer.recipe else { panic!("{:?}", offer.recipe) };
        assert_eq!(training.without.layers.is_empty(), has_hidden, "{without:?}");
        let recipe = serde_json::to_value(&offer.recipe).unwrap();
        let learning_rate = recipe["optimizer"]["learning_rate"].as_f64().unwrap();
        assert_eq!(learning_rate < 0.01, is_slow, "{without:?}");
        assert!(sets.entry(*repeat).or_default().insert(without.clone()), "{without:?} twice");
        seeds.entry(*repeat).or_default().insert(offer.seed);
    }
    assert_eq!(sets.values().map(BTreeSet::len).collect::<Vec<_>>(), [4, 4, 4]);
    assert!(seeds.values().all(|seeds| seeds.len() == 1));
    assert_eq!(seeds.values().flatten().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn a_restart_goes_on_where_the_log_ends() {
    let order = |restarts: bool| {
        let mut stage = Stage::new(vec![ablation("pairs")]);
        for trial in 0..12 {
            stage.beat("me", 1, &[]);
            let mut offers = stage.take_offers();
            offers.dedup(); // A restart sends again what may not have been sent.
            assert_eq!(offers, [(trial, 1)]);
            stage.accept("me", trial, 1);
            stage.measure("me", trial, 1, 4, 0.5);
            stage.finish("me", trial, 1);
            if restarts {
                stage.restart();
            }
        }
        assert_eq!(stage.count("study_concluded"), 1);
        (0..12).map(|trial| stage.trial(trial).proposed.clone()).collect::<Vec<_>>()
    };
    assert_eq!(order(false), order(true));
}

#[test]
fn nobody_else_adds_trials_to_an_ablation() {
    let mut stage = Stage::new(vec![ablation("pairs")]);
    stage.beat("me", 1, &[]);
    let before = stage.log.len();
    let submitted = TrialSubmit { study: Some(study_id(0)), ..serde_json::from_value(json!({})).unwrap() };
    assert!(stage.request(Request::TrialSubmit(submitted), "new").is_err());
    assert_eq!(stage.log.len(), before);
}
