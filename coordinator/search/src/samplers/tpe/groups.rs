//! Parameters that exist together: each group of them has a model of its own, fitted to the trials that have it.
//!
//! After Optuna's group decomposition for conditional spaces; here the space's conditions tell the groups.

use std::collections::BTreeMap;

use regatta_schemas::Params;
use regatta_schemas::study::{Domain, OneOrMany, Parameter};

use super::density::Scale;
use crate::random::Stream;
use crate::space::{Axis, Belief, Coordinate, Space, edges};

/// A parameter as the models see it.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    /// Among the space's parameters.
    pub place: usize,
    pub domain: Domain,
    pub scale: Scale,
    /// None: it has no prior.
    pub belief: Option<Belief>,
}

/// Parameters under the same condition.
#[derive(Debug)]
pub struct Group {
    first: Parameter,
    pub members: Vec<Member>,
}

/// Above so many levels, what lies between two of them no longer matters.
const LEVELS_MAX: u64 = 32;

impl Group {
    /// The groups of a space, those that conditions name before those that exist by them.
    pub fn all_of(space: &Space) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        let mut group_by_condition: BTreeMap<String, usize> = BTreeMap::new();
        for (place, (name, parameter)) in space.parameters().enumerate() {
            let (name, domain) = (name.to_owned(), parameter.domain.clone());
            let belief = space.belief(&name).cloned();
            let member = Member { name, place, scale: scale_of(&domain), domain, belief };
            let group = *group_by_condition.entry(condition(&parameter.when)).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Self { first: parameter.clone(), members: Vec::new() });
            }
            groups[group].members.push(member);
        }
        groups
    }

    /// Whether any of its parameters has a prior.
    pub fn has_priors(&self) -> bool {
        self.members.iter().any(|member| member.belief.is_some())
    }

    /// ln of how probable their priors make these numbers, relative to the uniform density.
    pub fn log_belief(&self, point: &[f64]) -> f64 {
        let of = |(member, number): (&Member, &f64)| {
            Some(member.belief.as_ref()?.log_ratio(member.scale.coordinate(*number)))
        };
        self.members.iter().zip(point).filter_map(of).sum()
    }

    /// Numbers drawn from their priors; uniform where there is none.
    pub fn draw_believed(&self, stream: &mut Stream) -> Vec<f64> {
        let draw = |member: &Member| {
            let share = stream.unit();
            let at = match (&member.belief, &member.scale) {
                (Some(belief), _) => belief.coordinate(share),
                (None, Scale::Choice(count)) => Coordinate::Choice((share * *count as f64) as usize),
                (None, Scale::Share | Scale::Levels(_)) => Coordinate::Number(share),
            };
            member.scale.number(at)
        };
        self.members.iter().map(draw).collect()
    }

    /// Whether it exists beside these.
    pub fn is_active(&self, params: &Params) -> bool {
        self.first.is_active(params)
    }

    /// Whether a trial's row has it.
    pub fn is_in(&self, row: &[f64]) -> bool {
        self.members.iter().all(|member| !row[member.place].is_nan())
    }
}

/// The same for equal conditions alone.
fn condition(when: &BTreeMap<String, OneOrMany>) -> String {
    format!("{when:?}")
}

fn scale_of(domain: &Domain) -> Scale {
    match Axis::of(domain) {
        Axis::Choice { count } => Scale::Choice(count),
        Axis::Number { levels: Some(levels) } if levels <= LEVELS_MAX => Scale::Levels(edges(domain, levels)),
        Axis::Number { .. } => Scale::Share,
    }
}
