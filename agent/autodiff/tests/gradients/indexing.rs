//! Operators that pick elements by index.

use regatta_autodiff::graph::{Attribute, Graph, Value};

use crate::check::{Draw::Signed, check, check_with};

#[test]
fn rules_that_pick_elements() {
    check("Gather with a row twice", &[(&[4, 3], Signed)], |g, x| {
        let rows = g.int_vector(vec![1, 3, 1]);
        g.gather(x[0], rows)
    });
    check("Gather of a vector by a matrix", &[(&[4], Signed)], |g, x| {
        let flat = g.int_vector(vec![0, 1, -1, 3, 0, 2]);
        let rows = g.reshape(flat, &[2, 3])?;
        let squares = g.mul(x[0], x[0])?;
        g.gather(squares, rows)
    });
}

#[test]
fn gathers_along_every_axis() {
    for axis in [-1, 0, 1] {
        for (numbers, shape) in [(vec![1, -1, 1, 0], vec![4]), (vec![0, 2, 2, -2], vec![2, 2])] {
            let build = |g: &mut Graph, x: &[Value]| {
                let flat = g.int_vector(numbers.clone());
                let indices = g.reshape(flat, &shape)?;
                g.node("Gather", &[x[0], indices], &[("axis", Attribute::Int(axis))])
            };
            check_with("Gather", &[(&[3, 4, 5], Signed)], &build);
        }
        let build = |g: &mut Graph, x: &[Value]| {
            let index = g.int_scalar(-2);
            g.node("Gather", &[x[0], index], &[("axis", Attribute::Int(axis))])
        };
        check_with("Gather of one slice", &[(&[3, 4, 5], Signed)], &build);
        let build = |g: &mut Graph, x: &[Value]| {
            let flat = g.int_vector(vec![1, 0, -1, 1]);
            let indices = g.reshape(flat, &[2, 1, 2])?;
            g.node("GatherElements", &[x[0], indices], &[("axis", Attribute::Int(axis))])
        };
        check_with("GatherElements", &[(&[2, 2, 3], Signed)], &build);
    }
}

#[test]
fn gathers_of_tuples() {
    check("GatherND of slices", &[(&[3, 4, 2], Signed)], |g, x| {
        let flat = g.int_vector(vec![0, 1, 2, -1, 0, 1]);
        let tuples = g.reshape(flat, &[3, 2])?;
        g.node("GatherND", &[x[0], tuples], &[])
    });
    check("GatherND of elements", &[(&[3, 4], Signed)], |g, x| {
        let flat = g.int_vector(vec![0, 1, 2, -1, 0, 1, 1, 1]);
        let tuples = g.reshape(flat, &[2, 2, 2])?;
        g.node("GatherND", &[x[0], tuples], &[])
    });
    for batch in [1, 2] {
        let build = |g: &mut Graph, x: &[Value]| {
            let flat = g.int_vector(vec![0, 1, 1, 2, -1, 1]);
            let tuples = g.reshape(flat, &[2, 3, 1])?;
            g.node("GatherND", &[x[0], tuples], &[("batch_dims", Attribute::Int(batch))])
        };
        check_with("GatherND in batches", &[(&[2, 3, 4], Signed)], &build);
    }
}

#[test]
fn scatters_that_set_or_add() {
    for reduction in ["none", "add"] {
        let build = |g: &mut Graph, x: &[Value]| {
            let flat = g.int_vector(vec![2, 0, 1, 3]);
            let indices = g.reshape(flat, &[2, 2])?;
            let attributes = [("axis", Attribute::Int(-1)), ("reduction", Attribute::Text(reduction.into()))];
            g.node("ScatterElements", &[x[0], indices, x[1]], &attributes)
        };
        check_with("ScatterElements", &[(&[3, 4], Signed), (&[2, 2], Signed)], &build);
        let build = |g: &mut Graph, x: &[Value]| {
            let flat = g.int_vector(vec![2, 0, -1, 3]);
            let tuples = g.reshape(flat, &[2, 2])?;
            g.node("ScatterND", &[x[0], tuples, x[1]], &[("reduction", Attribute::Text(reduction.into()))])
        };
        check_with("ScatterND", &[(&[3, 4, 2], Signed), (&[2, 2], Signed)], &build);
    }
    check("ScatterElements that adds twice to a place", &[(&[3], Signed), (&[2], Signed)], |g, x| {
        let indices = g.int_vector(vec![1, 1]);
        g.node("ScatterElements", &[x[0], indices, x[1]], &[("reduction", Attribute::Text("add".into()))])
    });
}
