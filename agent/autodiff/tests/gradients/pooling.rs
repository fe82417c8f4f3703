//! Poolings, in the formulations of both providers.

use regatta_autodiff::graph::{Attribute, Constant, Dtype, Elements, Graph, Provider, Value};

use crate::check::{Draw::Signed, check_at, check_on};

type Lists<'a> = &'a [(&'a str, &'a [i64])];

fn attributes(lists: Lists<'_>, flags: &[(&'static str, i64)]) -> Vec<(&'static str, Attribute)> {
    let names = ["kernel_shape", "strides", "dilations", "pads"];
    let list =
        |name: &'static str| lists.iter().find(|(given, _)| *given == name).map(|(_, ints)| (name, ints.to_vec()));
    let lists = names.into_iter().filter_map(list).map(|(name, ints)| (name, Attribute::Ints(ints)));
    lists.chain(flags.iter().map(|&(name, flag)| (name, Attribute::Int(flag)))).collect()
}

fn check(op: &str, image: &[usize], lists: Lists<'_>, flags: &[(&'static str, i64)]) {
    let build = |g: &mut Graph, x: &[Value]| g.node(op, x, &attributes(lists, flags));
    for provider in [Provider::Cpu, Provider::Cuda] {
        check_on(provider, op, &[(image, Signed)], &build);
    }
}

const FORMS: &[(&[usize], Lists<'static>)] = &[
    (&[2, 2, 6], &[("kernel_shape", &[2]), ("strides", &[2])]),
    (&[1, 2, 7], &[("kernel_shape", &[3]), ("strides", &[2]), ("pads", &[1, 1])]),
    (&[2, 2, 4, 6], &[("kernel_shape", &[2, 3]), ("strides", &[2, 3])]),
    (&[1, 2, 5, 7], &[("kernel_shape", &[2, 3]), ("strides", &[2, 3])]),
    (&[1, 2, 5, 6], &[("kernel_shape", &[3, 2]), ("strides", &[1, 2]), ("pads", &[1, 0, 1, 1])]),
    (&[1, 1, 7, 6], &[("kernel_shape", &[2, 2]), ("dilations", &[2, 3])]),
    (&[1, 1, 4, 2, 4], &[("kernel_shape", &[2, 2, 2]), ("strides", &[2, 2, 2])]),
    (&[1, 1, 3, 4, 3], &[("kernel_shape", &[2, 2, 2]), ("pads", &[0, 0, 1, 1, 0, 0])]),
];

#[test]
fn greatest_elements() {
    for (image, lists) in FORMS {
        check("MaxPool", image, lists, &[]);
        check("MaxPool", image, lists, &[("ceil_mode", 1)]);
    }
    check("GlobalMaxPool", &[2, 2, 3, 2], &[], &[]);
}

#[test]
fn averages() {
    for (image, lists) in FORMS {
        for count_include_pad in [0, 1] {
            for ceil_mode in [0, 1] {
                let flags = [("count_include_pad", count_include_pad), ("ceil_mode", ceil_mode)];
                check("AveragePool", image, lists, &flags);
            }
        }
    }
    check("GlobalAveragePool", &[2, 2, 3, 2], &[], &[]);
}

/// What flows back through the pooling of a row, with or without a rectifier after it.
fn flows_back(rectified: bool, points: &[f64], lists: Lists<'_>, expected: &[f64]) {
    let build = |g: &mut Graph, x: &[Value]| {
        let image = g.reshape(x[0], &[1, 1, points.len()])?;
        let pooled = g.node("MaxPool", &[image], &attributes(lists, &[]))?;
        if rectified { g.relu(pooled) } else { Ok(pooled) }
    };
    check_at(&build, &[points], &[expected]);
}

#[test]
fn equally_great_elements_share_what_flows_to_their_window() {
    let side_by_side: Lists<'_> = &[("kernel_shape", &[2]), ("strides", &[2])];
    flows_back(false, &[3.0, 3.0, 1.0, 2.0], side_by_side, &[0.5, 0.5, 0.0, 1.0]);
    flows_back(true, &[0.0, 0.0, 1.0, 2.0], side_by_side, &[0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn first_of_equally_great_elements_takes_it_where_windows_overlap() {
    let overlapping: Lists<'_> = &[("kernel_shape", &[2])];
    flows_back(false, &[3.0, 3.0, 1.0, 2.0], overlapping, &[1.0, 1.0, 0.0, 1.0]);
}

/// Of an axis that is too long for a matrix: the sum of averages over three, each times its place.
#[test]
fn averages_of_a_long_axis() {
    const LENGTH: usize = 2100;
    let build = |g: &mut Graph, x: &[Value]| {
        let signal = g.reshape(x[0], &[1, 1, LENGTH])?;
        let lists: Lists<'_> = &[("kernel_shape", &[3]), ("pads", &[1, 1])];
        let averages = g.node("AveragePool", &[signal], &attributes(lists, &[("count_include_pad", 1)]))?;
        let elements = Elements::Float((0..LENGTH).map(|place| place as f64).collect());
        let places = g.constant(Constant { dtype: g.dtype(x[0]), shape: vec![LENGTH], elements });
        g.mul(averages, places)
    };
    let last = LENGTH as f64 - 1.0;
    let mut expected: Vec<f64> = (0..LENGTH).map(|place| place as f64).collect();
    (expected[0], expected[LENGTH - 1]) = (1.0 / 3.0, (last + last - 1.0) / 3.0);
    check_at(&build, &[&[0.5; LENGTH]], &[&expected]);
}

#[test]
fn malformed_poolings_are_refused() {
    let forms: [(&[usize], Lists<'_>); 6] = [
        (&[1, 1, 4], &[]),
        (&[1, 1], &[("kernel_shape", &[])]),
        (&[1, 1, 4], &[("kernel_shape", &[5])]),
        (&[1, 1, 4], &[("kernel_shape", &[-1])]),
        (&[1, 1, 4], &[("kernel_shape", &[2]), ("pads", &[i64::MAX, i64::MAX])]),
        (&[1, 1, 4], &[("kernel_shape", &[2]), ("strides", &[0])]),
    ];
    for (image, lists) in forms {
        for op in ["MaxPool", "AveragePool"] {
            let mut graph = Graph::new(Provider::Cpu);
            let x = graph.input("x", Dtype::F32, image).unwrap();
            assert!(graph.node(op, &[x], &attributes(lists, &[("ceil_mode", 1)])).is_err(), "{op} {image:?} {lists:?}");
        }
    }
}
