//! Assignments: what fits a space comes out as its domains have it; what does not is a fault with its place.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};

use regatta_schemas::ParamValue::{Bool, Float, Int, Text};
use regatta_schemas::check;
use regatta_schemas::study::Parameter;
use serde_json::{Value, json};

fn space() -> BTreeMap<String, Parameter> {
    serde_json::from_value(json!({
        "rate": {"type": "float", "low": 0.1, "high": 0.5, "step": 0.1},
        "width": {"type": "int", "low": 16, "high": 64, "step": 16},
        "optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
        "size": {"type": "ordinal", "choices": [1, 2.5, "all"]},
        "momentum": {"type": "float", "low": 0, "high": 1, "when": {"optimizer": "sgd"}},
        "nesterov": {"type": "bool", "when": {"optimizer": ["sgd"], "width": [16, 32]}},
        "deeper": {"type": "int", "low": 1, "high": 2, "when": {"nesterov": true}},
    }))
    .unwrap()
}

fn with(changes: Value) -> Value {
    let mut params = json!({"rate": 0.3, "width": 16, "optimizer": "sgd", "size": 2.5, "momentum": 0.9,
        "nesterov": false});
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(params.as_object_mut().unwrap().remove(name)),
            value => params[name] = value.clone(),
        }
    }
    params
}

#[test]
fn numbers_come_out_as_their_domain_has_them() {
    let params = check::params(&space(), &with(json!({"width": 32.0, "momentum": 1, "size": 1.0}))).unwrap();
    assert_eq!(params["width"], Int(32));
    assert_eq!(params["momentum"], Float(1.0));
    assert_eq!(params["size"], Int(1));
    assert_eq!(params["optimizer"], Text("sgd".to_owned()));
    assert_eq!(params["nesterov"], Bool(false));
}

#[test]
fn what_fits_is_taken() {
    for changes in [
        json!({}),
        json!({"rate": 0.5}),
        json!({"rate": 0.1 + 0.2}),
        json!({"size": "all"}),
        json!({"nesterov": true, "deeper": 2}),
        json!({"width": 64, "nesterov": null}),
        json!({"optimizer": "adamw", "momentum": null, "nesterov": null}),
    ] {
        assert!(check::params(&space(), &with(changes.clone())).is_ok(), "{changes}");
    }
    assert!(check::params(&BTreeMap::new(), &Value::Null).is_ok());
}

#[test]
fn what_does_not_fit_is_refused_where_it_stands() {
    let rows: [(Value, &[&str]); 16] = [
        (json!({"rate": 0.6}), &["params.rate"]),
        (json!({"rate": 0.25}), &["params.rate"]),
        (json!({"rate": "0.3"}), &["params.rate"]),
        (json!({"rate": null, "width": null}), &["params.rate", "params.width"]),
        (json!({"width": 17}), &["params.width"]),
        (json!({"width": 16.5}), &["params.width"]),
        (json!({"width": true}), &["params.width"]),
        (json!({"width": 1e300}), &["params.width"]),
        (json!({"optimizer": "adam"}), &["params.optimizer"]),
        (json!({"optimizer": ["sgd"]}), &["params.optimizer"]),
        (json!({"size": 3}), &["params.size"]),
        (json!({"optimizer": "adamw"}), &["params.momentum", "params.nesterov"]),
        (json!({"nesterov": true}), &["params.deeper"]),
        (json!({"deeper": 1}), &["params.deeper"]),
        (json!({"rat": 0.3, "momentum": 2}), &["params.momentum", "params.rat"]),
        (json!({"a b": 1}), &["params[\"a b\"]"]),
    ];
    for (changes, expected) in rows {
        let faults = check::params(&space(), &with(changes.clone())).unwrap_err();
        for fault in &faults {
            println!("{}: {}; {}", fault.path, fault.problem, fault.help);
        }
        let found: BTreeSet<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(found, expected.iter().copied().collect(), "{changes}");
    }
    assert_eq!(check::params(&space(), &json!([1])).unwrap_err()[0].path, "params");
}
