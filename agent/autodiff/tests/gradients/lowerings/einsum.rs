//! Einstein sums, against sums over every index.

use std::collections::BTreeMap;

use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider};

use super::{check_lowered, is_refused};
use crate::check::Draw::Signed;
use crate::evaluator::Tensor;

/// Every assignment of indices to letters, without an ellipsis: `terms` are the operands' letters.
fn by_definition(terms: &[&str], output: &str, x: &[Tensor]) -> Tensor {
    let mut size_by_letter: BTreeMap<char, usize> = BTreeMap::new();
    for (term, tensor) in terms.iter().zip(x) {
        for (letter, &size) in term.chars().zip(&tensor.shape) {
            let known = size_by_letter.entry(letter).or_insert(1);
            *known = (*known).max(size);
        }
    }
    let shape: Vec<usize> = output.chars().map(|letter| size_by_letter[&letter]).collect();
    let mut sums = vec![0.0; shape.iter().product()];
    for mut rest in 0..size_by_letter.values().product::<usize>() {
        let mut index_by_letter: BTreeMap<char, usize> = BTreeMap::new();
        for (&letter, &size) in &size_by_letter {
            index_by_letter.insert(letter, rest % size);
            rest /= size;
        }
        let flat = |letters: &str, shape: &[usize]| {
            let axes = letters.chars().zip(shape);
            axes.fold(0, |at, (letter, &size)| at * size + if size == 1 { 0 } else { index_by_letter[&letter] })
        };
        let product: f64 =
            terms.iter().zip(x).map(|(term, tensor)| tensor.as_floats()[flat(term, &tensor.shape)]).product();
        sums[flat(output, &shape)] += product;
    }
    Tensor::floats(&shape, sums)
}

/// The equation, the same without an ellipsis, and the operands' shapes.
type Row<'a> = (&'a str, &'a [&'a str], &'a str, &'a [&'a [usize]]);

#[test]
fn sums_of_one_to_three_operands() {
    let rows: [Row<'_>; 22] = [
        ("ij->ji", &["ij"], "ji", &[&[2, 3]]),
        ("ij->", &["ij"], "", &[&[2, 3]]),
        ("ijk->j", &["ijk"], "j", &[&[2, 3, 4]]),
        ("ii->i", &["ii"], "i", &[&[3, 3]]),
        ("ii", &["ii"], "", &[&[3, 3]]),
        ("ba", &["ba"], "ab", &[&[2, 3]]),
        ("ij,jk->ik", &["ij", "jk"], "ik", &[&[2, 3], &[3, 4]]),
        ("ij,jk", &["ij", "jk"], "ik", &[&[2, 3], &[3, 4]]),
        ("ij,kj->ik", &["ij", "kj"], "ik", &[&[2, 3], &[4, 3]]),
        ("bij,bjk->bik", &["bij", "bjk"], "bik", &[&[2, 2, 3], &[2, 3, 4]]),
        ("bhqd,bhkd->bhqk", &["bhqd", "bhkd"], "bhqk", &[&[2, 2, 3, 2], &[2, 2, 4, 2]]),
        ("bqhd,bkhd->bhqk", &["bqhd", "bkhd"], "bhqk", &[&[2, 3, 2, 2], &[2, 4, 2, 2]]),
        ("i,j->ij", &["i", "j"], "ij", &[&[2], &[3]]),
        ("i,i->", &["i", "i"], "", &[&[4], &[4]]),
        ("ij,ij->i", &["ij", "ij"], "i", &[&[2, 3], &[2, 3]]),
        ("ij,ij->ij", &["ij", "ij"], "ij", &[&[2, 3], &[2, 3]]),
        ("ijk,ljm->lki", &["ijk", "ljm"], "lki", &[&[2, 3, 2], &[4, 3, 2]]),
        ("ij,j->i", &["ij", "j"], "i", &[&[2, 1], &[3]]),
        ("...ij,...jk->...ik", &["aij", "ajk"], "aik", &[&[2, 2, 3], &[2, 3, 2]]),
        ("...ij,jk->...ik", &["abij", "jk"], "abik", &[&[2, 1, 2, 3], &[3, 2]]),
        ("i...,...->...i", &["iab", "ab"], "abi", &[&[2, 3, 2], &[3, 1]]),
        ("ij, jk, kl -> il", &["ij", "jk", "kl"], "il", &[&[2, 3], &[3, 2], &[2, 2]]),
    ];
    for (equation, terms, output, shapes) in rows {
        let inputs: Vec<_> = shapes.iter().map(|shape| (*shape, Signed)).collect();
        let attributes = [("equation", Attribute::Text(equation.into()))];
        check_lowered("Einsum", &inputs, &attributes, &|x| by_definition(terms, output, x));
    }
}

#[test]
fn ill_formed_equations_are_refused() {
    let mut graph = Graph::new(Provider::Cpu);
    let x = graph.input("x", Dtype::F32, &[2, 3]).ok();
    for equation in ["", "ijk->i", "ij->k", "ij->ii", "i1->i", "ij,jk->ik", "ii->i", "i..j->i", "ij->i->j"] {
        assert!(
            is_refused(&mut graph, "Einsum", &[x], &[("equation", Attribute::Text(equation.into()))]),
            "{equation}"
        );
    }
}
