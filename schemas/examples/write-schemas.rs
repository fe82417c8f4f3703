//! Writes the JSON Schemas, the AsyncAPI page and the page of the study file anew, after a change to the types:
//! `cargo run -p regatta-schemas --example write-schemas`

use std::path::Path;

use regatta_schemas::documents;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, document) in documents::all() {
        std::fs::write(folder.join(path), documents::text(&document))?;
    }
    std::fs::write(folder.join("../docs/STUDY_FILE.md"), documents::study_page())
}
