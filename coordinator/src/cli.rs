//! The command line of `regatta`, and nothing of what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use regatta_broker::Server;
use regatta_schemas::api::default_lease;
use regatta_schemas::roles::Role;
use regatta_schemas::{Attempt, PoolId, StudyId, TenantId, TrialId};

use crate::front::Reference;

/// Asynchronous hyperparameter search over a fleet of agents.
///
/// Start with:  regatta run --local examples/digits.yaml
#[derive(Debug, Parser)]
#[command(name = "regatta", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub server: Server,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Coordinate: create the streams, propose and offer trials, stop losers, answer requests.
    Serve(Serve),
    /// Start a study and follow it to its end.
    Run(Run),
    Ablate(Ablate),
    Simulate(Simulate),
    Replay(Replay),
    /// Studies: list, show, stop, pause, resume, delete.
    #[command(subcommand)]
    Study(StudyCommand),
    /// Trials: list, show, stop, submit one of your own.
    #[command(subcommand)]
    Trial(TrialCommand),
    /// The agents that beat.
    Fleet(Json),
    /// What trials print.
    Logs(Logs),
    /// A study's trials with their parameters and results, as CSV or JSON.
    Export(Export),
    /// Keys of the roles, and a configuration of nats-server that knows them.
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Check a study file and say everything that is wrong with it.
    Check {
        /// The study file (YAML or JSON).
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Args)]
pub struct Json {
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// Seconds of silence after which an agent has lost its trials.
    #[arg(long, env = "REGATTA_LEASE_TIMEOUT_S", default_value_t = 5.0, value_parser = seconds)]
    pub lease_timeout_s: f64,

    /// Offers that each pool keeps ahead of its free lanes, for an autoscaler to see.
    #[arg(long, env = "REGATTA_BACKLOG", default_value_t = 0)]
    pub backlog: u32,

    /// Copies that NATS keeps of each stream; more than 1 needs a cluster.
    #[arg(long, env = "REGATTA_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,

    /// Seconds after which a checkpoint that no trial needs, and nobody announced, is deleted.
    #[arg(long, env = "REGATTA_SWEEP_AGE_S", default_value_t = SWEEP_AGE_S, value_parser = seconds)]
    pub sweep_age_s: f64,

    /// Log as JSON lines.
    #[arg(long, env = "REGATTA_LOG_JSON")]
    pub log_json: bool,
}

/// A day: what an agent that was cut off announces later is not lost.
pub const SWEEP_AGE_S: f64 = 86_400.0;

#[derive(Debug, Clone, Args)]
pub struct Run {
    /// The study file (YAML or JSON).
    pub file: PathBuf,

    #[command(flatten)]
    pub place: Place,

    /// Instead of the seed in the file.
    #[arg(long)]
    pub seed: Option<u64>,

    /// Instead of the sampler in the file: its name, or {name: grid, points: 4}.
    #[arg(long)]
    pub sampler: Option<String>,

    /// Instead of the stopper in the file: its name, or {name: asha, eta: 4}.
    #[arg(long)]
    pub stopper: Option<String>,

    /// Let the sampler begin with what another study measured: its id, or a file that `regatta export --format json` wrote.
    /// May be given again.
    #[arg(long, value_name = "STUDY|FILE")]
    pub earlier: Vec<String>,

    /// Of an ablation: instead of the repeats in the file.
    #[arg(skip)]
    pub repeats: Option<u32>,

    /// Start the study, print its id, and do not follow it.
    #[arg(long, conflicts_with = "local")]
    pub detach: bool,

    /// Print every record as a line of JSON, and a summary as the last line.
    #[arg(long)]
    pub json: bool,
}

/// Where a study runs: on the fleet of the NATS server, or on a cluster of its own.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Run on a cluster of its own on this machine: nats-server, coordinator and agents, all stopped at the end.
    #[arg(long)]
    pub local: bool,

    /// With --local: agent processes.
    #[arg(long, default_value_t = 1, requires = "local", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub agents: u32,

    /// With --local: trials that each agent runs at once; by default the cores divided by the agents.
    #[arg(long, requires = "local", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub lanes: Option<u32>,

    /// With --local: what trains: auto, cpu or cuda:N.
    #[arg(long, default_value = "auto", requires = "local")]
    pub device: String,

    /// With --local: let trials run this program, by NAME alone; give it once for each program.
    #[arg(long, value_name = "NAME=PATH", requires = "local")]
    pub allow: Vec<String>,

    /// With --local: keep NATS's store and the agents' logs in this folder; by default a temporary one, removed at the end.
    #[arg(long, requires = "local")]
    pub folder: Option<PathBuf>,
}

/// Leave one component out at a time, of the data, the model or the recipe, and see what it was worth
///
/// Trains the recipe whole, and without each component that the file's `ablation` names, as often as it says, and prints
/// how the objective differs, with intervals.
///
///   ablation:
///     components:
///       border: { features: ["x[0:8]"] }                # columns, arrays, or positions of their rows
///       hidden: { layers: [layers.1] }                  # layers of the model, or name prefixes of an ONNX model
///       dropout: { patch: { model: { dropout: 0 } } }   # any other change of the recipe
///     repeats: 5
///     design: leave_one_out                             # or pairs, or factorial
///
///   regatta ablate --local examples/ablation.yaml --plot ablation.svg
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct Ablate {
    /// The study file (YAML or JSON), with an `ablation` in the place of a space.
    pub file: PathBuf,

    #[command(flatten)]
    pub place: Place,

    /// Instead of the repeats in the file.
    #[arg(long)]
    pub repeats: Option<u32>,

    /// Instead of the seed in the file.
    #[arg(long)]
    pub seed: Option<u64>,

    /// Draw the differences and their intervals into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,

    /// Print every record as a line of JSON, and the findings as the last line.
    #[arg(long)]
    pub json: bool,
}

/// Simulate a study in virtual time: the same search, with learning curves from a program or a table
///
/// The program reads one line of JSON for each configuration, {"params": {...}, "resource": EPOCHS}, and answers one:
/// {"validation_accuracy": [one number an epoch], "elapsed_s": [seconds from the start to each epoch's end]}.
/// The study file needs no recipe, and its objective may be any metric that the program answers.
///
///   regatta simulate study.yaml --lanes 32 --objective 'python3 curves.py'
///
/// A table is a .parquet, .csv or .npz file with a column (an array) for each parameter of the space, for each metric that
/// the study names, and `elapsed_s`. It has a row an epoch, numbered from 1 by the column `resource`; or, in an npz without
/// it, a row a configuration and a second axis of epochs in the arrays of metrics and `elapsed_s`. A configuration is
/// answered by the curve of the nearest one: its choices and bools are equal, and the sum of squares of the distances of
/// its numbers, in shares of their ranges on the scale that is searched, is the least. In an npz, a choice among texts is
/// its place in the list, from 0. What a row has for a parameter that does not exist there is not looked at, but a
/// cell of a CSV file must have something in it.
///
///   regatta simulate study.yaml --lanes 32 --objective curves.parquet
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct Simulate {
    /// The study file (YAML or JSON).
    pub file: PathBuf,

    /// Trials that run at once.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lanes: u32,

    /// The program that answers with learning curves, as a command line; or the path of a table of them.
    #[arg(long, value_name = "COMMAND|FILE")]
    pub objective: String,

    /// Fields to send to the program along with each configuration: one JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = crate::simulate::object)]
    pub send: serde_json::Map<String, serde_json::Value>,

    /// Instead of the seed in the file.
    #[arg(long)]
    pub seed: Option<u64>,

    /// Instead of the sampler in the file: its name, or {name: grid, points: 4}.
    #[arg(long)]
    pub sampler: Option<String>,

    /// Instead of the stopper in the file: its name, or {name: asha, eta: 4}.
    #[arg(long)]
    pub stopper: Option<String>,

    /// The share of lanes that take four times as long.
    #[arg(long, default_value_t = 0.0, value_parser = crate::simulate::share)]
    pub stragglers: f64,

    /// The share of epochs in which the device fails.
    #[arg(long, default_value_t = 0.0, value_parser = crate::simulate::share)]
    pub failures: f64,

    /// Seconds after which, on average, an agent dies; another takes its place.
    #[arg(long, value_parser = seconds)]
    pub crash_every_s: Option<f64>,

    /// Seconds after which, on average, an agent drains: its trials go on elsewhere from a checkpoint, and another agent
    /// takes its place.
    #[arg(long, value_parser = seconds)]
    pub drain_every_s: Option<f64>,

    /// Seconds after which, on average, an agent is not heard for up to 30 s, though it trains on.
    #[arg(long, value_parser = seconds)]
    pub silence_every_s: Option<f64>,

    /// Epochs between two checkpoints of a trial; 0: only where it is set aside.
    #[arg(long, default_value_t = 1)]
    pub checkpoint_every: u32,

    /// With several objectives: print the hypervolume between the front and these values, one of each objective.
    #[arg(long, value_name = "METRIC=VALUE,...", value_parser = Reference::parse)]
    pub reference: Option<Reference>,

    /// Print the outcome as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// What other stoppers would have cost and found, by the curves that a study measured
///
/// The trials of a finished or running study are proposed again, in their order, to a simulated fleet; their curves are
/// what was measured. A study that ran with `stopper: none` answers best, since it knows every curve to its end.
///
///   regatta replay fashion-1 --stopper asha --stopper '{name: asha, eta: 4}'
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct Replay {
    #[arg(required_unless_present = "export")]
    pub study: Option<StudyId>,

    /// Instead of a study on the server: what `regatta export --format json` wrote of one.
    #[arg(long, conflicts_with = "study")]
    pub export: Option<PathBuf>,

    /// A stopper to try: its name, or {name: asha, eta: 4}; may be given again.
    #[arg(long)]
    pub stopper: Vec<String>,

    /// Trials that run at once; by default as many as did.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lanes: Option<u32>,

    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum StudyCommand {
    /// All studies, a line each.
    List(Json),
    /// One study: its state, its best trials.
    Show(StudyShow),
    /// End it now; its running trials are stopped.
    Stop(StudyArg),
    /// Propose nothing more for now; running trials go on.
    Pause(StudyArg),
    /// Go on after a pause.
    Resume(StudyArg),
    /// Remove an ended study: its log, its output, its checkpoints.
    Delete(StudyArg),
    /// Follow a study to its end, as `run` does.
    Follow(StudyArg),
}

#[derive(Debug, Clone, Args)]
pub struct StudyShow {
    #[command(flatten)]
    pub study: StudyArg,

    /// With several objectives: the hypervolume between the front and these values, one of each objective.
    #[arg(long, value_name = "METRIC=VALUE,...", value_parser = Reference::parse)]
    pub reference: Option<Reference>,
}

#[derive(Debug, Clone, Args)]
pub struct StudyArg {
    pub study: StudyId,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Subcommand)]
pub enum TrialCommand {
    /// All trials of a study, the best first.
    List(StudyArg),
    /// One trial: parameters, curve, why it ended.
    Show(TrialArg),
    /// End it now.
    Stop(TrialArg),
    /// Send a trial of your own into a study's space.
    Submit(Submit),
    /// Get a trial to train in a loop of your own.
    ///
    /// Prints its number, its parameters, and the epochs to train it to. Report it with `regatta trial observe` at least
    /// every --lease-s seconds, else somebody else gets it.
    Suggest(Suggest),
    /// Report what a trial of `regatta trial suggest` measured, or how it ended.
    ///
    ///   regatta trial observe STUDY TRIAL ATTEMPT --epoch 3 validation_accuracy=0.91
    ///   regatta trial observe STUDY TRIAL ATTEMPT --epoch 9 validation_accuracy=0.95 --end done
    #[command(verbatim_doc_comment)]
    Observe(Observe),
    /// Write its trained model as an ONNX file.
    ///
    /// The model is that of the trial's last checkpoint, with the weights that measured best until then by the study's
    /// (first) objective, unless its recipe has `keep_best: false` or --last is given. The command says what these
    /// measured. The file takes what the trial was trained on, normalised as the recipe says, in any number of rows. A
    /// family's model gives `output`, before any softmax; your own model keeps the inputs and outputs that it has.
    Export(TrialExport),
}

#[derive(Debug, Clone, Args)]
pub struct TrialArg {
    pub study: StudyId,
    pub trial: TrialId,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Clone, Args)]
pub struct Suggest {
    pub study: StudyId,

    /// Seconds that may pass between two reports.
    #[arg(long, default_value_t = default_lease())]
    pub lease_s: u32,

    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Clone, Args)]
pub struct Observe {
    pub study: StudyId,
    pub trial: TrialId,
    pub attempt: Attempt,

    /// What was measured: metric=value. Without any, the trial is only kept.
    #[arg(requires = "epoch")]
    pub metrics: Vec<String>,

    /// With how many epochs done.
    #[arg(long)]
    pub epoch: Option<u32>,

    /// Seconds of training so far.
    #[arg(long, default_value_t = 0.0)]
    pub elapsed_s: f64,

    /// How it ended.
    #[arg(long)]
    pub end: Option<End>,

    /// With a failure: what happened, in a line.
    #[arg(long, default_value = "")]
    pub detail: String,

    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum End {
    /// Trained as far as it was asked to.
    Done,
    /// It cannot be trained.
    Failed,
    /// Given back for others.
    Released,
}

#[derive(Debug, Clone, Args)]
pub struct Submit {
    pub study: StudyId,

    /// The parameters: name=value, as many as the space wants; or one JSON object.
    #[arg(required = true)]
    pub params: Vec<String>,

    /// Higher goes first among trials that wait.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i32,

    /// A label: name=value.
    #[arg(long = "label")]
    pub labels: Vec<String>,

    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:  regatta trial export digits-0a1b 12 -o model.onnx")]
pub struct TrialExport {
    pub study: StudyId,
    pub trial: TrialId,

    /// The file to write.
    #[arg(short, long)]
    pub output: PathBuf,

    /// Overwrite the file if it is there.
    #[arg(long)]
    pub force: bool,

    /// Let the model take numbers as the data have them: what the recipe's `normalize` did becomes a part of its graph.
    #[arg(long)]
    pub raw: bool,

    /// Take the weights of the last epoch of the checkpoint, rather than those that measured best.
    #[arg(long)]
    pub last: bool,

    /// The file that your own model was trained from, where the agents read it from a folder of theirs.
    #[arg(long)]
    pub model: Option<PathBuf>,

    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, Clone, Args)]
pub struct Logs {
    pub study: StudyId,
    pub trial: Option<TrialId>,
    /// Go on as lines arrive.
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Export {
    pub study: StudyId,
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    pub format: Format,
    /// Where to write; by default to the terminal.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One line a trial: parameters, status, best value, last metrics.
    Csv,
    /// Everything, curves included.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    Init(AuthInit),
    Rotate(AuthRotate),
}

/// Make what is missing of a folder of keys, and write the server's configuration
///
/// FOLDER/tenants/TENANT/ROLE/nkey      for --credentials: a role's key, for nobody else to read
/// FOLDER/server/nats.conf              for `nats-server --config`: public keys, and what each role may do
///
/// The roles are coordinator, agent, publisher, viewer and sampler. Keys that are there stay; the configuration is written anew.
///
///   regatta auth init auth && nats-server --jetstream --store_dir streams --config auth/server/nats.conf
#[derive(Debug, Clone, Default, Args)]
#[command(verbatim_doc_comment)]
pub struct AuthInit {
    pub folder: PathBuf,

    /// A tenant, who sees nothing of the others, and the disk that its streams may take, as vision=20G; may be given
    /// again. By default there is one, `default`.
    #[arg(long = "tenant", value_name = "TENANT[=SIZE]")]
    pub tenants: Vec<crate::auth::NewTenant>,

    /// A pool that agents of these tenants may serve; may be given again. By default they may serve any.
    #[arg(long = "pool", value_name = "POOL")]
    pub pools: Vec<PoolId>,

    /// The server's certificate: it then speaks TLS only.
    #[arg(long, value_name = "FILE", requires = "server_key")]
    pub server_cert: Option<PathBuf>,

    /// The key of the server's certificate.
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    pub server_key: Option<PathBuf>,

    /// Clients must show a certificate of this authority.
    #[arg(long, value_name = "FILE", requires = "server_cert")]
    pub client_ca: Option<PathBuf>,
}

/// Replace a role's key, without a restart
///
/// The new key is valid beside the old one, once the server has read its configuration again (SIGHUP). With --retire, the
/// old one is not valid any more; programs read their key's file again and connect with the new one.
///
///   regatta auth rotate auth agent             # then SIGHUP to nats-server, and bring the file to where it is used
///   regatta auth rotate auth agent --retire    # then SIGHUP to nats-server
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub struct AuthRotate {
    pub folder: PathBuf,
    pub role: Role,

    #[arg(long, default_value = "default")]
    pub tenant: TenantId,

    /// Leave only the newest key valid.
    #[arg(long)]
    pub retire: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("give seconds between 0.1 and 86400".to_owned()),
    }
}
