//! What the counting CUDA runtime wrote down.

use std::path::Path;

/// A run of `cuda-step`, call by call.
pub struct Trace(Vec<String>);

/// The calls between a mark and the next.
#[derive(Debug)]
pub struct Section(Vec<String>);

impl Trace {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the trace can be read");
        Self(text.lines().map(str::to_owned).collect())
    }

    /// The calls after the mark of this name.
    pub fn section(&self, name: &str) -> Section {
        let mark = format!("mark {name}");
        let begin = self.0.iter().position(|line| *line == mark);
        let begin = begin.unwrap_or_else(|| panic!("the trace has no {mark}")) + 1;
        let calls = self.0[begin..].iter().take_while(|line| !line.starts_with("mark "));
        Section(calls.cloned().collect())
    }

    /// The calls before the first mark.
    pub fn beginning(&self) -> Section {
        Section(self.0.iter().take_while(|line| !line.starts_with("mark ")).cloned().collect())
    }

    /// All sections before the one that ends them, with their names.
    pub fn sections(&self) -> Vec<(String, Section)> {
        let names = self.0.iter().filter_map(|line| line.strip_prefix("mark "));
        names.filter(|name| *name != "end").map(|name| (name.to_owned(), self.section(name))).collect()
    }

    pub fn count(&self, kind: &str) -> usize {
        count(&self.0, kind)
    }

    pub fn launches(&self) -> usize {
        launches(&self.0)
    }
}

impl Section {
    pub fn count(&self, kind: &str) -> usize {
        count(&self.0, kind)
    }

    pub fn launches(&self) -> usize {
        launches(&self.0)
    }

    /// How often this line is there.
    pub fn calls(&self, line: &str) -> usize {
        self.0.iter().filter(|other| *other == line).count()
    }

    /// Bytes of each copy between host and device (`h2d`, `d2h`) or within the device (`d2d`).
    pub fn copies(&self, direction: &str) -> Vec<usize> {
        self.numbers(&format!("copy {direction} "))
    }

    /// Bytes of each piece of the device's memory that was taken.
    pub fn taken(&self) -> Vec<usize> {
        self.numbers("malloc ")
    }

    /// How often a thread waited by this call.
    pub fn waits(&self, call: &str) -> usize {
        self.0.iter().filter(|line| line.strip_prefix("sync ") == Some(call)).count()
    }

    /// How often products were set to this mode.
    pub fn math_modes(&self, mode: usize) -> usize {
        self.numbers("math mode ").into_iter().filter(|found| *found == mode).count()
    }

    /// The calls of each recording.
    pub fn recordings(&self) -> Vec<Section> {
        let begins = self.0.iter().enumerate().filter(|(_, line)| line.starts_with("capture begin"));
        let until_end = |begin: usize| self.0[begin..].iter().take_while(|line| !line.starts_with("capture end"));
        begins.map(|(begin, _)| Section(until_end(begin).cloned().collect())).collect()
    }

    /// The calls of its first recording.
    pub fn recording(&self) -> Section {
        self.recordings().swap_remove(0)
    }

    /// The calls that CUDA forbids where they were made.
    pub fn illegal(&self) -> Vec<&str> {
        self.0.iter().filter_map(|line| line.strip_prefix("illegal ")).collect()
    }

    /// How much each recording holds.
    pub fn recorded(&self) -> Vec<usize> {
        self.numbers("capture end ")
    }

    /// How much each replay launched.
    pub fn replays(&self) -> Vec<usize> {
        self.numbers("replay ")
    }

    /// The first number after a prefix, line by line.
    fn numbers(&self, prefix: &str) -> Vec<usize> {
        let rest = self.0.iter().filter_map(|line| line.strip_prefix(prefix));
        rest.map(|rest| rest.split(' ').next().and_then(|word| word.parse().ok()).expect("a number follows")).collect()
    }
}

/// Kernels, and what CUDA's libraries were asked to compute.
fn launches(lines: &[String]) -> usize {
    ["launch", "gemm", "cudnn"].iter().map(|kind| count(lines, kind)).sum()
}

fn count(lines: &[String], kind: &str) -> usize {
    lines.iter().filter(|line| line.split(' ').next() == Some(kind)).count()
}
