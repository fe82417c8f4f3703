//! Times training steps of a model that `scripts/export-bench-models` wrote, or of our own family of its kind, and
//! prints one line of JSON, as `scripts/bench-train-table` reads it; `scripts/bench train` runs it beside PyTorch.
//!
//! A step gathers its rows from data in memory, and ends with AdamW's update. The process's peak of memory is that of
//! the one model, so it times no other. ONNX Runtime is found through `ORT_DYLIB_PATH`, else where scripts/setup puts
//! it. Linux only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use regatta_agent::runtime::{CudaSettings, Device};
use regatta_agent::training::{
    Activation, Adam, Dataset, Engine, Feature, Loss, ModelPlan, Norm, OptimizerPlan, Plan, Pool, PositionNorm,
    Precision, Split, Target, Training, Values,
};
use regatta_autodiff::import::Settings;
use serde_json::{Value, json};

/// Of the resident data, as many as PyTorch has there: at least so many rows and batches.
const ROWS_MIN: usize = 1024;
const BATCHES: usize = 8;
const WARM_UP_STEPS: u64 = 5;
const STEPS_MIN: usize = 10;
const SEED: u64 = 1;

#[derive(Parser)]
struct Options {
    /// Where `scripts/export-bench-models` wrote. Without it, a family's model of the same sizes is timed.
    #[arg(long)]
    exported: Option<PathBuf>,
    /// mlp, cnn, cnn1024, resnet18, transformer or gpt2.
    #[arg(long)]
    model: String,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// cpu or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: Device,
    /// With CUDA: TensorFloat-32 in matrix products and convolutions.
    #[arg(long)]
    tf32: bool,
    /// single, half or bfloat16, as in a recipe.
    #[arg(long, default_value = "single", value_parser = precision)]
    precision: Precision,
    /// Steps between two looks of the host at the loss; on the CPU it sees every one.
    #[arg(long, default_value_t = 32)]
    stride: u64,
    /// With CUDA: launches each kernel by itself, where a step would be recorded and replayed.
    #[arg(long)]
    kernel_by_kernel: bool,
    /// With CUDA: leaves every operator to ONNX Runtime.
    #[arg(long)]
    stock_kernels: bool,
    /// Warming up is not counted.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Prints what each kind of operator takes of a step, in time and in memory read and written, in the place of the line of JSON.
    #[arg(long)]
    profile: bool,
}

/// A model with what its data is.
struct Timed {
    model: ModelPlan,
    /// Of a batch.
    shape: Vec<usize>,
    classes: usize,
    /// Whether the input is tokens; else numbers.
    is_of_tokens: bool,
    /// Whether there is a class to tell for each token; else one for each row.
    tells_each: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so")),
        PathBuf::from,
    );
    let timed = match &options.exported {
        Some(folder) => Timed::exported(folder, &options.model)?,
        None => Timed::family(&options.model)?,
    };
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let (optimizer, batch) = (OptimizerPlan::AdamW(adam), timed.shape[0]);
    let plan = Plan::new(timed.model.clone(), Loss::cross_entropy(), optimizer, batch, SEED);
    let plan = Plan { precision: options.precision, ..plan };
    let data = Arc::new(timed.data());

    let folder = tempfile::tempdir()?;
    let begin = Instant::now();
    let kernel_by_kernel = options.kernel_by_kernel || options.profile;
    let cuda = CudaSettings {
        tf32: options.tf32,
        kernel_by_kernel,
        stock_kernels: options.stock_kernels,
        ..CudaSettings::default()
    };
    let mut engine = Engine::new(&library, options.device, options.threads)?.with_cuda(cuda);
    if options.profile {
        engine = engine.with_profile(folder.path().join("graph"));
    }
    let mut training = engine.start(&plan, &data, None)?;
    let start_ms = milliseconds(begin.elapsed());
    let Measured { times, loss, processor_ms } =
        measure(&mut training, options.stride, Duration::from_secs_f64(options.seconds))?;
    if options.profile {
        drop(training);
        drop(engine);
        return print_profile(folder.path());
    }
    drop(training);
    let begin = Instant::now();
    drop(engine.start(&Plan { seed: SEED + 1, ..plan }, &data, None)?);
    let start_again_ms = milliseconds(begin.elapsed());
    let at = |share: f64| thousandths(times[(times.len() as f64 * share) as usize]);
    let line = json!({
        "model": options.model, "threads": options.threads, "device": options.device.to_string(), "tf32": options.tf32,
        "precision": format!("{:?}", options.precision).to_lowercase(), "engine": "regatta", "steps": times.len(),
        "median_ms": at(0.5), "p10_ms": at(0.1), "p90_ms": at(0.9), "loss": loss,
        "start_ms": thousandths(start_ms), "start_again_ms": thousandths(start_again_ms),
        "cpu_ms": thousandths(processor_ms), "peak_mib": peak_mib()?,
    });
    println!("{line}");
    Ok(())
}

fn precision(name: &str) -> Result<Precision, String> {
    match name {
        "single" => Ok(Precision::Single),
        "half" => Ok(Precision::Half),
        "bfloat16" => Ok(Precision::Bfloat16),
        _ => Err("it is single, half or bfloat16".to_owned()),
    }
}

/// Of the graph that took the most: that of the steps.
fn print_profile(folder: &Path) -> anyhow::Result<()> {
    let mut nodes_by_graph = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let events: Vec<Value> = serde_json::from_slice(&std::fs::read(file?.path())?)?;
        nodes_by_graph.push(events.iter().filter_map(NodeRun::of).collect::<Vec<_>>());
    }
    let total = |nodes: &Vec<NodeRun>| nodes.iter().map(|node| node.ms).sum::<f64>();
    let nodes = nodes_by_graph.into_iter().max_by(|a, b| total(a).total_cmp(&total(b))).context("no graph ran")?;
    let mut by_operator: BTreeMap<&str, OfOperator> = BTreeMap::new();
    for node in &nodes {
        let sum = by_operator.entry(&node.operator).or_default();
        sum.names.insert(&node.name);
        sum.ms += node.ms;
        sum.read_mib += node.read_mib;
        sum.written_mib += node.written_mib;
    }
    let (whole, runs) = (total(&nodes), nodes.iter().filter(|node| node.name == nodes[0].name).count() as f64);
    let mut rows: Vec<_> = by_operator.into_iter().collect();
    rows.sort_by(|a, b| b.1.ms.total_cmp(&a.1.ms));
    println!(
        "{:24} {:>6} {:>10} {:>6} {:>10} {:>12}",
        "operator", "nodes", "ms a step", "share", "MiB read", "MiB written"
    );
    for (operator, OfOperator { names, ms, read_mib, written_mib }) in rows {
        println!(
            "{operator:24} {:>6} {:>10.3} {:>5.1}% {:>10.2} {:>12.2}",
            names.len(),
            ms / runs,
            100.0 * ms / whole,
            read_mib / runs,
            written_mib / runs
        );
    }
    let mib = |of: fn(&NodeRun) -> f64| nodes.iter().map(of).sum::<f64>() / runs;
    let (read, written) = (mib(|node| node.read_mib), mib(|node| node.written_mib));
    println!("{:24} {:>6} {:>10.3} {:>6} {read:>10.2} {written:>12.2}", "all", "", whole / runs, "");
    Ok(())
}

/// What all nodes of an operator took.
#[derive(Default)]
struct OfOperator<'a> {
    names: BTreeSet<&'a str>,
    ms: f64,
    read_mib: f64,
    written_mib: f64,
}

/// A node ran once.
struct NodeRun {
    operator: String,
    name: String,
    ms: f64,
    /// Of all its operands, and of all its results.
    read_mib: f64,
    written_mib: f64,
}

impl NodeRun {
    fn of(event: &Value) -> Option<Self> {
        let name = event["name"].as_str()?.strip_suffix("_kernel_time")?;
        let args = &event["args"];
        let mib = |tensors: &Value| tensors.as_array().map_or(0.0, |tensors| tensors.iter().map(mib).sum());
        Some(Self {
            operator: args["op_name"].as_str()?.to_owned(),
            name: name.to_owned(),
            ms: event["dur"].as_f64()? / 1e3,
            read_mib: mib(&args["input_type_shape"]),
            written_mib: mib(&args["output_type_shape"]),
        })
    }
}

/// Of a tensor, as the profile has it: its shape by its type.
fn mib(tensor: &Value) -> f64 {
    let Some((kind, shape)) = tensor.as_object().and_then(|fields| fields.iter().next()) else { return 0.0 };
    let bytes = match kind.as_str() {
        "bool" | "uint8" | "int8" => 1,
        "float16" | "bfloat16" => 2,
        "double" | "int64" => 8,
        _ => 4,
    };
    let count: f64 = shape.as_array().into_iter().flatten().filter_map(Value::as_f64).product();
    count * f64::from(bytes) / f64::from(1 << 20)
}

struct Measured {
    /// Milliseconds of each step, sorted.
    times: Vec<f64>,
    /// Of the last step.
    loss: f32,
    /// What a step took of the processors, all threads together: other processes hardly change it.
    processor_ms: f64,
}

/// With a device, so many steps at a time: a lane looks no more often either.
fn measure(training: &mut Training, stride: u64, at_least: Duration) -> anyhow::Result<Measured> {
    let warm = training.step() + WARM_UP_STEPS;
    while training.step() < warm {
        training.train_steps(stride)?;
    }
    let warm = training.step();
    let (end, before) = (Instant::now() + at_least, processor_ms()?);
    let (mut times, mut loss) = (Vec::new(), 0.0);
    while times.len() < STEPS_MIN || Instant::now() < end {
        let (begin, before) = (Instant::now(), training.step());
        loss = training.train_steps(stride)?.loss;
        times.push(milliseconds(begin.elapsed()) / (training.step() - before) as f64);
    }
    let processor_ms = (processor_ms()? - before) / (training.step() - warm) as f64;
    times.sort_by(f64::total_cmp);
    Ok(Measured { times, loss, processor_ms })
}

fn thousandths(number: f64) -> f64 {
    (1e3 * number).round() / 1e3
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The time that the threads of this process have run on a processor.
fn processor_ms() -> anyhow::Result<f64> {
    let mut sum_ns = 0;
    for thread in std::fs::read_dir("/proc/self/task").context("the process's own threads")? {
        let times = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum_ns += times.split(' ').next().context("the time is missing")?.parse::<u64>()?;
    }
    Ok(sum_ns as f64 / 1e6)
}

/// The most memory of the host that this process had at a time.
fn peak_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the process's own status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the figure is missing")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok((kib / 1024.0).round())
}

impl Timed {
    fn exported(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join("index.json");
        let index = std::fs::read(&path).with_context(|| format!("{}", path.display()))?;
        let index: Value = serde_json::from_slice(&index)?;
        let models = index["models"].as_array().context("the index has no list of models")?;
        let model = models.iter().find(|model| model["name"] == name).with_context(|| format!("no model {name}"))?;
        let size = |value: &Value| Ok(usize::try_from(value.as_u64().context("a size is no number")?)?);
        let shape: anyhow::Result<Vec<usize>> =
            model["shape"].as_array().context("a model has no shape")?.iter().map(size).collect();
        let onnx = std::fs::read(folder.join(model["file"].as_str().context("a model has no file")?))?;
        let is_of_tokens = model["dtype"] == "int64";
        Ok(Self {
            model: ModelPlan::File { onnx: Arc::new(onnx), settings: Settings::default(), dropout: None },
            shape: shape?,
            classes: size(&model["classes"])?,
            is_of_tokens,
            tells_each: is_of_tokens,
        })
    }

    /// The sizes of scripts/twins/bench.py. The transformer tells one class for each row here.
    fn family(name: &str) -> anyhow::Result<Self> {
        let (activation, dropout) = (Activation::Relu, 0.0);
        let of_images =
            |model| Self { model, shape: vec![64, 3, 32, 32], classes: 10, is_of_tokens: false, tells_each: false };
        let of_tokens = |decoder, layers, width, heads, batch, vocabulary| Self {
            model: ModelPlan::Transformer {
                decoder,
                layers,
                width,
                heads,
                ratio: 4,
                norm: PositionNorm::Layer,
                patch: None,
                vocabulary: None,
                activation: Activation::Gelu,
                dropout,
            },
            shape: vec![batch, 128],
            classes: vocabulary,
            is_of_tokens: true,
            tells_each: decoder,
        };
        Ok(match name {
            "mlp" => Self {
                shape: vec![128, 784],
                ..of_images(ModelPlan::Mlp { hidden: vec![512, 512], norm: Norm::None, activation, dropout })
            },
            "cnn" => of_images(ModelPlan::Cnn {
                channels: vec![32, 64, 128],
                layers: 1,
                kernel: 3,
                norm: Norm::None,
                activation,
                pool: Pool::Max,
                global_pool: false,
                hidden: vec![],
                dropout,
            }),
            "cnn1024" => Self { shape: vec![1024, 3, 32, 32], ..Self::family("cnn")? },
            "resnet18" => of_images(ModelPlan::Resnet {
                blocks: vec![2, 2, 2, 2],
                width: 64,
                bottleneck: false,
                kernel: 3,
                norm: Norm::Batch,
                activation,
                dropout,
            }),
            "transformer" => of_tokens(false, 1, 256, 4, 16, 256),
            "gpt2" => of_tokens(true, 6, 384, 6, 4, 8192),
            _ => anyhow::bail!("no model {name}"),
        })
    }

    /// Random rows. Nothing is validated, but a plan has rows for that.
    fn data(&self) -> Dataset {
        let mut generator = ChaCha8Rng::seed_from_u64(SEED);
        let train = self.rows(ROWS_MIN.max(BATCHES * self.shape[0]), &mut generator);
        Dataset { validation: self.rows(self.shape[0], &mut generator), train }
    }

    fn rows(&self, rows: usize, generator: &mut ChaCha8Rng) -> Split {
        let row = self.shape[1..].to_vec();
        let count = rows * row.iter().product::<usize>();
        let number = |_| generator.next_u32() as f32 / u32::MAX as f32 * 3.4 - 1.7;
        let feature = if self.is_of_tokens {
            let vocabulary = vec![self.classes];
            let values = Values::I64(tokens(generator, count, self.classes));
            Feature { values, vocabulary, ..Feature::numbers("x", row.clone(), Vec::new()) }
        } else {
            Feature::numbers("x", row.clone(), (0..count).map(number).collect())
        };
        let shape = if self.tells_each { row } else { vec![] };
        let labels = tokens(generator, rows * shape.iter().product::<usize>(), self.classes);
        Split { features: vec![feature], target: Target::classes(labels, shape, self.classes) }
    }
}

fn tokens(generator: &mut ChaCha8Rng, count: usize, classes: usize) -> Vec<i64> {
    (0..count).map(|_| i64::from(generator.next_u32()) % classes as i64).collect()
}
