//! Gradient-boosted regression trees that estimate a quantile (Friedman, "Greedy function approximation: a gradient
//! boosting machine", 2001, sections 4.3 and 5), with splits found in histograms.

use crate::space::{Axis, Coordinate};

/// Values that a number is told apart by, at most.
const BINS_MAX: usize = 64;
const TREES: usize = 40;
const DEPTH_MAX: usize = 4;
/// What of each tree's correction is taken.
const RATE: f64 = 0.15;

/// Turns a point into one small number for each parameter. 0: the parameter does not exist there.
#[derive(Debug, Clone)]
pub struct Bins(Vec<Column>);

#[derive(Debug, Clone)]
enum Column {
    /// Borders between the bins, ascending.
    Ordered(Vec<f64>),
    Choice,
}

impl Bins {
    /// Bins that hold about equally many of these points. One axis for each entry of a point.
    pub fn new<'a>(axes: &[Axis], points: impl Iterator<Item = &'a [Option<Coordinate>]> + Clone) -> Self {
        let column = |(place, axis): (usize, &Axis)| match axis {
            Axis::Choice { .. } => Column::Choice,
            Axis::Number { .. } => {
                let number = |point: &[Option<Coordinate>]| match point[place] {
                    Some(Coordinate::Number(number)) => Some(number),
                    _ => None,
                };
                Column::Ordered(borders(points.clone().filter_map(number).collect()))
            }
        };
        Self(axes.iter().enumerate().map(column).collect())
    }

    pub fn row(&self, point: &[Option<Coordinate>]) -> Vec<u8> {
        let bin = |(column, coordinate): (&Column, &Option<Coordinate>)| match (column, coordinate) {
            (Column::Ordered(borders), Some(Coordinate::Number(number))) => {
                1 + borders.partition_point(|border| border < number) as u8
            }
            // Choices beyond what a bin can number share the last.
            (Column::Choice, Some(Coordinate::Choice(place))) => (*place).min(254) as u8 + 1,
            _ => 0,
        };
        self.0.iter().zip(point).map(bin).collect()
    }
}

/// In the middle between neighbours, about equally many numbers apart.
fn borders(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    let mut borders: Vec<f64> = Vec::new();
    for bin in 1..BINS_MAX {
        let place = bin * numbers.len() / BINS_MAX;
        if place > 0 && numbers[place - 1] < numbers[place] {
            borders.push(f64::midpoint(numbers[place - 1], numbers[place]));
        }
    }
    borders.dedup();
    borders
}

/// Binned rows, column by column.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Vec<u8>>,
    is_choice: Vec<bool>,
    rows: usize,
}

impl Table {
    pub fn new(bins: &Bins, rows: &[Vec<u8>]) -> Self {
        let columns = (0..bins.0.len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect();
        let is_choice = bins.0.iter().map(|column| matches!(column, Column::Choice)).collect();
        Self { columns, is_choice, rows: rows.len() }
    }
}

/// An estimate of one quantile of the target at each row.
#[derive(Debug, Clone)]
pub struct Boosted {
    base: f64,
    trees: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(f64),
    Split { split: Split, left: Box<Node>, right: Box<Node> },
}

#[derive(Debug, Clone, Copy)]
struct Split {
    column: usize,
    bin: u8,
    is_choice: bool,
}

impl Split {
    /// One choice against the rest; a number up to a border against those above.
    fn is_left(self, bin: u8) -> bool {
        if self.is_choice { bin == self.bin } else { bin <= self.bin }
    }
}

impl Boosted {
    /// One target for each of the table's rows, of which there is at least one.
    pub fn fit(table: &Table, targets: &[f64], level: f64) -> Self {
        let base = quantile(&mut targets.to_vec(), level);
        let least = (table.rows / 100).max(3);
        let mut growth = Growth {
            table,
            targets,
            level,
            least,
            gradients: vec![0.0; table.rows],
            estimates: vec![base; table.rows],
        };
        let mut rows: Vec<u32> = (0..table.rows as u32).collect();
        let trees = (0..TREES).map(|_| growth.tree(&mut rows)).collect();
        Self { base, trees }
    }

    pub fn at(&self, row: &[u8]) -> f64 {
        self.base + self.trees.iter().map(|tree| tree.at(row)).sum::<f64>()
    }
}

impl Node {
    fn at(&self, row: &[u8]) -> f64 {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(value) => return *value,
                Self::Split { split, left, right } => {
                    node = if split.is_left(row[split.column]) { left } else { right };
                }
            }
        }
    }
}

/// Trees as they grow.
struct Growth<'a> {
    table: &'a Table,
    targets: &'a [f64],
    level: f64,
    /// Rows in a leaf.
    least: usize,
    /// Of the pinball loss, downhill.
    gradients: Vec<f64>,
    estimates: Vec<f64>,
}

impl Growth<'_> {
    fn tree(&mut self, rows: &mut [u32]) -> Node {
        for (gradient, (target, estimate)) in self.gradients.iter_mut().zip(self.targets.iter().zip(&self.estimates)) {
            *gradient = if target > estimate { self.level } else { self.level - 1.0 };
        }
        self.node(rows, 0)
    }

    fn node(&mut self, rows: &mut [u32], depth: usize) -> Node {
        let split = if depth < DEPTH_MAX { self.best_split(rows) } else { None };
        let Some(split) = split else { return self.leaf(rows) };
        let column = &self.table.columns[split.column];
        rows.sort_by_key(|&row| !split.is_left(column[row as usize]));
        let middle = rows.partition_point(|&row| split.is_left(column[row as usize]));
        let (left, right) = rows.split_at_mut(middle);
        Node::Split { split, left: Box::new(self.node(left, depth + 1)), right: Box::new(self.node(right, depth + 1)) }
    }

    /// The leaf's own quantile of what the estimates miss.
    fn leaf(&mut self, rows: &[u32]) -> Node {
        let missed = |&row: &u32| self.targets[row as usize] - self.estimates[row as usize];
        let value = RATE * quantile(&mut rows.iter().map(missed).collect::<Vec<_>>(), self.level);
        for &row in rows {
            self.estimates[row as usize] += value;
        }
        Node::Leaf(value)
    }

    /// The split after which the gradients' squared error is least.
    fn best_split(&self, rows: &[u32]) -> Option<Split> {
        if rows.len() < 2 * self.least {
            return None;
        }
        let total: f64 = rows.iter().map(|&row| self.gradients[row as usize]).sum();
        let mut best: Option<(f64, Split)> = None;
        // Below it nothing is gained but rounding.
        let mut to_beat = total * total / rows.len() as f64 + 1e-9;
        for (column, bins) in self.table.columns.iter().enumerate() {
            let is_choice = self.table.is_choice[column];
            let mut histogram = [(0_u32, 0.0_f64); 256];
            let mut last = 0;
            for &row in rows {
                let bin = bins[row as usize];
                last = last.max(bin);
                let (count, sum) = &mut histogram[usize::from(bin)];
                *count += 1;
                *sum += self.gradients[row as usize];
            }
            let (mut count, mut sum) = (0, 0.0);
            for bin in 0..=last {
                let (here, gradient) = histogram[usize::from(bin)];
                (count, sum) = if is_choice { (here, gradient) } else { (count + here, sum + gradient) };
                let others = rows.len() - count as usize;
                if here == 0 || (count as usize) < self.least || others < self.least {
                    continue;
                }
                let gain = sum * sum / f64::from(count) + (total - sum) * (total - sum) / others as f64;
                if gain > to_beat {
                    to_beat = gain;
                    best = Some((gain, Split { column, bin, is_choice }));
                }
            }
        }
        best.map(|(_, split)| split)
    }
}

/// The smallest of these numbers that so large a share of them does not exceed; there is at least one.
fn quantile(numbers: &mut [f64], level: f64) -> f64 {
    let place = ((level * numbers.len() as f64).ceil() as usize).clamp(1, numbers.len()) - 1;
    *numbers.select_nth_unstable_by(place, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn pinball(target: f64, estimate: f64, level: f64) -> f64 {
        let missed = target - estimate;
        if missed > 0.0 { level * missed } else { (level - 1.0) * missed }
    }

    #[test]
    fn trees_find_the_quantiles_of_a_step_and_of_a_choice() {
        let mut stream = Stream::new(Purpose { study_seed: 5, name: "test", index: 0, redraw: 0 });
        let axes = [Axis::Number { levels: None }, Axis::Choice { count: 4 }];
        let mut draw = |count: usize| -> (Vec<Vec<Option<Coordinate>>>, Vec<f64>) {
            (0..count)
                .map(|_| {
                    let (x, choice) = (stream.unit(), stream.below(4));
                    let step = if x < 0.37 { 0.0 } else { 4.0 };
                    let target = step + if choice == 2 { 2.0 } else { 0.0 } + stream.unit();
                    (vec![Some(Coordinate::Number(x)), Some(Coordinate::Choice(choice))], target)
                })
                .unzip()
        };
        let ((points, targets), (fresh, fresh_targets)) = (draw(600), draw(600));
        let bins = Bins::new(&axes, points.iter().map(Vec::as_slice));
        let rows: Vec<Vec<u8>> = points.iter().map(|point| bins.row(point)).collect();
        for level in [0.2, 0.5, 0.8] {
            let boosted = Boosted::fit(&Table::new(&bins, &rows), &targets, level);
            let flat = quantile(&mut targets.clone(), level);
            let (mut loss, mut flat_loss, mut below) = (0.0, 0.0, 0);
            for (point, target) in fresh.iter().zip(&fresh_targets) {
                let estimate = boosted.at(&bins.row(point));
                loss += pinball(*target, estimate, level);
                flat_loss += pinball(*target, flat, level);
                below += u32::from(*target <= estimate);
            }
            assert!(loss < 0.3 * flat_loss, "{level}: {loss} of {flat_loss}");
            assert!((f64::from(below) / 600.0 - level).abs() < 0.1, "{level}: {below} of 600");
        }
    }

    #[test]
    fn a_parameter_that_does_not_exist_has_a_bin_of_its_own() {
        let points: Vec<Vec<Option<Coordinate>>> =
            (0..40).map(|n| vec![(n % 2 == 0).then_some(Coordinate::Number(f64::from(n) / 40.0))]).collect();
        let targets: Vec<f64> = (0..40).map(|n| if n % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let bins = Bins::new(&[Axis::Number { levels: None }], points.iter().map(Vec::as_slice));
        let rows: Vec<Vec<u8>> = points.iter().map(|point| bins.row(point)).collect();
        let boosted = Boosted::fit(&Table::new(&bins, &rows), &targets, 0.5);
        assert!(boosted.at(&bins.row(&[None])) < -0.9);
        assert!(boosted.at(&bins.row(&[Some(Coordinate::Number(0.3))])) > 0.9);
    }
}
