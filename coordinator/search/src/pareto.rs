//! Several objectives at once: who dominates whom, in which front a trial stands, what volume a front covers.
//!
//! It works on losses: each entry is to be made small. Values that are not numbers are worst.

use std::cmp::Ordering;

/// How a trial did: one loss for each objective, and how far it is from keeping the constraints.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    pub losses: Vec<f64>,
    /// The sum of what each constraint is exceeded by, relative to its bound; 0: all are kept.
    pub violation: f64,
}

impl Score {
    /// Constrained domination (Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002, section
    /// VI): who keeps the constraints dominates who does not, who violates less dominates who violates more; of two that
    /// keep them, who is nowhere worse and somewhere better.
    pub fn dominates(&self, other: &Self) -> bool {
        match self.violation.total_cmp(&other.violation) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal if self.violation > 0.0 => false,
            Ordering::Equal => {
                let pairs = || self.losses.iter().zip(&other.losses);
                pairs().all(|(a, b)| a.total_cmp(b).is_le()) && pairs().any(|(a, b)| a.total_cmp(b).is_lt())
            }
        }
    }
}

/// For each score, the number of its front, from 0: the first is dominated by nobody, the next only by those before it.
pub fn fronts(scores: &[&Score]) -> Vec<usize> {
    let mut dominated: Vec<Vec<usize>> = vec![Vec::new(); scores.len()];
    let mut dominators = vec![0_usize; scores.len()];
    for (a, first) in scores.iter().enumerate() {
        for (b, second) in scores.iter().enumerate() {
            if first.dominates(second) {
                dominated[a].push(b);
                dominators[b] += 1;
            }
        }
    }
    let mut number_of = vec![0; scores.len()];
    let mut front: Vec<usize> = (0..scores.len()).filter(|place| dominators[*place] == 0).collect();
    let mut number = 0;
    while !front.is_empty() {
        let mut next = Vec::new();
        for place in front {
            number_of[place] = number;
            for below in &dominated[place] {
                dominators[*below] -= 1;
                if dominators[*below] == 0 {
                    next.push(*below);
                }
            }
        }
        next.sort_unstable();
        (front, number) = (next, number + 1);
    }
    number_of
}

/// How much room each score has among those of its front: the sum over objectives of the distance between its two
/// neighbours, in shares of the front's extent; infinite at the ends (the crowding distance of NSGA-II, section III.B).
pub fn crowding(front: &[&Score]) -> Vec<f64> {
    let mut room = vec![0.0; front.len()];
    let objectives = front.first().map_or(0, |score| score.losses.len());
    for objective in 0..objectives {
        let loss = |place: usize| front[place].losses[objective];
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|a, b| loss(*a).total_cmp(&loss(*b)).then(a.cmp(b)));
        let (Some(first), Some(last)) = (order.first().copied(), order.last().copied()) else { continue };
        let extent = loss(last) - loss(first);
        room[first] = f64::INFINITY;
        room[last] = f64::INFINITY;
        if extent > 0.0 && extent.is_finite() {
            for trio in order.windows(3) {
                room[trio[1]] += (loss(trio[2]) - loss(trio[0])) / extent;
            }
        }
    }
    room
}

/// The places of the scores from best to worst: by front, within it those with more room first, of equals the first.
pub fn ranking(scores: &[&Score]) -> Vec<usize> {
    let number_of = fronts(scores);
    let last = number_of.iter().copied().max().map_or(0, |last| last + 1);
    let mut ranked = Vec::with_capacity(scores.len());
    for number in 0..last {
        let mut places: Vec<usize> = (0..scores.len()).filter(|place| number_of[*place] == number).collect();
        let front: Vec<&Score> = places.iter().map(|place| scores[*place]).collect();
        let room = crowding(&front);
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by(|a, b| room[*b].total_cmp(&room[*a]).then(a.cmp(b)));
        places = order.into_iter().map(|n| places[n]).collect();
        ranked.extend(places);
    }
    ranked
}

/// The volume between a front and a point that is worse than all of it: what of the space the front is better than.
/// Points that are not better than `reference` everywhere add nothing. Exact, by slicing along the last objective.
pub fn hypervolume(front: &[&[f64]], reference: &[f64]) -> f64 {
    let inside = |point: &&&[f64]| point.iter().zip(reference).all(|(loss, worst)| loss < worst);
    let mut points: Vec<&[f64]> = front.iter().filter(inside).copied().collect();
    let Some((last, others)) = reference.split_last() else { return 0.0 };
    if others.is_empty() {
        return points.iter().map(|point| last - point[0]).fold(0.0, f64::max);
    }
    let depth = others.len();
    points.sort_by(|a, b| a[depth].total_cmp(&b[depth]));
    let mut volume = 0.0;
    for (place, point) in points.iter().enumerate() {
        let end = points.get(place + 1).map_or(*last, |next| next[depth]);
        if end > point[depth] {
            let slice: Vec<&[f64]> = points[..=place].iter().map(|point| &point[..depth]).collect();
            volume += (end - point[depth]) * hypervolume(&slice, others);
        }
    }
    volume
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(losses: &[f64], violation: f64) -> Score {
        Score { losses: losses.to_vec(), violation }
    }

    #[test]
    fn fronts_are_as_drawn() {
        let scores = [
            score(&[1.0, 5.0], 0.0),
            score(&[2.0, 2.0], 0.0),
            score(&[5.0, 1.0], 0.0),
            score(&[2.0, 5.0], 0.0),
            score(&[6.0, 6.0], 0.0),
            score(&[0.0, 0.0], 0.5),
            score(&[9.0, 9.0], 0.1),
            score(&[f64::NAN, 1.0], 0.0),
        ];
        assert_eq!(fronts(&scores.iter().collect::<Vec<_>>()), [0, 0, 0, 1, 2, 4, 3, 1]);
    }

    #[test]
    fn equal_scores_share_a_front_and_who_violates_is_behind() {
        let scores = [score(&[1.0, 1.0], 0.0), score(&[1.0, 1.0], 0.0), score(&[0.0, 0.0], 1e-9)];
        assert_eq!(fronts(&scores.iter().collect::<Vec<_>>()), [0, 0, 1]);
    }

    #[test]
    fn the_ranking_keeps_the_ends_of_a_front_and_then_the_lonely() {
        let scores = [[0.0, 10.0], [1.0, 9.0], [1.5, 8.5], [6.0, 4.0], [10.0, 0.0]].map(|losses| score(&losses, 0.0));
        assert_eq!(ranking(&scores.iter().collect::<Vec<_>>()), [0, 4, 3, 2, 1]);
    }

    #[test]
    fn volumes_are_as_counted() {
        let area = |points: &[[f64; 2]]| {
            hypervolume(&points.iter().map(<[f64; 2]>::as_slice).collect::<Vec<_>>(), &[4.0, 4.0])
        };
        assert_eq!(area(&[]), 0.0);
        assert_eq!(area(&[[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), 3.0 + 2.0 + 1.0);
        assert_eq!(area(&[[1.0, 3.0], [1.0, 3.0], [5.0, 0.0], [3.5, 3.5]]), 3.0);
        let cubes: [&[f64]; 2] = [&[0.0, 1.0, 1.0], &[1.0, 0.0, 0.0]];
        assert_eq!(hypervolume(&cubes, &[2.0, 2.0, 2.0]), 2.0 + 4.0 - 1.0);
        assert_eq!(hypervolume(&[&[1.0], &[0.5]], &[2.0]), 1.5);
    }
}
