//! The document of operators says what the tables say.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::path::Path;

#[test]
fn document_of_operators_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPS.md");
    let written = std::fs::read_to_string(path).unwrap();
    let is_current = written == regatta_autodiff::operators::document();
    assert!(is_current, "write it again: cargo run -p regatta-autodiff --example write-ops");
}

/// Of each operator that is a node of graphs there is a row, whose graph is run in double precision here and in ONNX Runtime by
/// the agent's test of the rules.
#[test]
fn every_operator_of_the_document_has_a_row() {
    let mut rows = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gradients")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                rows += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let document = regatta_autodiff::operators::document();
    let sections = document.split("\n## ").filter(|section| {
        ["Differentiated", "Written as other operators", "Without a gradient"]
            .iter()
            .any(|name| section.starts_with(name))
    });
    let lines = sections.flat_map(str::lines).filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let ops: Vec<&str> = lines.filter(|name| !["operator", "---"].contains(name)).collect();
    assert!(ops.len() > 100, "{ops:?}");
    for op in ops {
        assert!(rows.contains(&format!("{op:?}")), "{op} has no row");
    }
}
