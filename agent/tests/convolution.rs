//! Our own operators for convolutions, run in ONNX Runtime, against plain loops in double precision.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::path::PathBuf;

use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, RuntimeError};
use regatta_autodiff::graph::{Attribute, Dtype, Graph, Provider, Value};
use regatta_autodiff::own::DOMAIN;

/// Sizes of a convolution: those of the output follow.
#[derive(Debug, Clone, Copy)]
struct Row {
    batch: usize,
    channels: usize,
    filters: usize,
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    pads: [usize; 4],
}

const PLAIN: Row = Row {
    batch: 3,
    channels: 8,
    filters: 9,
    input: [7, 6],
    kernel: [3, 3],
    strides: [1, 1],
    dilations: [1, 1],
    pads: [1; 4],
};

/// The first ones go by Winograd's way, the others by columns.
fn rows() -> Vec<Row> {
    vec![
        PLAIN,
        Row { pads: [0; 4], ..PLAIN },
        Row { pads: [2; 4], ..PLAIN },
        Row { pads: [0, 1, 2, 1], ..PLAIN },
        Row { batch: 300, input: [4, 4], ..PLAIN },
        Row { batch: 2, channels: 16, filters: 8, input: [33, 40], ..PLAIN },
        Row { channels: 3, ..PLAIN },
        Row { strides: [2, 2], ..PLAIN },
        Row { strides: [2, 1], pads: [0, 1, 1, 2], ..PLAIN },
        Row { dilations: [2, 1], pads: [2; 4], ..PLAIN },
        Row { kernel: [1, 1], pads: [0; 4], ..PLAIN },
        Row { kernel: [1, 1], strides: [2, 2], pads: [0; 4], ..PLAIN },
        Row { kernel: [5, 2], strides: [1, 3], pads: [3, 0, 1, 1], ..PLAIN },
        Row {
            batch: 40,
            channels: 2,
            filters: 70,
            input: [9, 9],
            kernel: [7, 7],
            strides: [2, 2],
            pads: [3; 4],
            ..PLAIN
        },
        Row { batch: 1, channels: 1, filters: 1, input: [1, 1], kernel: [3, 3], pads: [1; 4], ..PLAIN },
    ]
}

impl Row {
    fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let reach = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
            (self.input[axis] + self.pads[axis] + self.pads[axis + 2] - reach) / self.strides[axis] + 1
        })
    }

    fn x(&self) -> [usize; 4] {
        [self.batch, self.channels, self.input[0], self.input[1]]
    }

    fn w(&self) -> [usize; 4] {
        [self.filters, self.channels, self.kernel[0], self.kernel[1]]
    }

    fn y(&self) -> [usize; 4] {
        let [down, across] = self.output();
        [self.batch, self.filters, down, across]
    }

    fn attributes(&self, shape: &[usize]) -> Vec<(&'static str, Attribute)> {
        let ints = |sizes: &[usize]| Attribute::Ints(sizes.iter().map(|&size| size as i64).collect());
        vec![
            ("strides", ints(&self.strides)),
            ("dilations", ints(&self.dilations)),
            ("pads", ints(&self.pads)),
            ("shape", ints(shape)),
        ]
    }

    /// Calls with the positions of `y`, `x` and `w` of every product.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let ([down, across], [height, width]) = (self.output(), self.input);
        for (image, filter, oy, ox) in indices([self.batch, self.filters, down, across]) {
            for (channel, i, j, _) in indices([self.channels, self.kernel[0], self.kernel[1], 1]) {
                let y = (oy * self.strides[0] + i * self.dilations[0]).checked_sub(self.pads[0]);
                let x = (ox * self.strides[1] + j * self.dilations[1]).checked_sub(self.pads[1]);
                if let (Some(y), Some(x)) = (y, x)
                    && y < height
                    && x < width
                {
                    each(
                        ((image * self.filters + filter) * down + oy) * across + ox,
                        ((image * self.channels + channel) * height + y) * width + x,
                        ((filter * self.channels + channel) * self.kernel[0] + i) * self.kernel[1] + j,
                    );
                }
            }
        }
    }
}

fn indices([a, b, c, d]: [usize; 4]) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    (0..a * b * c * d).map(move |at| (at / (b * c * d), at / (c * d) % b, at / d % c, at % d))
}

#[test]
fn forward_and_gradients_agree_with_plain_loops_for_any_number_of_threads() {
    for row in rows() {
        let (x, w, dy) = (numbers(&row.x(), 1), numbers(&row.w(), 2), numbers(&row.y(), 3));
        let bias = numbers(&[row.filters], 4);
        let plane: usize = row.output().iter().product();
        let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
        row.products(|at, from, tap| {
            y[at] += f64::from(x[from]) * f64::from(w[tap]);
            dx[from] += f64::from(dy[at]) * f64::from(w[tap]);
            dw[tap] += f64::from(dy[at]) * f64::from(x[from]);
        });
        let biased: Vec<f64> =
            y.iter().enumerate().map(|(at, sum)| sum + f64::from(bias[at / plane % row.filters])).collect();
        let x = (row.x().to_vec(), x);
        let w = (row.w().to_vec(), w);
        let dy = (row.y().to_vec(), dy);
        check(&row, "Conv", &[&x, &w], &row.y(), &y);
        check(&row, "Conv", &[&x, &w, &(vec![row.filters], bias)], &row.y(), &biased);
        check(&row, "ConvInputGradient", &[&dy, &w], &row.x(), &dx);
        check(&row, "ConvWeightGradient", &[&x, &dy], &row.w(), &dw);
    }
}

type Operand = (Vec<usize>, Vec<f32>);

fn check(row: &Row, op: &str, operands: &[&Operand], shape: &[usize], expected: &[f64]) {
    let alone = result(row, op, operands, shape, 1).unwrap();
    let difference: f64 = alone.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let norm: f64 = expected.iter().map(|b| b * b).sum();
    assert!(difference.sqrt() < 2e-6 * norm.sqrt(), "{op} {row:?}: off by {:.1e}", (difference / norm).sqrt());
    let together = result(row, op, operands, shape, 2).unwrap();
    assert!(alone == together, "{op} {row:?}: two threads compute otherwise than one");
}

fn result(
    row: &Row,
    op: &str,
    operands: &[&Operand],
    shape: &[usize],
    threads: usize,
) -> Result<Vec<f32>, RuntimeError> {
    let mut graph = Graph::new(Provider::Cpu);
    let names = ["a", "b", "c"];
    let values: Vec<Value> =
        operands.iter().zip(names).map(|((shape, _), name)| graph.input(name, Dtype::F32, shape).unwrap()).collect();
    let outputs = [(Dtype::F32, shape.to_vec())];
    let output = graph.custom((DOMAIN, op), &values, &row.attributes(shape), &outputs).unwrap()[0];
    graph.output(output);
    let mut compiled = Runtime::load(&library(), Device::Cpu, threads)?.compile(&graph.encode())?;
    let mut bindings = compiled.bindings()?;
    for ((shape, contents), name) in operands.iter().zip(names) {
        bindings.input(name, &compiled.tensor(shape, &Array::F32(contents.clone()))?)?;
    }
    let mut to = compiled.tensor(shape, &Array::F32(vec![f32::NAN; shape.iter().product()]))?;
    bindings.output(graph.name(output), &mut to)?;
    compiled.run(&bindings, &Interrupt::new()?)?;
    match to.read()? {
        Array::F32(numbers) => Ok(numbers),
        other => panic!("{other:?}"),
    }
}

#[test]
fn shapes_that_do_not_belong_together_are_refused() {
    let x = (PLAIN.x().to_vec(), numbers(&PLAIN.x(), 1));
    let narrow = [PLAIN.filters, PLAIN.channels - 1, 3, 3];
    let w = (narrow.to_vec(), numbers(&narrow, 2));

    let refused = result(&PLAIN, "Conv", &[&x, &w], &PLAIN.y(), 1).unwrap_err();

    assert!(matches!(refused, RuntimeError::Failed { .. }), "{refused}");
}

fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so"));
    assert!(path.exists(), "no ONNX Runtime: run scripts/setup, or set ORT_DYLIB_PATH to libonnxruntime.so");
    path
}

/// Numbers in `-0.5 .. 0.5` that look random (Knuth's linear congruential generator).
fn numbers(shape: &[usize], seed: u64) -> Vec<f32> {
    let mut state = seed;
    let number = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..shape.iter().product()).map(number).collect()
}
