//! A Gaussian process: proposes where the loss is expected to improve the most on the best one.
//!
//! Trials that were stopped or still run count as what they are expected to come to ([`ladder`]), pending ones as
//! though they had measured a little worse than that ([`posterior`]). The kernel's numbers are part of the fold: they
//! are fitted when so many more measurements came, whenever somebody asks.
//!
//! Where parameters have priors, the improvement is weighed by their density to a power that falls as trials measure
//! (Hvarfner et al., "piBO: augmenting acquisition functions with user beliefs", 2022).

mod acquisition;
mod candidates;
mod cholesky;
mod fit;
mod kernel;
mod ladder;
mod posterior;

use std::borrow::Cow;
use std::collections::BTreeMap;

use regatta_schemas::reasons::Outcome;
use regatta_schemas::study::StudyFile;
use regatta_schemas::{Params, TrialId};

use self::candidates::Search;
use self::fit::Evidence;
use self::kernel::{Geometry, Hyper, Site};
use self::ladder::{Curve, Ladder, Outlook};
use self::posterior::Posterior;
use super::Sampler;
use super::history::{History, Observed};
use super::neighbour::anywhere;
use super::tried::Tried;
use crate::news::News;
use crate::random::{Purpose, Stream};
use crate::space::Space;

/// Trials that a model is made of at most.
const MODELLED_MAX: usize = 256;
/// Trials that the kernel is fitted to at most.
const FITTED_MAX: usize = 128;
/// The newest of the trials that are pending at most.
const PENDING_MAX: usize = 64;
/// A fit's first steps, and those of one that goes on from an earlier one.
const FIRST_STEPS: u32 = 60;
const MORE_STEPS: u32 = 15;
/// The kernel is fitted again when this share more was measured.
const REFIT_SHARE: f64 = 0.1;
/// The best trials near which it looks.
const STARTS: usize = 5;
/// How unsure it is that a failed trial would fail again.
const DOUBT_OF_FAILURE: f64 = 0.25;
/// The priors' density counts once when so many trials measured something, half when twice as many did.
const FAITH: f64 = 10.0;
/// What the numbers are drawn for. The names are none that a parameter can have.
const DESIGN: &str = "gp: a start";
const CANDIDATES: &str = "gp: candidates";

#[derive(Debug)]
pub struct Gp {
    seed: u64,
    history: History,
    tried: Tried,
    geometry: Geometry,
    ladder: Ladder,
    hyper: Hyper,
    /// Trials that measured anything.
    measured: usize,
    /// Rungs that trials reached, all together, and at how many the kernel is fitted next.
    rungs: usize,
    next_fit: usize,
}

/// A trial as the model has it.
struct Row<'a> {
    observed: &'a Observed,
    outlook: Outlook,
}

impl Gp {
    pub fn new(study: &StudyFile) -> Self {
        let space = Space::new(&study.space);
        let geometry = Geometry::new(&space);
        Self {
            seed: study.seed,
            tried: Tried::new(space.clone(), study.seed),
            hyper: Hyper::prior(&geometry),
            geometry,
            ladder: Ladder::new(study.budget.resource),
            history: History::new(space, study.objective.goal),
            measured: 0,
            rungs: 0,
            next_fit: 0,
        }
    }

    /// Whether enough was measured for a model to say more than chance.
    fn is_informed(&self) -> bool {
        self.measured >= (self.geometry.parameters() + 3).min(12)
    }

    fn note_rungs(&mut self, trial: TrialId, before: usize) {
        let after = self.rungs_of(trial);
        self.measured += usize::from(before == 0 && after > 0);
        self.rungs += after - before;
        if self.is_informed() && self.rungs >= self.next_fit {
            let steps = if self.next_fit == 0 { FIRST_STEPS } else { MORE_STEPS };
            self.hyper = self.hyper.fitted(&self.geometry, &self.evidence(&self.rows(), FITTED_MAX).0, steps);
            self.next_fit = self.rungs + 1 + (self.rungs as f64 * REFIT_SHARE) as usize;
        }
    }

    /// Rungs that the trial reached; at least one if it measured anything.
    fn rungs_of(&self, trial: TrialId) -> usize {
        let last = self.history.get(trial).and_then(Observed::last);
        last.map_or(0, |(resource, _)| self.ladder.reached(resource).max(1))
    }

    /// The trials of which something is known.
    fn rows(&self) -> Vec<Row<'_>> {
        let scale = self.history.scale();
        let curve = |observed: &Observed| {
            let losses: Cow<BTreeMap<u32, f64>> = match &scale {
                None => Cow::Borrowed(&observed.losses),
                Some(scale) => {
                    Cow::Owned(observed.losses.iter().map(|(at, loss)| (*at, scale.draw_in(*loss))).collect())
                }
            };
            self.ladder.curve(&losses, observed.outcome == Some(Outcome::Finished))
        };
        let trials = || self.history.trials().map(|(_, observed)| observed);
        let sound = trials().filter(|observed| !observed.has_failed());
        let (sound, curves): (Vec<&Observed>, Vec<Curve>) =
            sound.filter_map(|observed| Some((observed, curve(observed)?))).unzip();
        let outlooks = self.ladder.outlooks(&curves);
        let worst = outlooks.iter().map(|outlook| outlook.loss).fold(0.0, f64::max);
        let failure = Outlook { loss: worst, doubt: DOUBT_OF_FAILURE };
        let failed =
            trials().filter(|observed| observed.has_failed()).map(|observed| Row { observed, outlook: failure });
        sound.into_iter().zip(outlooks).map(|(observed, outlook)| Row { observed, outlook }).chain(failed).collect()
    }

    /// Standardised, and the rows behind it.
    fn evidence<'a, 'b>(&self, rows: &'b [Row<'a>], count_max: usize) -> (Evidence, Vec<&'b Row<'a>>) {
        let chosen: Vec<&Row> = thinned(rows, count_max).into_iter().map(|place| &rows[place]).collect();
        let count = chosen.len().max(1) as f64;
        let mean = chosen.iter().map(|row| row.outlook.loss).sum::<f64>() / count;
        let variance = chosen.iter().map(|row| (row.outlook.loss - mean).powi(2)).sum::<f64>() / count;
        let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        let evidence = Evidence {
            sites: chosen.iter().map(|row| self.geometry.site(&row.observed.point)).collect(),
            losses: chosen.iter().map(|row| (row.outlook.loss - mean) / deviation).collect(),
            doubts: chosen.iter().map(|row| row.outlook.doubt / (deviation * deviation)).collect(),
        };
        (evidence, chosen)
    }

    /// Where trials go on that the model does not know the end of: the newest.
    fn pending_sites(&self, pending: &[&Params]) -> Vec<Site> {
        let is_open = |observed: &Observed| {
            let reached = observed.last().map_or(0, |(resource, _)| self.ladder.reached(resource));
            observed.outcome.is_none() && reached < self.ladder.len()
        };
        let open = self.history.trials().map(|(_, observed)| observed).filter(|observed| is_open(observed));
        let mut sites: Vec<Site> = open.map(|observed| self.geometry.site(&observed.point)).collect();
        sites.extend(pending.iter().map(|params| self.geometry.site(&self.history.point(params))));
        sites.split_off(sites.len().saturating_sub(PENDING_MAX))
    }

    /// The model's proposals for configuration number `index`, the most promising first.
    fn modelled(&self, index: u64, pending: &[&Params]) -> Vec<Params> {
        let rows = self.rows();
        let (evidence, mut chosen) = self.evidence(&rows, MODELLED_MAX);
        let posterior = Posterior::new(&self.geometry, &self.hyper, &evidence, &self.pending_sites(pending));
        let faith = FAITH / self.measured.max(1) as f64;
        let search = Search { history: &self.history, geometry: &self.geometry, posterior: &posterior, faith };
        let mut stream = self.stream(CANDIDATES, index, 0);
        chosen.sort_by(|a, b| a.outlook.loss.total_cmp(&b.outlook.loss));
        let starts: Vec<&Params> = chosen.into_iter().take(STARTS).map(|row| &row.observed.params).collect();
        search.ranked(&starts, &mut stream)
    }

    fn draw(&self, index: u64, redraw: u64) -> Params {
        anywhere(self.history.space(), &mut self.stream(DESIGN, index, redraw))
    }

    fn stream(&self, name: &str, index: u64, redraw: u64) -> Stream {
        Stream::new(Purpose { study_seed: self.seed, name, index, redraw })
    }
}

impl Sampler for Gp {
    fn propose(&self, index: u64, pending: &[&Params]) -> Option<Params> {
        let ranked = if self.is_informed() { self.modelled(index, pending) } else { Vec::new() };
        let draw = |turn: u64| ranked.get(turn as usize).cloned().unwrap_or_else(|| self.draw(index, turn));
        self.tried.first_new(index, pending, draw)
    }

    fn observe(&mut self, news: News) {
        self.tried.observe(news);
        let News::Measured(measurement) = news else { return self.history.observe(news) };
        let before = self.rungs_of(measurement.trial);
        self.history.observe(news);
        self.note_rungs(measurement.trial, before);
    }
}

/// Which rows to keep of too many, in their order: half of them the best, a quarter the newest, and the rest spread
/// evenly over all others, so that it is not forgotten where losses are high.
fn thinned(rows: &[Row], count_max: usize) -> Vec<usize> {
    let mut by_loss: Vec<usize> = (0..rows.len()).collect();
    if rows.len() <= count_max {
        return by_loss;
    }
    by_loss.sort_by(|a, b| rows[*a].outlook.loss.total_cmp(&rows[*b].outlook.loss));
    let mut is_kept = vec![false; rows.len()];
    by_loss.iter().take(count_max / 2).for_each(|place| is_kept[*place] = true);
    let newest: Vec<usize> = (0..rows.len()).rev().filter(|place| !is_kept[*place]).take(count_max / 4).collect();
    newest.into_iter().for_each(|place| is_kept[place] = true);
    let others: Vec<usize> = by_loss.into_iter().filter(|place| !is_kept[*place]).collect();
    let left = count_max - count_max / 2 - count_max / 4;
    (0..left).for_each(|turn| is_kept[others[turn * others.len() / left]] = true);
    (0..rows.len()).filter(|place| is_kept[*place]).collect()
}
