//! Operators that move elements.

use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider, Value};

use crate::check::{Draw::Signed, check, check_with};

#[test]
fn rules_that_move_elements() {
    check("Reshape", &[(&[2, 6], Signed)], |g, x| g.reshape(x[0], &[3, 4]));
    check("Reshape by 0 and -1", &[(&[2, 3, 4], Signed)], |g, x| {
        let shape = g.int_vector(vec![0, -1]);
        g.node("Reshape", &[x[0], shape], &[])
    });
    check("Expand", &[(&[3, 1], Signed)], |g, x| g.expand(x[0], &[2, 3, 4]));
    check("Expand a scalar", &[(&[], Signed)], |g, x| g.expand(x[0], &[2, 3]));
    check("Transpose", &[(&[2, 3, 4], Signed)], |g, x| g.transpose(x[0], &[2, 0, 1]));
    check("Transpose reversed", &[(&[2, 3, 4], Signed)], |g, x| g.node("Transpose", x, &[]));
    check("Concat", &[(&[2, 3], Signed), (&[2, 1], Signed), (&[2, 2], Signed)], |g, x| {
        g.node("Concat", x, &[("axis", Attribute::Int(-1))])
    });
    check("Split with parts that nobody uses", &[(&[6, 2], Signed)], |g, x| {
        let lengths = g.int_vector(vec![1, 2, 3]);
        let parts = g.nodes_of("Split", &[Some(x[0]), Some(lengths)], 3, &[])?;
        g.exp(parts[1])
    });
    check("Split into equal parts", &[(&[2, 5], Signed)], |g, x| {
        let parts = g.nodes_of("Split", &[Some(x[0])], 2, &[("axis", Attribute::Int(1))])?;
        let product = g.sum_along(parts[1], 1)?;
        g.mul(parts[0], product)
    });
}

#[test]
fn rules_that_change_the_shape() {
    for axis in [-2, -1, 0, 1, 2, 3] {
        let build = move |g: &mut Graph, x: &[Value]| g.node("Flatten", x, &[("axis", Attribute::Int(axis))]);
        check_with("Flatten", &[(&[2, 3, 2], Signed)], &build);
    }
    check("Reshape with zeros as they are", &[(&[2, 3], Signed)], |g, x| {
        let shape = g.int_vector(vec![3, -1]);
        g.node("Reshape", &[x[0], shape], &[("allowzero", Attribute::Int(1))])
    });
    check("Squeeze", &[(&[2, 1, 3, 1], Signed)], |g, x| g.node("Squeeze", x, &[]));
    check("Squeeze of an axis", &[(&[2, 1, 3, 1], Signed)], |g, x| {
        let axes = g.int_vector(vec![-3]);
        g.node("Squeeze", &[x[0], axes], &[])
    });
    check("Unsqueeze", &[(&[2, 3], Signed)], |g, x| {
        let axes = g.int_vector(vec![-1, 0]);
        g.node("Unsqueeze", &[x[0], axes], &[])
    });
    for repeats in [[1, 1], [2, 1], [1, 3], [2, 2]] {
        let build = move |g: &mut Graph, x: &[Value]| {
            let repeats = g.int_vector(repeats.to_vec());
            g.node("Tile", &[x[0], repeats], &[])
        };
        check_with("Tile", &[(&[3, 2], Signed)], &build);
    }
}

#[test]
fn slices_of_every_step() {
    let past = i64::from(i32::MIN);
    let bounds = [
        (0, 6, 1),
        (2, 5, 1),
        (-4, -1, 1),
        (0, i64::MAX, 2),
        (1, 6, 2),
        (1, 6, 3),
        (0, 6, 4),
        (5, past, -1),
        (4, 0, -1),
        (-1, past, -2),
        (4, past, -3),
        (3, 4, i64::MAX),
        (-1, i64::MIN, i64::MIN),
    ];
    for (start, end, step) in bounds {
        for (axis, shape) in [(0, [6, 2]), (-1, [2, 6])] {
            let build = move |g: &mut Graph, x: &[Value]| {
                let bounds = [vec![start], vec![end], vec![axis], vec![step]].map(|bound| g.int_vector(bound));
                g.node("Slice", &[x[0], bounds[0], bounds[1], bounds[2], bounds[3]], &[])
            };
            check_with(&format!("Slice {start} {end} {step}"), &[(&shape, Signed)], &build);
        }
    }
    check("Slice of several axes", &[(&[4, 5, 3], Signed)], |g, x| {
        let bounds = [vec![3, 0, 1], vec![0, 5, 3], vec![0, 1, 2], vec![-2, 2, 1]].map(|bound| g.int_vector(bound));
        g.node("Slice", &[x[0], bounds[0], bounds[1], bounds[2], bounds[3]], &[])
    });
    check("Slice of the first axes", &[(&[4, 5], Signed)], |g, x| {
        let (starts, ends) = (g.int_vector(vec![1, 2]), g.int_vector(vec![-1, 4]));
        g.node("Slice", &[x[0], starts, ends], &[])
    });
}

#[test]
fn paddings_of_every_mode() {
    for (mode, pads) in [
        ("constant", [0, 0, 0, 0]),
        ("constant", [1, 2, 0, 3]),
        ("constant", [-1, 2, 1, -2]),
        ("edge", [1, 2, 0, 4]),
        ("reflect", [1, 2, 2, 3]),
        ("wrap", [1, 4, 3, 2]),
    ] {
        let build = move |g: &mut Graph, x: &[Value]| {
            let pads = g.int_vector(pads.to_vec());
            g.node("Pad", &[x[0], pads], &[("mode", Attribute::Text(mode.into()))])
        };
        check_with(&format!("Pad {mode} {pads:?}"), &[(&[3, 4], Signed)], &build);
    }
    check("Pad of one axis with a value", &[(&[2, 3], Signed), (&[], Signed)], |g, x| {
        let (pads, axes) = (g.int_vector(vec![1, 2]), g.int_vector(vec![-1]));
        g.node("Pad", &[x[0], pads, x[1], axes], &[])
    });
}

#[test]
fn rules_that_permute_or_mask() {
    for mode in ["DCR", "CRD"] {
        let build = move |g: &mut Graph, x: &[Value]| {
            let attributes = [("blocksize", Attribute::Int(2)), ("mode", Attribute::Text(mode.into()))];
            g.node("DepthToSpace", x, &attributes)
        };
        check_with(mode, &[(&[2, 8, 2, 3], Signed)], &build);
    }
    check("SpaceToDepth", &[(&[2, 2, 4, 6], Signed)], |g, x| {
        g.node("SpaceToDepth", x, &[("blocksize", Attribute::Int(2))])
    });
    for (batch, time) in [(0, 1), (1, 0)] {
        let build = move |g: &mut Graph, x: &[Value]| {
            let lengths = g.int_vector(vec![1, 3, 2]);
            let attributes = [("batch_axis", Attribute::Int(batch)), ("time_axis", Attribute::Int(time))];
            g.node("ReverseSequence", &[x[0], lengths], &attributes)
        };
        check_with("ReverseSequence", &[(&[3, 3, 2], Signed)], &build);
    }
    for (upper, diagonal) in [(0, 0), (1, 0), (0, -1), (1, 2)] {
        let build = move |g: &mut Graph, x: &[Value]| {
            let diagonal = g.int_scalar(diagonal);
            g.node("Trilu", &[x[0], diagonal], &[("upper", Attribute::Int(upper))])
        };
        check_with("Trilu", &[(&[2, 3, 4], Signed)], &build);
    }
}

#[test]
fn malformed_movements_are_refused() {
    let refused = |op: &str, shape: &[usize], ints: &[&[i64]], attributes: &[(&str, Attribute)]| {
        let mut graph = Graph::new(Provider::Cpu);
        let mut operands = vec![graph.input("x", Dtype::F32, shape).unwrap()];
        operands.extend(ints.iter().map(|ints| graph.int_vector(ints.to_vec())));
        assert!(graph.node(op, &operands, attributes).is_err(), "{op} {shape:?} {ints:?}");
    };
    let (most, least) = (i64::MAX, i64::MIN);
    refused("Reshape", &[2, 3], &[&[-1, -1]], &[]);
    refused("Reshape", &[2, 3], &[&[most, most]], &[]);
    refused("Reshape", &[2, 0], &[&[0, -1]], &[("allowzero", Attribute::Int(1))]);
    refused("Reshape", &[2], &[&[0, 0, 0]], &[]);
    refused("Expand", &[1], &[&[most, most]], &[]);
    refused("Tile", &[2, 3], &[&[most, 1]], &[]);
    refused("Tile", &[2, 3], &[&[1]], &[]);
    refused("Squeeze", &[2, 1], &[&[0]], &[]);
    refused("Unsqueeze", &[2], &[&[0, 0]], &[]);
    refused("Flatten", &[2], &[], &[("axis", Attribute::Int(least))]);
    refused("Slice", &[4], &[&[0], &[4], &[0], &[0]], &[]);
    refused("Slice", &[4], &[&[0], &[4], &[1]], &[]);
    refused("Slice", &[4], &[&[0], &[4, 4]], &[]);
    refused("Pad", &[4], &[&[most, most]], &[]);
    refused("Pad", &[4], &[&[-5, 0]], &[]);
    refused("Pad", &[4], &[&[4, 0]], &[("mode", Attribute::Text("reflect".into()))]);
    refused("Pad", &[4], &[&[1]], &[]);
    refused("Split", &[4], &[&[most, most]], &[]);
    refused("DepthToSpace", &[1, 4, 2, 2], &[], &[("blocksize", Attribute::Int(most))]);
    refused("SpaceToDepth", &[1, 4, 2, 2], &[], &[("blocksize", Attribute::Int(0))]);
    refused("Concat", &[1], &[], &[("axis", Attribute::Int(3))]);
}
