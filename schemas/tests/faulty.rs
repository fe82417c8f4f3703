//! Faulty study files, as data: `faulty/*.yaml`. Each begins with the places of its faults, one `#!` line each.
//! `cargo test -p regatta-schemas --test faulty -- --nocapture` prints every fault as a user reads it.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::Path;

use regatta_schemas::api::Fault;
use regatta_schemas::check;

/// How the table writes the empty path.
const WHOLE: &str = "(whole)";

fn faults(text: &str) -> Vec<Fault> {
    check::study_text(text).and_then(|value| check::study_file(&value)).err().unwrap_or_default()
}

#[test]
fn precisions_that_have_another_name_elsewhere_are_told_theirs() {
    let study = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits.yaml");
    let study = std::fs::read_to_string(study).unwrap();
    for (name, ours) in [("float16", "`half`"), ("bf16", "`bfloat16`"), ("fp32", "`single`")] {
        let faults = faults(&study.replace("recipe:", &format!("recipe:\n  precision: {name}")));
        assert!(matches!(&faults[..], [fault] if fault.help.contains(ours)), "{faults:?}");
    }
}

#[test]
fn each_faulty_file_has_the_faults_it_names() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 40);
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: BTreeSet<_> =
            text.lines().filter_map(|line| line.strip_prefix("#! ")).map(str::to_owned).collect();
        let faults = faults(&text);
        println!("\n{}", path.file_name().unwrap().display());
        for fault in &faults {
            println!("  {}: {}; {}", fault.path, fault.problem, fault.help);
        }
        let found: BTreeSet<_> = faults.iter().map(|fault| fault.path.clone()).collect();
        let found = found.into_iter().map(|path| if path.is_empty() { WHOLE.to_owned() } else { path }).collect();
        if expected != found {
            wrong.push(format!("{}: expected {expected:?}, found {found:?}", path.display()));
        }
        assert!(faults.iter().all(|fault| !fault.problem.is_empty() && !fault.help.is_empty()), "{faults:?}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
