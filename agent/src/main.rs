//! `regatta-agent`: takes trials from a pool, trains them through ONNX Runtime, obeys stops.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use regatta_agent::agent::Settings;
use regatta_agent::command::{CommandSettings, Programs, Workplace};
use regatta_agent::device;
use regatta_agent::lane::EngineSettings;
use regatta_agent::nats::Wire;
use regatta_agent::runtime::{CudaSettings, Device};
use regatta_agent::shell;
use regatta_agent::supplies::Supplies;
use regatta_broker::{Connection, Server, connect};
use regatta_schemas::{AgentId, PoolId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A GPU agent of Regatta. It keeps nothing: start as many as there are devices, stop them at will.
///
/// SIGTERM (or Ctrl-C) drains: running trials are kept as checkpoints and go on elsewhere. A second one ends at once.
#[derive(Debug, Parser)]
#[command(name = "regatta-agent", version)]
struct Args {
    #[command(flatten)]
    server: Server,

    /// The pool whose trials this agent takes.
    #[arg(long, env = "REGATTA_POOL", default_value = "default")]
    pool: PoolId,

    /// How many trials it runs at once.
    #[arg(long, env = "REGATTA_LANES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    lanes: u32,

    /// What trains: `auto` (CUDA where there is a device, else the CPU), `cpu`, or `cuda:0`.
    #[arg(long, env = "REGATTA_DEVICE", default_value = "auto")]
    device: String,

    /// Threads of one lane's training on the CPU; by default the cores divided by the lanes.
    #[arg(long, env = "REGATTA_THREADS")]
    threads: Option<usize>,

    /// Lets CUDA use TensorFloat-32 in matrix products and convolutions: faster, and with fewer digits than a CPU.
    #[arg(long, env = "REGATTA_TF32")]
    tf32: bool,

    /// Has CUDA launch each kernel by itself, where it would record a model's step once and replay it: slower, but a stop
    /// can end a step halfway, and profilers see its parts.
    #[arg(long, env = "REGATTA_KERNEL_BY_KERNEL")]
    kernel_by_kernel: bool,

    /// Leaves every operator to ONNX Runtime on CUDA, where runs of them would become kernels of Regatta's own: slower, and
    /// the reference where numbers are in doubt.
    #[arg(long, env = "REGATTA_STOCK_KERNELS")]
    stock_kernels: bool,

    /// Device memory that each graph of a lane may take, in MiB. A lane has two for each shape of model that it keeps:
    /// one trains, one evaluates; weights and data may take as much again.
    #[arg(long, env = "REGATTA_GPU_MEMORY_LIMIT", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    gpu_memory_limit: Option<u32>,

    /// Device memory that the data of a lane's trial may take, in MiB. Of larger data the rows to train on stay in the host's
    /// memory, and each minibatch crosses to the device when it is due. On a GPU half of its memory, shared by the lanes,
    /// if nothing else is said.
    #[arg(long, env = "REGATTA_DATA_MEMORY", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    data_memory: Option<u32>,

    /// Data and model files that recipes name by path may lie below this folder; without it only uploaded ones are used.
    #[arg(long, env = "REGATTA_DATA_FOLDER")]
    data_folder: Option<PathBuf>,

    /// Lets trials run this program, by NAME alone; give it once for each program.
    #[arg(long, env = "REGATTA_ALLOW", value_name = "NAME=PATH", value_delimiter = ',')]
    allow: Vec<String>,

    /// Address space, in bytes, of a program that trials may run, and of each of its children; by default unlimited.
    #[arg(long, env = "REGATTA_COMMAND_MEMORY_BYTES", value_name = "BYTES")]
    command_memory_bytes: Option<u64>,

    /// Seconds from asking a program to end (SIGTERM) to killing it, with all that it has started.
    #[arg(long, env = "REGATTA_COMMAND_GRACE_S", value_name = "SECONDS", default_value_t = 10)]
    command_grace_s: u32,
    /// Memory for points and lines of output that wait while NATS is away, in KiB. Beyond it those in between are
    /// dropped, never the newest, and never the end of a trial.
    #[arg(long, env = "REGATTA_SPOOL_KIB", value_name = "KIB", default_value_t = 65_536)]
    spool_kib: u32,

    /// libonnxruntime.so; by default ORT_DYLIB_PATH, then `.regatta/lib`, then the system's.
    #[arg(long, env = "ORT_DYLIB_PATH")]
    onnxruntime: Option<PathBuf>,

    /// Log as JSON lines.
    #[arg(long, env = "REGATTA_LOG_JSON")]
    log_json: bool,
}

const BYTES_PER_KIB: usize = 1 << 10;
const BYTES_PER_MIB: usize = 1 << 20;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let args = Args::parse();
    start_logging(args.log_json);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let drain = drain_on_signal().context("cannot listen for signals")?;
    let programs = Programs::read(&args.allow)?;
    Workplace::sweep();
    let library = device::find_library(args.onnxruntime.as_deref())?;
    let device = device::choose(&args.device, &library)?;
    let agent = AgentId::new(format!("agent-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]))?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.unwrap_or((cores / args.lanes as usize).max(1));
    tracing::info!(%agent, pool = %args.pool, lanes = args.lanes, %device, threads, library = %library.display(), "agent starts");

    let link = connect(&Connection { server: args.server, name: agent.to_string(), wait_for_server: true }).await?;
    let wire = Wire::new(link, args.pool, agent.clone());
    let mut drain = std::pin::pin!(drain);
    tokio::select! {
        () = wire.wait_for_coordinator() => {}
        () = &mut drain => return Ok(()),
    }
    let supplies = Supplies::new(wire.data(), wire.models(), wire.checkpoints(), args.data_folder);
    let settings = Settings {
        agent,
        lanes: args.lanes,
        device: device.to_string(),
        programs: programs.names(),
        beat_every: Duration::from_secs(1),
        batch_for: Duration::from_millis(10),
    };
    let memory_limit_bytes = args.gpu_memory_limit.map(|mib| mib as usize * BYTES_PER_MIB);
    let (tf32, kernel_by_kernel, stock_kernels) = (args.tf32, args.kernel_by_kernel, args.stock_kernels);
    let cuda = CudaSettings { tf32, memory_limit_bytes, kernel_by_kernel, stock_kernels };
    let commands = CommandSettings {
        programs,
        memory_bytes: args.command_memory_bytes,
        grace: Duration::from_secs(args.command_grace_s.into()),
        cuda_device: match device {
            Device::Cpu => None,
            Device::Cuda(number) => Some(number),
        },
        threads,
    };
    let half = |bytes: u64| bytes / 2 / u64::from(args.lanes);
    let data_bytes_max = match args.data_memory {
        Some(mib) => Some(u64::from(mib) << 20),
        None => device.memory_bytes().map(half),
    };
    let engine = EngineSettings { library, device, threads, cuda, data_bytes_max, commands };
    let outbox = wire.outbox(args.spool_kib as usize * BYTES_PER_KIB);
    shell::run(wire, supplies, settings, engine, outbox, drain).await?;
    tracing::info!("agent has drained");
    Ok(())
}

/// Completes at the first SIGTERM or SIGINT; a second one ends the process at once.
fn drain_on_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        next_signal(&mut terminate, &mut interrupt).await;
        // Lives as long as the process: it has nobody to report to, since its one act is to end it.
        tokio::spawn(async move {
            next_signal(&mut terminate, &mut interrupt).await;
            tracing::warn!("second signal: ending at once");
            std::process::exit(130);
        });
    })
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn start_logging(as_json: bool) {
    let filter =
        EnvFilter::try_from_env("REGATTA_LOG").unwrap_or_else(|_| EnvFilter::new("info,ort=warn,async_nats=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if as_json {
        builder.json().init();
    } else {
        builder.with_target(false).init();
    }
}
