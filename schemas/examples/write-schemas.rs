//! Writes the JSON Schemas and the AsyncAPI page anew, after a change to the types:
//! `cargo run -p regatta-schemas --example write-schemas`

use std::path::Path;

use regatta_schemas::documents;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, document) in documents::all() {
        std::fs::write(folder.join(path), documents::text(&document))?;
    }
    Ok(())
}
