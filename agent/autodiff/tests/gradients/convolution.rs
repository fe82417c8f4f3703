//! Convolutions, in the formulations of both providers.

use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider, Value};

use crate::check::{Draw::Signed, check_on};

/// Kernel, strides, dilations and pads a spatial axis; groups; what a transposed convolution adds.
struct Form<'a> {
    image: &'a [usize],
    kernel: &'a [usize],
    strides: &'a [i64],
    dilations: &'a [i64],
    pads: &'a [i64],
    groups: i64,
    extra: &'a [i64],
}

impl Form<'_> {
    fn attributes(&self) -> Vec<(&'static str, Attribute)> {
        let given = [("strides", self.strides), ("dilations", self.dilations), ("pads", self.pads)];
        let lists = given.into_iter().chain([("output_padding", self.extra)]);
        let lists = lists.filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name, Attribute::Ints(list.into())));
        lists.chain([("group", Attribute::Int(self.groups))]).collect()
    }

    fn check(&self, op: &str, bias: usize) {
        let build = |g: &mut Graph, x: &[Value]| g.node(op, x, &self.attributes());
        let bias = [bias];
        let operands = [(self.image, Signed), (self.kernel, Signed), (&bias[..], Signed)];
        for provider in [Provider::Cpu, Provider::Cuda] {
            for count in [2, 3] {
                check_on(provider, op, &operands[..count], &build);
            }
        }
    }
}

const PLAIN: Form<'_> =
    Form { image: &[], kernel: &[], strides: &[], dilations: &[], pads: &[], groups: 1, extra: &[] };

#[test]
fn convolutions_of_one_axis() {
    Form { image: &[2, 2, 7], kernel: &[3, 2, 3], ..PLAIN }.check("Conv", 3);
    Form { image: &[2, 2, 8], kernel: &[3, 2, 3], strides: &[2], pads: &[1, 2], ..PLAIN }.check("Conv", 3);
    Form { image: &[2, 4, 9], kernel: &[4, 2, 3], dilations: &[2], strides: &[3], groups: 2, ..PLAIN }.check("Conv", 4);
    Form { image: &[1, 1, 90], kernel: &[1, 1, 2], ..PLAIN }.check("Conv", 1);
}

#[test]
fn convolutions_of_two_axes() {
    Form { image: &[2, 2, 4, 5], kernel: &[3, 2, 3, 3], pads: &[1, 1, 1, 1], ..PLAIN }.check("Conv", 3);
    Form { image: &[2, 2, 5, 6], kernel: &[2, 2, 3, 2], strides: &[2, 3], pads: &[0, 1, 1, 0], ..PLAIN }
        .check("Conv", 2);
    Form { image: &[1, 2, 6, 7], kernel: &[2, 2, 2, 3], dilations: &[3, 2], pads: &[1, 2, 2, 1], ..PLAIN }
        .check("Conv", 2);
    // Taps that see nothing but pads, as those of a DeepLab.
    Form { image: &[2, 2, 3, 2], kernel: &[3, 2, 3, 3], dilations: &[6, 5], pads: &[6, 5, 6, 5], ..PLAIN }
        .check("Conv", 3);
    Form { image: &[1, 2, 2, 3], kernel: &[2, 2, 2, 3], strides: &[2, 1], dilations: &[7, 4], pads: &[4; 4], ..PLAIN }
        .check("Conv", 2);
}

#[test]
fn convolutions_with_few_products() {
    Form { image: &[2, 3, 3, 2], kernel: &[2, 3, 1, 1], ..PLAIN }.check("Conv", 2);
    Form { image: &[2, 2, 4, 6], kernel: &[3, 2, 2, 3], strides: &[2, 3], ..PLAIN }.check("Conv", 3);
    Form { image: &[2, 2, 5, 7], kernel: &[3, 2, 2, 3], strides: &[2, 3], ..PLAIN }.check("Conv", 3);
    Form { image: &[2, 2, 5, 4], kernel: &[3, 2, 1, 1], strides: &[2, 2], ..PLAIN }.check("Conv", 3);
}

#[test]
fn convolutions_in_groups() {
    Form { image: &[2, 4, 4, 3], kernel: &[6, 2, 2, 2], groups: 2, ..PLAIN }.check("Conv", 6);
    Form { image: &[2, 3, 4, 4], kernel: &[3, 1, 3, 3], groups: 3, pads: &[1, 1, 1, 1], ..PLAIN }.check("Conv", 3);
    Form { image: &[2, 2, 5, 4], kernel: &[4, 1, 3, 2], groups: 2, strides: &[2, 1], ..PLAIN }.check("Conv", 4);
    Form { image: &[1, 4, 4, 4], kernel: &[2, 2, 2, 2], groups: 2, strides: &[2, 2], ..PLAIN }.check("Conv", 2);
}

#[test]
fn convolutions_of_three_axes() {
    Form { image: &[1, 2, 3, 4, 3], kernel: &[2, 2, 2, 3, 2], pads: &[1, 0, 0, 0, 1, 1], ..PLAIN }.check("Conv", 2);
    Form { image: &[1, 2, 4, 3, 4], kernel: &[2, 1, 2, 1, 2], strides: &[2, 1, 2], groups: 2, ..PLAIN }
        .check("Conv", 2);
}

#[test]
fn transposed_convolutions() {
    let op = "ConvTranspose";
    Form { image: &[2, 2, 4], kernel: &[2, 3, 3], ..PLAIN }.check(op, 3);
    Form { image: &[2, 2, 3, 4], kernel: &[2, 3, 3, 2], strides: &[2, 3], extra: &[1, 2], ..PLAIN }.check(op, 3);
    Form { image: &[2, 4, 3, 3], kernel: &[4, 1, 2, 3], pads: &[1, 0, 0, 2], groups: 2, ..PLAIN }.check(op, 2);
    Form { image: &[1, 2, 3, 3], kernel: &[2, 2, 2, 2], dilations: &[2, 1], strides: &[1, 2], ..PLAIN }.check(op, 2);
    Form { image: &[1, 2, 2, 3], kernel: &[2, 2, 2, 2], strides: &[2, 2], ..PLAIN }.check(op, 2);
    Form { image: &[1, 2, 2, 2, 3], kernel: &[2, 1, 2, 2, 1], strides: &[2, 1, 1], ..PLAIN }.check(op, 1);
}

#[test]
fn padding_is_resolved() {
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for (image, kernel, stride) in [(5, 3, 2), (6, 2, 1), (7, 4, 3), (4, 1, 2)] {
            let build = |g: &mut Graph, x: &[Value]| {
                let attributes =
                    [("auto_pad", Attribute::Text(mode.into())), ("strides", Attribute::Ints(vec![stride]))];
                g.node("Conv", x, &attributes)
            };
            check_on(Provider::Cpu, mode, &[(&[1, 2, image], Signed), (&[2, 2, kernel], Signed)], &build);
        }
    }
    let shape_of = |attributes: &[(&str, Attribute)]| {
        let mut graph = Graph::new(Provider::Cpu);
        let x = graph.input("x", Dtype::F32, &[1, 1, 4, 4]).unwrap();
        let w = graph.input("w", Dtype::F32, &[1, 1, 3, 3]).unwrap();
        let y = graph.node("ConvTranspose", &[x, w], attributes).unwrap();
        graph.shape(y).to_vec()
    };
    let strides = ("strides", Attribute::Ints(vec![2, 2]));
    assert_eq!(shape_of(&[strides.clone(), ("auto_pad", Attribute::Text("SAME_UPPER".into()))]), [1, 1, 8, 8]);
    assert_eq!(shape_of(&[strides, ("output_shape", Attribute::Ints(vec![7, 8]))]), [1, 1, 7, 8]);
}

#[test]
fn malformed_convolutions_are_refused() {
    let (most, least) = (i64::MAX, i64::MIN);
    let list = |name: &'static str, ints: &[i64]| (name, Attribute::Ints(ints.to_vec()));
    let refused = |op: &str, kernel: &[usize], attributes: &[(&str, Attribute)]| {
        let mut graph = Graph::new(Provider::Cpu);
        let x = graph.input("x", Dtype::F32, &[1, 2, 4]).unwrap();
        let w = graph.input("w", Dtype::F32, kernel).unwrap();
        assert!(graph.node(op, &[x, w], attributes).is_err(), "{op} {kernel:?} {attributes:?}");
    };
    refused("Conv", &[2, 2, 5], &[]);
    refused("Conv", &[2, 3, 1], &[]);
    refused("ConvTranspose", &[3, 2, 1], &[]);
    for op in ["Conv", "ConvTranspose"] {
        refused(op, &[2, 2, 0], &[]);
        refused(op, &[2, 2, 1, 1], &[]);
        refused(op, &[3, 1, 1], &[("group", Attribute::Int(2))]);
        refused(op, &[2, 2, 1], &[("group", Attribute::Int(0))]);
        refused(op, &[2, 2, 1], &[list("strides", &[0])]);
        refused(op, &[2, 2, 3], &[list("dilations", &[most])]);
        refused(op, &[2, 2, 1], &[list("pads", &[most, most])]);
        refused(op, &[2, 2, 1], &[list("pads", &[least, 0])]);
        refused(op, &[2, 2, 1], &[list("kernel_shape", &[2])]);
        refused(op, &[2, 2, 1], &[("auto_pad", Attribute::Text("SOMEHOW".into()))]);
    }
}
