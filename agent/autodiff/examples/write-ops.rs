//! Writes the table of operators to `docs/OPS.md`.

fn main() -> std::io::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/OPS.md");
    std::fs::write(path, regatta_autodiff::operators::document())
}
