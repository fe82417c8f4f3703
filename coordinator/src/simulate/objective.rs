//! What plays training: a program that is asked, or a table in which everything was measured before.

mod columns;
mod curve;
mod error;
mod program;
mod table;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use regatta_schemas::study::{Stopper, StudyFile};
use regatta_search::simulator::{Epoch, Stretch};
use serde_json::{Map, Value};

use curve::Curve;
use program::Program;
use table::Table;

/// What a file's name ends with that is a table.
const TABLES: [&str; 3] = ["npz", "parquet", "csv"];

pub struct Objective {
    study: StudyFile,
    source: Source,
    curve_by_course: BTreeMap<String, Curve>,
}

enum Source {
    Program(Program),
    Table(Table),
}

impl Objective {
    /// Of the path of a table, or else of a command line. `extra`: sent to a program along with every configuration.
    ///
    /// # Errors
    /// When the program cannot be started, or the table is none of the study's.
    pub fn start(text: &str, extra: Map<String, Value>, study: StudyFile) -> anyhow::Result<Self> {
        let path = Path::new(text);
        // What has a table's name and is not there is a table that is missing; what has spaces may be a command line.
        let is_named_so = path.extension().is_some_and(|ending| TABLES.iter().any(|known| ending == *known));
        let is_table = is_named_so && (path.is_file() || !text.contains(char::is_whitespace));
        let source = if is_table {
            ensure!(
                !matches!(study.stopper, Stopper::Pbt { .. }),
                "a table does not tell what a population's copies would measure; give a program as the objective"
            );
            Source::Table(Table::read(path, &study).with_context(|| format!("the table `{text}`"))?)
        } else {
            Source::Program(Program::start(text, extra)?)
        };
        Ok(Self { study, source, curve_by_course: BTreeMap::new() })
    }

    /// What an epoch, counted from 1, of a trial that came this way gives. Each way is asked for once.
    ///
    /// # Errors
    /// When the program ends or answers something else than a curve, or the table has none.
    pub fn epoch(&mut self, stretches: &[Stretch], number: u32) -> anyhow::Result<Epoch> {
        let course: Vec<_> = stretches.iter().map(|stretch| (stretch.after, &stretch.params)).collect();
        let key = serde_json::to_string(&course)?;
        if !self.curve_by_course.contains_key(&key) {
            let curve = match &mut self.source {
                Source::Program(program) => program.curve(stretches, &self.study)?,
                Source::Table(table) => {
                    let last = stretches.last().context("a trial has a configuration")?;
                    table.nearest(&last.params)?.clone()
                }
            };
            self.curve_by_course.insert(key.clone(), curve);
        }
        Ok(self.curve_by_course[&key].epoch(number.min(self.study.budget.resource)))
    }
}
