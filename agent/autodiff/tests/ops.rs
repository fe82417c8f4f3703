//! The document of operators says what the tables say.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[test]
fn document_of_operators_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPS.md");
    let written = std::fs::read_to_string(path).unwrap();
    let is_current = written == regatta_autodiff::operators::document();
    assert!(is_current, "write it again: cargo run -p regatta-autodiff --example write-ops");
}
