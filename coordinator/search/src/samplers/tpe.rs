//! Tree-structured Parzen estimator (Bergstra et al., 2011): a density of good configurations, one of all others, and
//! the candidate where the first outweighs the second the most.
//!
//! Multivariate (Falkner et al., BOHB, 2018), for each group of parameters that exist together; splits and bandwidths
//! after Watanabe, "Tree-structured Parzen estimator" (2023). A trial that runs or is pending counts as not good where
//! nothing was measured yet (constant liar), one that failed always. The density of the good holds the priors of the
//! parameters, the less the more trials have a loss.

mod density;
mod groups;
mod normal;
mod ranking;

use std::cell::OnceCell;

use regatta_schemas::Params;
use regatta_schemas::study::Goal;

use self::density::{Density, Points, Scale};
use self::groups::Group;
use self::normal::Normal;
use self::ranking::Ranking;
use super::Sampler;
use super::history::History;
use super::sobol::Design;
use super::tried::Tried;
use crate::news::{Measurement, News};
use crate::random::{Purpose, Stream};
use crate::space::{Coordinate, Space, value_at};

/// Trials with a loss before a model is asked.
const STARTUP: usize = 10;

/// Candidates drawn from the density of the good.
const CANDIDATES: usize = 24;

/// The priors weigh as much as so many trials with a loss.
const FAITH: f64 = 10.0;

/// Draws candidates. The name is none that a parameter can have.
const CANDIDATE: &str = "candidates of a group";

#[derive(Debug)]
pub struct Tpe {
    seed: u64,
    design: Design,
    tried: Tried,
    ranking: Ranking,
    groups: Vec<Group>,
    /// How many parameters the space has: the length of a row.
    width: usize,
    /// Where each trial lies, one row after the other; NaN: the parameter does not exist there.
    rows: Vec<f64>,
    normal: Normal,
}

impl Tpe {
    pub fn new(space: Space, goal: Goal, seed: u64) -> Self {
        let width = space.parameters().len();
        Self {
            seed,
            design: Design::new(space.clone(), seed),
            tried: Tried::new(space.clone(), seed),
            groups: Group::all_of(&space),
            width,
            ranking: Ranking::new(History::new(space, goal)),
            rows: Vec::new(),
            normal: Normal::new(),
        }
    }

    fn row(&self, params: &Params) -> Vec<f64> {
        let point = self.ranking.history().point(params);
        let mut row = vec![f64::NAN; self.width];
        for member in self.groups.iter().flat_map(|group| &group.members) {
            row[member.place] = point[member.place].map_or(f64::NAN, |at| member.scale.number(at));
        }
        row
    }

    /// The candidates of a group, the most promising first.
    fn candidates(&self, place: usize, index: u64, pending: &[Vec<f64>]) -> Vec<Vec<Coordinate>> {
        let group = &self.groups[place];
        let scales: Vec<&Scale> = group.members.iter().map(|member| &member.scale).collect();
        let (good, others) = self.split(group, pending);
        let good = Good { group, faith: self.faith(group), density: Density::new(&good, &scales, &self.normal) };
        let others = Density::new(&others, &scales, &self.normal);
        let mut stream = Stream::new(Purpose { study_seed: self.seed, name: CANDIDATE, index, redraw: place as u64 });
        let mut scored: Vec<(f64, Vec<f64>)> = (0..CANDIDATES)
            .map(|_| {
                let point = good.draw(&mut stream);
                (good.log_ratio(&point) - others.log_ratio(&point), point)
            })
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let coordinates =
            |point: &[f64]| scales.iter().zip(point).map(|(scale, number)| scale.coordinate(*number)).collect();
        scored.iter().map(|(_, point)| coordinates(point)).collect()
    }

    /// How much of the density of the good is that of the group's priors.
    fn faith(&self, group: &Group) -> f64 {
        let losses = self.ranking.best_first().len();
        if group.has_priors() { FAITH / (FAITH + losses as f64) } else { 0.0 }
    }

    /// The good trials that have the group, and all others.
    fn split(&self, group: &Group, pending: &[Vec<f64>]) -> (Points, Points) {
        let row = |number: usize| &self.rows[number * self.width..(number + 1) * self.width];
        let ranked: Vec<usize> = self.ranking.best_first().filter(|number| group.is_in(row(*number))).collect();
        let good = &ranked[..good_of(ranked.len())];
        let mut is_good = vec![false; self.rows.len() / self.width];
        good.iter().for_each(|number| is_good[*number] = true);
        let good: Vec<_> =
            good.iter().enumerate().map(|(rank, number)| (row(*number), weight(rank, good.len()))).collect();
        let others = (0..is_good.len()).filter(|number| !is_good[*number]).map(row);
        let others = others.chain(pending.iter().map(Vec::as_slice));
        let others: Vec<_> = others.filter(|row| group.is_in(row)).collect();
        (points(group, &good), points(group, &thinned(&others)))
    }
}

/// The density of the good: of those that were measured, and of those that are believed to be.
struct Good<'a> {
    group: &'a Group,
    faith: f64,
    density: Density<'a>,
}

impl Good<'_> {
    fn draw(&self, stream: &mut Stream) -> Vec<f64> {
        if self.faith > 0.0 && stream.unit() < self.faith {
            return self.group.draw_believed(stream);
        }
        self.density.draw(stream)
    }

    fn log_ratio(&self, point: &[f64]) -> f64 {
        let measured = self.density.log_ratio(point);
        if self.faith == 0.0 {
            return measured;
        }
        let (measured, believed) = ((1.0 - self.faith).ln() + measured, self.faith.ln() + self.group.log_belief(point));
        let first = measured.max(believed);
        first + ((measured - first).exp() + (believed - first).exp()).ln()
    }
}

impl Sampler for Tpe {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        if self.ranking.best_first().len() < STARTUP {
            return self.tried.first_new(index, pending, |redraw| self.design.redrawn(index, redraw));
        }
        let pending_rows: Vec<Vec<f64>> = pending.iter().map(|params| self.row(params)).collect();
        let candidates: Vec<OnceCell<Vec<Vec<Coordinate>>>> = vec![OnceCell::new(); self.groups.len()];
        let of = |group: usize| candidates[group].get_or_init(|| self.candidates(group, index, &pending_rows));
        let draw = |redraw: u64| {
            let mut params = Params::new();
            for (place, group) in self.groups.iter().enumerate() {
                if !group.is_active(&params) {
                    continue;
                }
                for (member, at) in group.members.iter().zip(&of(place)[redraw as usize]) {
                    params.insert(member.name.clone(), value_at(&member.domain, *at));
                }
            }
            params
        };
        self.tried.first_new(index, pending, |redraw| {
            if redraw < CANDIDATES as u64 { draw(redraw) } else { self.design.redrawn(index, redraw) }
        })
    }

    fn observe(&mut self, news: News) {
        self.tried.observe(news);
        match news {
            News::Proposed { trial, params, .. } => {
                if self.ranking.propose(trial, news) {
                    let row = self.row(params);
                    self.rows.extend(row);
                }
            }
            News::Measured(Measurement { trial, .. }) | News::Ended { trial, .. } => self.ranking.observe(trial, news),
        }
    }
}

/// How many of so many trials are good.
fn good_of(count: usize) -> usize {
    count.div_ceil(10).min(GOOD_MAX)
}

/// More would blur the density of the good when the search has closed in.
const GOOD_MAX: usize = 25;

/// Of the good the better count more: in proportion to how many they are at least as good as; 1 on average.
fn weight(rank: usize, good: usize) -> f64 {
    2.0 * (good - rank) as f64 / (good + 1) as f64
}

/// Of the others so many of the newest count one by one, with what is running among them...
const NEWEST: usize = 128;
/// ... and of those before, at most so many in place of all. More of them would sharpen the density of what is not
/// good where it hardly matters, and the time to think would grow with the study.
const OLDER_MAX: usize = 384;

/// The others, oldest first, with weights that add up to their number.
fn thinned<'a>(others: &[&'a [f64]]) -> Vec<(&'a [f64], f64)> {
    let (older, newest) = others.split_at(others.len().saturating_sub(NEWEST));
    let kept = older.len().min(OLDER_MAX);
    let weight = older.len() as f64 / kept.max(1) as f64;
    let spaced = (0..kept).map(|place| (older[place * older.len() / kept], weight));
    spaced.chain(newest.iter().map(|row| (*row, 1.0))).collect()
}

fn points(group: &Group, rows: &[(&[f64], f64)]) -> Points {
    let column = |place: usize| rows.iter().map(|(row, _)| row[place]).collect();
    let weights = rows.iter().map(|(_, weight)| *weight).chain([PRIOR_WEIGHT]).collect();
    Points { columns: group.members.iter().map(|member| column(member.place)).collect(), weights }
}

/// The prior counts as so many points.
const PRIOR_WEIGHT: f64 = 1.0;

/// How wide a kernel is; of choices, the probability of all others.
///
/// Of numbers, Scott's rule by how the points spread, but never so narrow that the search closes in for good (Bergstra's
/// "magic clipping").
fn bandwidth(scale: &Scale, column: &[f64], parameters: usize) -> f64 {
    let count = column.len() as f64;
    match scale {
        Scale::Choice(1) => 0.0,
        Scale::Choice(choices) => {
            let others = (choices - 1) as f64;
            (others / (count + others + 2.0)).max(OTHER_CHOICES_MIN)
        }
        Scale::Share => scott(column, 1.0, parameters),
        Scale::Levels(begins) => {
            let levels = (begins.len() - 1) as f64;
            scott(column, levels, parameters).max(OTHER_LEVELS_MIN / levels)
        }
    }
}

/// Of numbers in [0, `all`]; in shares of that.
fn scott(column: &[f64], all: f64, parameters: usize) -> f64 {
    let count = column.len().max(1) as f64;
    let mean = column.iter().sum::<f64>() / count;
    let variance = column.iter().map(|number| (number - mean) * (number - mean)).sum::<f64>() / count;
    (variance.sqrt() / all * count.powf(-1.0 / (parameters as f64 + 4.0))).max(1.0 / (count + 1.0).min(100.0))
}

/// A choice that was never good is tried now and then: the good are few, and what they were bad with may have been
/// the other parameters.
const OTHER_CHOICES_MIN: f64 = 0.15;

/// The same for levels: so many levels' width leaves 15 % to the others.
const OTHER_LEVELS_MIN: f64 = 0.35;
