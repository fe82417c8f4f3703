//! Our own operators for convolutions, run in ONNX Runtime: against plain loops in double precision, and against ONNX's
//! operators in a net that trains.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use library::library;
use regatta_agent::runtime::{Array, Device, Interrupt, Runtime, RuntimeError};
use regatta_autodiff::families::{Activation, Cnn, Initial, Model, Norm, Pool};
use regatta_autodiff::graph::{Attribute, Dtype, Graph, Node, Provider, Value};
use regatta_autodiff::own::DOMAIN;
use regatta_autodiff::step::{
    Clip, CrossEntropy, DataRole, Loss, Optimizer, Piece, Precision, Program, ResultRole, ScalarRole, StepPlan, Update,
    training_step,
};

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
    groups: usize,
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
    groups: 1,
};

/// The first ones go by Winograd's way, those of one tap, of many pads or of very few filters by columns, the others directly.
fn rows() -> Vec<Row> {
    vec![
        Row { channels: 64, filters: 65, ..PLAIN },
        Row { batch: 2, channels: 64, filters: 64, input: [20, 24], ..PLAIN },
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
        Row { channels: 12, filters: 12, groups: 12, ..PLAIN },
        Row { channels: 4, filters: 6, groups: 2, strides: [2, 2], ..PLAIN },
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
        [self.filters, self.channels / self.groups, self.kernel[0], self.kernel[1]]
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
            ("group", Attribute::Int(self.groups as i64)),
            ("shape", ints(shape)),
        ]
    }

    /// Calls with the positions of `y`, `x` and `w` of every product.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let ([down, across], [height, width]) = (self.output(), self.input);
        for (image, filter, oy, ox) in indices([self.batch, self.filters, down, across]) {
            let depth = self.channels / self.groups;
            let first = filter * self.groups / self.filters * depth;
            for (channel, i, j, _) in indices([depth, self.kernel[0], self.kernel[1], 1]) {
                let y = (oy * self.strides[0] + i * self.dilations[0]).checked_sub(self.pads[0]);
                let x = (ox * self.strides[1] + j * self.dilations[1]).checked_sub(self.pads[1]);
                if let (Some(y), Some(x)) = (y, x)
                    && y < height
                    && x < width
                {
                    each(
                        ((image * self.filters + filter) * down + oy) * across + ox,
                        ((image * self.channels + first + channel) * height + y) * width + x,
                        ((filter * depth + channel) * self.kernel[0] + i) * self.kernel[1] + j,
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
    Ok(floats(to.read()?))
}

#[test]
fn shapes_that_do_not_belong_together_are_refused() {
    let x = (PLAIN.x().to_vec(), numbers(&PLAIN.x(), 1));
    let narrow = [PLAIN.filters, PLAIN.channels - 1, 3, 3];
    let w = (narrow.to_vec(), numbers(&narrow, 2));

    let refused = result(&PLAIN, "Conv", &[&x, &w], &PLAIN.y(), 1).unwrap_err();

    assert!(matches!(refused, RuntimeError::Failed { .. }), "{refused}");
}

#[test]
fn nets_train_alike_with_and_without_our_own_operators() {
    let is_own = |program: &Program| program.graph.live_nodes().iter().any(|node| node.op == "ConvWeightGradient");
    for (channels, norm) in [(vec![8, 8], Norm::Batch), (vec![5, 16], Norm::None)] {
        let [own, stock] = [true, false].map(|own_operators| {
            let program = training_step(&plan(&channels, norm, own_operators)).unwrap();
            assert_eq!(is_own(&program), own_operators);
            // Those of the convolutions are in what they rectify; left are that of the hidden layer, and those behind a pool.
            let is_relu = |node: &&Node| node.op == "Relu";
            let relus = program.graph.to_run().nodes().iter().filter(is_relu).count();
            assert_eq!(relus, 1 + channels.len() * if own_operators { 1 } else { 2 });
            trained(&program)
        });
        assert!(stock.losses.windows(2).all(|pair| pair[1] < pair[0]), "{:?}", stock.losses);
        for (own, stock) in own.losses.iter().zip(&stock.losses) {
            assert!((own - stock).abs() < 1e-5, "{own} against {stock}");
        }
        assert_eq!(own.weights.len(), stock.weights.len());
        for (own, stock) in own.weights.iter().zip(&stock.weights) {
            assert!((own - stock).abs() < 1e-4, "{own} against {stock}");
        }
    }
}

const ROWS: usize = 16;

fn plan(channels: &[usize], norm: Norm, own_operators: bool) -> StepPlan {
    let net = Cnn {
        input: vec![3, 9, 8],
        channels: channels.to_vec(),
        layers: 2,
        kernel: 3,
        norm,
        activation: Activation::Relu,
        pool: Pool::Max,
        global_pool: false,
        hidden: vec![12],
        dropout: false,
        outputs: 4,
    };
    StepPlan {
        model: Model::Cnn(net),
        loss: Loss::CrossEntropy(CrossEntropy::default()),
        augment: vec![],
        update: Update { optimizer: Optimizer::Momentum { nesterov: false }, weight_decay: false, own_operators },
        undecayed: vec![],
        clip: Clip::default(),
        accumulate: false,
        average: false,
        precision: Precision::Single,
        recompute: false,
        outputs: false,
        rows: ROWS,
        batch: ROWS,
        ahead: 1,
        provider: Provider::Cpu,
    }
}

struct Trained {
    losses: Vec<f32>,
    weights: Vec<f32>,
}

/// Five steps on all rows, from weights as the model wants them.
fn trained(program: &Program) -> Trained {
    let mut compiled = Runtime::load(&library(), Device::Cpu, 1).unwrap().compile(&program.onnx()).unwrap();
    let mut bindings = compiled.bindings().unwrap();
    let mut weights = None;
    for state in &program.states {
        let contents = match state.input.dtype {
            Dtype::I64 => Array::I64(vec![0]),
            _ => Array::F32(state.pieces.iter().flat_map(beginning).collect()),
        };
        let mut tensor = compiled.tensor(&state.input.shape, &contents).unwrap();
        bindings.input(&state.input.name, &tensor).unwrap();
        if let Some(output) = &state.output {
            bindings.output(output, &mut tensor).unwrap();
        }
        if state.input.name == "regatta.weights" {
            weights = Some(tensor);
        }
    }
    for scalar in &program.scalars {
        let number = if scalar.role == ScalarRole::LearningRate { 0.02 } else { 0.5 };
        let tensor = compiled.tensor(&[], &Array::F64(vec![number])).unwrap();
        bindings.input(&scalar.input.name, &tensor).unwrap();
    }
    for data in &program.data {
        let contents = match data.role {
            DataRole::Target => Array::I64((0..ROWS as i64).map(|row| row % 4).collect()),
            _ => Array::F32(numbers(&data.input.shape, 5)),
        };
        let tensor = compiled.tensor(&data.input.shape, &contents).unwrap();
        bindings.input(&data.input.name, &tensor).unwrap();
    }
    let rows = compiled.tensor(&[ROWS], &Array::I64((0..ROWS as i64).collect())).unwrap();
    bindings.input(&program.indices.name, &rows).unwrap();
    let mut loss = None;
    for result in &program.results {
        let mut tensor = compiled.tensor(&[], &Array::F32(vec![f32::NAN])).unwrap();
        bindings.output(&result.name, &mut tensor).unwrap();
        if result.role == ResultRole::Loss {
            loss = Some(tensor);
        }
    }
    let (loss, weights, interrupt) = (loss.unwrap(), weights.unwrap(), Interrupt::new().unwrap());
    let losses = (0..5).map(|_| {
        compiled.run(&bindings, &interrupt).unwrap();
        floats(loss.read().unwrap())[0]
    });
    Trained { losses: losses.collect(), weights: floats(weights.read().unwrap()) }
}

fn beginning(piece: &Piece) -> Vec<f32> {
    let all = |number: f32| vec![number; piece.elements()];
    match piece.initial {
        Initial::Zeros => all(0.0),
        Initial::Ones => all(1.0),
        Initial::Uniform { bound } => {
            let unit = numbers(&piece.shape, piece.position as u64 + 9);
            unit.into_iter().map(|number| number * 2.0 * bound as f32).collect()
        }
        ref other => panic!("{other:?}"),
    }
}

fn floats(array: Array) -> Vec<f32> {
    match array {
        Array::F32(numbers) => numbers,
        other => panic!("{other:?}"),
    }
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
