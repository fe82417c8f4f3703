//! Does one thing with CUDA, and marks in the trace of the counting runtime where each part of it begins.
//!
//! `cuda-step WHAT [DEVICE]`. It ends with a line on standard output: `ok`, or the kind of the error and its text.

#[path = "../../agent/tests/support/library.rs"]
mod library;
#[path = "../../agent/tests/golden_support/numbers.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "they are of tests, and nobody looks at numbers here")]
mod numbers;
#[path = "../../agent/tests/golden_support/trained.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "they are of tests, and nobody looks at numbers here")]
mod trained;
#[path = "../../agent/tests/golden_support/trial.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "they are of tests, and nobody looks at numbers here")]
mod trial;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use regatta_agent::runtime::{Array, Compiled, CudaSettings, Device, Interrupt, Runtime, RuntimeError, Tensor};
use regatta_agent::training::{
    Activation, Adam, Augmentation, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Pool,
    PositionNorm, Split, Stream, Target, TrainingError, Values,
};
use regatta_autodiff::graph::{Dtype, Graph, GraphError, Provider};
use regatta_autodiff::step::{Port, Precision, Program};
use regatta_autodiff::{families, step};
use trained::Trained;

/// Rows of the data: eight minibatches.
const ROWS: usize = 256;
const BATCH: usize = ROWS / 8;
const WIDTH: usize = 20;
const CLASSES: usize = 10;
const STEPS: usize = 5;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let what = args.next().context("what to do")?;
    let device = Device::Cuda(args.next().map_or(Ok(0), |number| number.parse())?);
    let library = PathBuf::from(std::env::var_os("ORT_DYLIB_PATH").context("ORT_DYLIB_PATH")?);
    let load = || Runtime::load(&library, device, 1);
    let ended = match what.as_str() {
        "open" => load().and_then(|runtime| runtime.check()).map_err(TrainingError::from),
        "convolve" => load().and_then(|runtime| runtime.check_convolutions()).map_err(TrainingError::from),
        "sgd" => train(&library, device, SGD),
        "adamw" => train(&library, device, ADAMW),
        "sgd, kernel by kernel" => train_with(Engine::new(&library, device, 1), SGD, KERNEL_BY_KERNEL),
        "adamw, kernel by kernel" => train_with(Engine::new(&library, device, 1), ADAMW, KERNEL_BY_KERNEL),
        "tf32" => train_with(Engine::new(&library, device, 1), SGD, CudaSettings { tf32: true, ..KERNEL_BY_KERNEL }),
        "four at once" => train_at_once(&library, device),
        "every kind" => record_every_kind(&library, device),
        "golden models" => train_golden_models(Precision::Single),
        "golden models in half" => train_golden_models(Precision::Half),
        "golden models in bfloat16" => train_golden_models(Precision::Bfloat16),
        "families" => train_families(&library, device),
        "streamed" => train_streamed(&library, device),
        "trial after trial" => trial_after_trial(&library, device),
        "wide" => train_in(&library, device, Precision::Single, wide()),
        "deep transformer" => train_deep(&library, device, false),
        "deep transformer, recomputed" => train_deep(&library, device, true),
        "convolutions" => start_on_images(&library, device),
        "convolutions in single precision" => train_in(&library, device, Precision::Single, cnn()),
        "transformer in single precision" => train_in(&library, device, Precision::Single, transformer(2)),
        "half" => train_in(&library, device, Precision::Half, mlp()),
        "half transformer" => train_in(&library, device, Precision::Half, transformer(2)),
        "half convolutions" => train_in(&library, device, Precision::Half, cnn()),
        "bfloat16" => train_in(&library, device, Precision::Bfloat16, mlp()),
        "bfloat16 convolutions" => train_in(&library, device, Precision::Bfloat16, cnn()),
        "bfloat16 transformer" => train_in(&library, device, Precision::Bfloat16, transformer(2)),
        "two lanes" => two_lanes(&library, device),
        "replay in half" => {
            load().and_then(|runtime| replay_a_step(&runtime, Precision::Half)).map_err(TrainingError::from)
        }
        "replay" => load().and_then(|runtime| replay_a_step(&runtime, Precision::Single)).map_err(TrainingError::from),
        "replay on two lanes" => load().and_then(|runtime| replay_on_two_lanes(&runtime)).map_err(TrainingError::from),
        "replay four parts" => load().and_then(|runtime| replay_parts(&runtime, 4)).map_err(TrainingError::from),
        "replay five parts" => load().and_then(|runtime| replay_parts(&runtime, 5)).map_err(TrainingError::from),
        "exceed the limit" => load().and_then(exceed_the_limit).map_err(TrainingError::from),
        other => anyhow::bail!("`{other}` is nothing to do"),
    };
    match ended {
        Ok(()) => println!("ok"),
        Err(error) => println!("{}: {error}", kind(&error)),
    }
    Ok(())
}

fn kind(error: &TrainingError) -> &'static str {
    match error {
        TrainingError::OutOfMemory { .. } => "out of memory",
        TrainingError::Device(RuntimeError::DeviceUnavailable { .. }) => "device unavailable",
        TrainingError::Device(_) => "device failed",
        _ => "refused",
    }
}

/// A line in the trace.
fn mark(text: &str) {
    let Some(path) = std::env::var_os("COUNTING_CUDA_TRACE") else { return };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let written = file.and_then(|mut file| file.write_all(format!("mark {text}\n").as_bytes()));
    written.expect("the trace can be written to");
}

const SGD: OptimizerPlan = OptimizerPlan::Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
const ADAMW: OptimizerPlan =
    OptimizerPlan::AdamW(Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });

const KERNEL_BY_KERNEL: CudaSettings =
    CudaSettings { kernel_by_kernel: true, tf32: false, memory_limit_bytes: None, stock_kernels: false };

fn train(library: &Path, device: Device, optimizer: OptimizerPlan) -> Result<(), TrainingError> {
    train_with(Engine::new(library, device, 1), optimizer, CudaSettings::default())
}

fn train_with(
    engine: Result<Engine, RuntimeError>,
    optimizer: OptimizerPlan,
    cuda: CudaSettings,
) -> Result<(), TrainingError> {
    steps(engine?.with_cuda(cuda), &plan(optimizer))
}

fn plan(optimizer: OptimizerPlan) -> Plan {
    Plan { clip_norm: Some(1.0), ..Plan::new(mlp(), Loss::cross_entropy(), optimizer, BATCH, 1) }
}

/// Two epochs, half an epoch at a time.
fn train_at_once(library: &Path, device: Device) -> Result<(), TrainingError> {
    let mut engine = Engine::new(library, device, 1)?;
    let mut training = engine.start(&plan(ADAMW), &data(vec![WIDTH]), None)?;
    for time in 0..4 {
        mark(&format!("time {time}"));
        training.train_steps(4)?;
    }
    mark("end");
    Ok(())
}

/// Models of several kinds, one after the other: a step of each is recorded.
fn record_every_kind(library: &Path, device: Device) -> Result<(), TrainingError> {
    let resnet = ModelPlan::Resnet {
        blocks: vec![1, 1],
        width: 4,
        bottleneck: true,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Silu,
        dropout: 0.1,
    };
    let image = vec![1, 4, WIDTH / 4];
    let augment = vec![
        Augmentation::Shift { pixels: 1 },
        Augmentation::Flip,
        Augmentation::Noise { deviation: 0.1 },
        Augmentation::Mixup { alpha: 0.2 },
    ];
    let rows = [(mlp(), vec![WIDTH], vec![]), (transformer(2), vec![WIDTH / 4, 4], vec![]), (resnet, image, augment)];
    let mut engine = Engine::new(library, device, 1)?;
    for (kind, (model, shape, augment)) in rows.into_iter().enumerate() {
        let plan = Plan { augment, accumulate: 2, ..Plan::new(model, Loss::cross_entropy(), ADAMW, BATCH, 1) };
        mark(&format!("kind {kind}"));
        engine.start(&plan, &data(shape), None)?;
    }
    mark("end");
    Ok(())
}

/// Every file of the golden models with its first optimizer, and one model with all.
fn train_golden_models(precision: Precision) -> Result<(), TrainingError> {
    for golden in numbers::models() {
        let first = golden.optimizers.len().min(1);
        for (at, file) in golden.files.iter().enumerate() {
            let with_all = golden.name == "mlp" && at == 0;
            for optimizer in &golden.optimizers[..if with_all { golden.optimizers.len() } else { first }] {
                mark(&format!("{} {}", file.name, optimizer.name));
                let refused = |reason| TrainingError::Configuration { reason: format!("{}: {reason}", file.name) };
                Trained::train(&golden, file, optimizer, precision).map_err(refused)?;
            }
        }
    }
    mark("end");
    Ok(())
}

/// What no golden model has: optimizers that PyTorch lacks, tokens, categories, groups.
fn train_families(library: &Path, device: Device) -> Result<(), TrainingError> {
    let adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let lion = OptimizerPlan::Lion { learning_rate: 0.01, beta1: 0.9, beta2: 0.99, weight_decay: 0.01 };
    let plan = |model, optimizer| Plan::new(model, Loss::cross_entropy(), optimizer, BATCH, 1);
    let tabular = ModelPlan::Tabular {
        embedding: None,
        hidden: vec![16],
        norm: Norm::Batch,
        activation: Activation::Relu,
        dropout: 0.1,
    };
    let mut decoder = transformer(1);
    if let ModelPlan::Transformer { decoder, .. } = &mut decoder {
        *decoder = true;
    }
    let average = Plan { average: Some(0.9), clip_value: Some(1.0), ..plan(mlp(), OptimizerPlan::Lamb(adam)) };
    let rows = [
        ("lamb", average, data(vec![WIDTH])),
        ("lion", plan(mlp(), lion), data(vec![WIDTH])),
        ("tabular", plan(tabular, ADAMW), categories(vec![3], vec![])),
        ("decoder", plan(decoder, ADAMW), categories(vec![6], vec![6])),
    ];
    for (what, plan, data) in rows {
        mark(what);
        let mut engine = Engine::new(library, device, 1)?;
        let mut training = engine.start(&plan, &data, None)?;
        training.train_steps(4)?;
        training.evaluate()?;
        training.checkpoint()?;
    }
    mark("end");
    Ok(())
}

/// Rows of categories or tokens.
fn categories(shape: Vec<usize>, target: Vec<usize>) -> Arc<Dataset> {
    let count = |shape: &[usize]| ROWS * shape.iter().product::<usize>();
    let numbers = |count: usize| (0..count as i64).map(|at| at % CLASSES as i64).collect::<Vec<_>>();
    let values = Values::I64(numbers(count(&shape)));
    let labels = numbers(count(&target));
    let feature = Feature { values, vocabulary: vec![CLASSES], ..Feature::numbers("x", shape, Vec::new()) };
    let split = Split { features: vec![feature], target: Target::classes(labels, target, CLASSES) };
    Arc::new(Dataset { train: split.clone(), validation: split })
}

/// Rows that come from the host with each step.
fn train_streamed(library: &Path, device: Device) -> Result<(), TrainingError> {
    let Dataset { train, validation } = Arc::unwrap_or_clone(data(vec![WIDTH]));
    let stream = Stream::new(validation, vec![(0, ROWS)], Box::new(move |_| Ok(train.clone())));
    let mut engine = Engine::new(library, device, 1)?;
    let mut training = engine.start(&plan(ADAMW), &Arc::new(stream), None)?;
    for step in 0..STEPS {
        mark(&format!("step {step}"));
        training.train_step()?;
    }
    mark("end");
    Ok(())
}

/// Trials of one shape, the last on other data.
fn trial_after_trial(library: &Path, device: Device) -> Result<(), TrainingError> {
    let mut engine = Engine::new(library, device, 1)?;
    let data = [data(vec![WIDTH]), data(vec![WIDTH])];
    for (trial, data) in [&data[0], &data[0], &data[1]].into_iter().enumerate() {
        mark(&format!("trial {trial}"));
        engine.start(&plan(ADAMW), data, None)?.train_step()?;
    }
    mark("end");
    Ok(())
}

/// Records a step of a net whose convolutions are in two dimensions.
fn start_on_images(library: &Path, device: Device) -> Result<(), TrainingError> {
    let mut engine = Engine::new(library, device, 1)?;
    let plan = Plan::new(cnn(), Loss::cross_entropy(), ADAMW, BATCH, 1);
    mark("begin");
    engine.start(&plan, &data(vec![1, 4, WIDTH / 4]), None)?;
    mark("end");
    Ok(())
}

/// With the optimizer whose update is the longest.
fn train_in(library: &Path, device: Device, precision: Precision, model: ModelPlan) -> Result<(), TrainingError> {
    let plan = Plan { precision, ..Plan::new(model, Loss::cross_entropy(), ADAMW, BATCH, 1) };
    steps(Engine::new(library, device, 1)?, &plan)
}

/// A transformer of eight blocks.
fn train_deep(library: &Path, device: Device, recompute: bool) -> Result<(), TrainingError> {
    let plan = Plan::new(transformer(8), Loss::cross_entropy(), SGD, BATCH, 1);
    steps(Engine::new(library, device, 1)?.with_cuda(KERNEL_BY_KERNEL), &Plan { recompute, ..plan })
}

fn mlp() -> ModelPlan {
    ModelPlan::Mlp { hidden: vec![32, 16], norm: Norm::None, activation: Activation::Relu, dropout: 0.1 }
}

/// Of rows of [`WIDTH`] numbers, as five channels of four.
/// Four million weights, and little else.
fn wide() -> ModelPlan {
    ModelPlan::Mlp { hidden: vec![2048, 2048], norm: Norm::None, activation: Activation::Relu, dropout: 0.0 }
}

fn cnn() -> ModelPlan {
    ModelPlan::Cnn {
        channels: vec![8, 8],
        layers: 1,
        kernel: 3,
        norm: Norm::Batch,
        activation: Activation::Relu,
        pool: Pool::Max,
        global_pool: true,
        hidden: vec![16],
        dropout: 0.1,
    }
}

/// Of rows of [`WIDTH`] numbers, as five positions of four.
fn transformer(layers: usize) -> ModelPlan {
    ModelPlan::Transformer {
        decoder: false,
        layers,
        width: 16,
        heads: 2,
        ratio: 2,
        norm: PositionNorm::Layer,
        patch: None,
        vocabulary: None,
        activation: Activation::Gelu,
        dropout: 0.1,
    }
}

fn steps(mut engine: Engine, plan: &Plan) -> Result<(), TrainingError> {
    let shape = if matches!(plan.model, ModelPlan::Transformer { .. } | ModelPlan::Cnn { .. }) {
        vec![WIDTH / 4, 4]
    } else {
        vec![WIDTH]
    };
    let mut training = engine.start(plan, &data(shape), None)?;
    for step in 0..STEPS {
        mark(&format!("step {step}"));
        training.train_step()?;
    }
    mark("evaluation");
    training.evaluate()?;
    mark("checkpoint");
    training.checkpoint()?;
    mark("end");
    Ok(())
}

fn data(shape: Vec<usize>) -> Arc<Dataset> {
    let split = || Split {
        features: vec![Feature::numbers("x", shape.clone(), vec![0.5; ROWS * WIDTH])],
        target: Target::classes((0..ROWS as i64).map(|row| row % CLASSES as i64).collect(), vec![], CLASSES),
    };
    Arc::new(Dataset { train: split(), validation: split() })
}

/// Two trials at once, each on a thread with sessions of its own.
fn two_lanes(library: &Path, device: Device) -> Result<(), TrainingError> {
    std::thread::scope(|scope| {
        let lanes = [0, 1].map(|_| scope.spawn(|| train(library, device, ADAMW)));
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
    })
}

/// A training step with everything on the device and its states updated in place, recorded and replayed.
fn replay_a_step(runtime: &Runtime, precision: Precision) -> Result<(), RuntimeError> {
    let program = step::training_step(&step::StepPlan {
        model: families::Model::Mlp(families::Mlp {
            inputs: WIDTH,
            hidden: vec![32, 16],
            outputs: CLASSES,
            norm: Norm::None,
            activation: families::Activation::Relu,
            dropout: true,
        }),
        loss: step::Loss::CrossEntropy(step::CrossEntropy::default()),
        augment: Vec::new(),
        update: step::Update { optimizer: step::Optimizer::AdamW, weight_decay: true, own_operators: false },
        undecayed: vec!["*.bias".into()],
        clip: step::Clip { norm: true, value: false },
        accumulate: false,
        average: false,
        precision,
        recompute: false,
        outputs: false,
        provider: Provider::Cuda,
        rows: ROWS,
        batch: BATCH,
        ahead: 1,
    });
    let program = program.map_err(|error| RuntimeError::Graph { reason: error.to_string() })?;
    let mut compiled = runtime.compile_for_replay(&program.onnx())?;
    let mut bindings = compiled.bindings()?;
    for port in inputs(&program) {
        bindings.input(&port.name, &zeros(&compiled, port.dtype, &port.shape)?)?;
    }
    for state in &program.states {
        let mut tensor = zeros(&compiled, state.input.dtype, &state.input.shape)?;
        bindings.input(&state.input.name, &tensor)?;
        if let Some(output) = &state.output {
            bindings.output(output, &mut tensor)?;
        }
    }
    for result in &program.results {
        bindings.output(&result.name, &mut zeros(&compiled, Dtype::F32, &[])?)?;
    }
    run_marked(&mut compiled, &bindings)
}

fn inputs(program: &Program) -> impl Iterator<Item = &Port> {
    let scalars = program.scalars.iter().map(|scalar| &scalar.input);
    scalars.chain(program.data.iter().map(|data| &data.input)).chain([&program.indices])
}

fn zeros(compiled: &Compiled, dtype: Dtype, shape: &[usize]) -> Result<Tensor, RuntimeError> {
    let count = shape.iter().product();
    let zeros = match dtype {
        Dtype::F32 => Array::F32(vec![0.0; count]),
        Dtype::F64 => Array::F64(vec![0.0; count]),
        _ => Array::I64(vec![0; count]),
    };
    compiled.tensor(shape, &zeros)
}

fn run_marked(compiled: &mut Compiled, bindings: &regatta_agent::runtime::Bindings) -> Result<(), RuntimeError> {
    let interrupt = Interrupt::new()?;
    for step in 0..STEPS {
        mark(&format!("step {step}"));
        compiled.run(bindings, &interrupt)?;
    }
    mark("end");
    Ok(())
}

/// Recordings of one lane while the other takes memory and gives it back.
fn replay_on_two_lanes(runtime: &Runtime) -> Result<(), RuntimeError> {
    const ROUNDS: usize = 5;
    std::thread::scope(|scope| {
        let lanes =
            [0, 1].map(|_| scope.spawn(|| (0..ROUNDS).try_for_each(|_| replay_a_step(runtime, Precision::Single))));
        lanes.into_iter().try_for_each(|lane| lane.join().expect("a lane does not panic"))
    })
}

/// A vector parted into `count` tensors of different lengths by one Split, recorded and replayed.
fn replay_parts(runtime: &Runtime, count: usize) -> Result<(), RuntimeError> {
    let lengths = 1..=count;
    let length = lengths.clone().sum();
    let build = || -> Result<_, GraphError> {
        let mut graph = Graph::new(Provider::Cuda);
        let x = graph.input("x", Dtype::F32, &[length])?;
        let split = graph.int_vector(lengths.clone().map(|length| length as i64).collect());
        let shapes: Vec<_> = lengths.clone().map(|length| (Dtype::F32, vec![length])).collect();
        let parts = graph.custom(("", "Split"), &[x, split], &[], &shapes)?;
        let roots = parts.into_iter().map(|part| graph.sqrt(part)).collect::<Result<Vec<_>, _>>()?;
        roots.iter().for_each(|root| graph.output(*root));
        let names: Vec<_> = roots.iter().map(|root| graph.name(*root).to_owned()).collect();
        Ok((graph.encode(), names))
    };
    let (onnx, roots) = build().map_err(|error| RuntimeError::Graph { reason: error.to_string() })?;
    let mut compiled = runtime.compile_for_replay(&onnx)?;
    let mut bindings = compiled.bindings()?;
    bindings.input("x", &zeros(&compiled, Dtype::F32, &[length])?)?;
    for (root, length) in roots.iter().zip(lengths) {
        bindings.output(root, &mut zeros(&compiled, Dtype::F32, &[length])?)?;
    }
    run_marked(&mut compiled, &bindings)
}

/// A tensor that is larger than the settings allow.
fn exceed_the_limit(runtime: Runtime) -> Result<(), RuntimeError> {
    const LIMIT_BYTES: usize = 1 << 20;
    let settings = CudaSettings { memory_limit_bytes: Some(LIMIT_BYTES), ..CudaSettings::default() };
    let mut graph = Graph::new(Provider::Cuda);
    let refused = |error: GraphError| RuntimeError::Graph { reason: error.to_string() };
    let x = graph.input("x", Dtype::F32, &[1]).map_err(refused)?;
    let root = graph.sqrt(x).map_err(refused)?;
    graph.output(root);
    let compiled = runtime.with_cuda(settings).compile(&graph.encode())?;
    zeros(&compiled, Dtype::F32, &[LIMIT_BYTES / 8])?;
    mark("half of the limit");
    zeros(&compiled, Dtype::F32, &[LIMIT_BYTES]).map(|_| ())
}
