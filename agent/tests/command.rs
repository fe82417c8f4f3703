//! Trials that programs train: what they say, how they end, and that nothing of them is left.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "support/library.rs"]
mod library;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use library::library;
use regatta_agent::agent::{Ending, Lane};
use regatta_agent::command::{CommandSettings, Programs, Workplace};
use regatta_agent::lane::{Assignment, EngineSettings, LaneThread, Material, Report};
use regatta_agent::runtime::{CudaSettings, Device};
use regatta_schemas::AgentId;
use regatta_schemas::reasons::FailCause;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The longest that anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lane that allows the shell, and what it says.
struct Bench {
    lane: LaneThread,
    reports: mpsc::Receiver<(Lane, Report)>,
}

/// All that a lane said of a trial.
#[derive(Debug)]
struct Told {
    lines: Vec<String>,
    points: Vec<(u32, BTreeMap<String, f64>)>,
    /// Resource and bytes of each.
    checkpoints: Vec<(u32, Vec<u8>)>,
    ending: Ending,
}

impl Told {
    fn resources(&self) -> Vec<u32> {
        self.points.iter().map(|(resource, _)| *resource).collect()
    }
}

/// What is asked for beside the recipe.
#[derive(Default)]
struct Asked {
    until: Option<u32>,
    resume: Option<(u32, Vec<u8>)>,
    /// Interrupt the lane once the program has written `ready`; whether with a checkpoint.
    interrupt: Option<bool>,
}

impl Bench {
    fn new() -> Self {
        Self::with(CommandSettings { grace: Duration::from_millis(500), ..CommandSettings::default() })
    }

    fn with(commands: CommandSettings) -> Self {
        let (sender, reports) = mpsc::channel(1_000);
        let programs = Programs::read(&["sh=/bin/sh".to_owned()]).unwrap();
        let settings = EngineSettings {
            library: library(),
            device: Device::Cpu,
            threads: 1,
            cuda: CudaSettings::default(),
            data_bytes_max: None,
            commands: CommandSettings { programs, threads: 1, ..commands },
        };
        Self { lane: LaneThread::start(Lane(0), &AgentId::new("agent").unwrap(), &settings, sender).unwrap(), reports }
    }

    fn script(&mut self, script: &str) -> Told {
        self.run(&json!({"command": {"program": "sh", "arguments": ["-c", script]}}), Asked::default())
    }

    fn script_when(&mut self, script: &str, asked: Asked) -> Told {
        let recipe = json!({
            "command": {"program": "sh", "arguments": ["-c", script]},
            "checkpoint": {"every_s": 1000, "at_end": true},
        });
        self.run(&recipe, asked)
    }

    /// A trial of four epochs.
    fn run(&mut self, recipe: &Value, asked: Asked) -> Told {
        let mut offer = json!({
            "type": "offer",
            "study": "s",
            "trial": 1,
            "attempt": 2,
            "params": {"rate": 0.5, "kind": "a"},
            "recipe": recipe,
            "resource": 4,
            "until": asked.until,
            "seed": 3,
        });
        if let Some((resource, _)) = &asked.resume {
            offer["resume"] = json!({"object": "o", "bytes": 1, "step": resource, "resource": resource});
        }
        let offer = Box::new(serde_json::from_value(offer).unwrap());
        let material = Material::Command(Workplace::new().unwrap());
        let resume = asked.resume.map(|(_, bytes)| (bytes, Duration::ZERO));
        self.lane.interrupt.reset();
        assert!(self.lane.assign(Assignment { offer, material, resume }));
        let (mut lines, mut points, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match self.reports.blocking_recv().unwrap().1 {
                Report::Line(line) => {
                    if let Some(keep) = asked.interrupt.filter(|_| line == "ready") {
                        self.lane.interrupt.end(keep);
                    }
                    lines.push(line);
                }
                Report::Measured(point) => points.push((point.resource, point.metrics)),
                Report::Checkpoint(snapshot) => checkpoints.push((snapshot.resource, snapshot.bytes)),
                Report::Ended(ending) => return Told { lines, points, checkpoints, ending },
            }
        }
    }
}

fn cause(ending: &Ending) -> Option<FailCause> {
    match ending {
        Ending::Failed { cause, .. } => Some(*cause),
        Ending::Finished { .. } | Ending::Paused { .. } | Ending::Interrupted { .. } => None,
    }
}

fn has_finished(ending: &Ending, epochs: u32) -> bool {
    matches!(ending, Ending::Finished { resource, .. } if *resource == epochs)
}

/// Whether the process is there, and not merely waiting for its parent to take note of its end.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn until_gone(pid: &str) {
    let start = Instant::now();
    while is_alive(pid) {
        assert!(start.elapsed() < PATIENCE, "the process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_program_says_is_measured_and_passed_on() {
    let told = Bench::new().script(
        r#"
        echo begins
        echo '{"resource": 1, "metrics": {"loss": 0.5, "accuracy": 1}}'
        echo '{"resource": 2, "metrics": {"loss": 9}}' >&2
        echo '{"resource": 4, "metrics": {}}'
        printf 'no line end'
        "#,
    );
    assert!(has_finished(&told.ending, 4), "{told:?}");
    assert_eq!(told.resources(), [1, 4]);
    assert_eq!(told.points[0].1, BTreeMap::from([("loss".to_owned(), 0.5), ("accuracy".to_owned(), 1.0)]));
    let lines: BTreeSet<_> = told.lines.iter().map(String::as_str).collect();
    assert!(lines.contains("begins") && lines.contains("no line end"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(r#"{"loss": 9}"#)), "{lines:?}");
}

#[test]
fn a_program_is_told_what_it_needs_and_nothing_else() {
    let told = Bench::new().script(
        r#"
        echo "names $(env | cut -d= -f1 | sort | tr '\n' ' ')"
        echo "values $REGATTA_STUDY $REGATTA_TRIAL $REGATTA_ATTEMPT $REGATTA_SEED $REGATTA_RESOURCE $REGATTA_UNTIL"
        cat "$REGATTA_PARAMS"; echo
        [ "$PWD" = "$HOME" ] && [ -d "$REGATTA_FILES" ] && [ -d "$REGATTA_CHECKPOINTS" ] && echo "works in $PWD"
        cat; echo '{"resource": 4, "metrics": {}}'
        "#,
    );
    assert!(has_finished(&told.ending, 4), "{told:?}");
    let names: BTreeSet<&str> = told.lines[0].split(' ').skip(1).filter(|name| !name.is_empty()).collect();
    let ours = [
        "CUDA_VISIBLE_DEVICES",
        "HOME",
        "LANG",
        "OMP_NUM_THREADS",
        "PATH",
        "REGATTA_ATTEMPT",
        "REGATTA_CHECKPOINTS",
        "REGATTA_CHECKPOINT_EVERY_S",
        "REGATTA_FILES",
        "REGATTA_PARAMS",
        "REGATTA_RESOURCE",
        "REGATTA_SEED",
        "REGATTA_STUDY",
        "REGATTA_TRIAL",
        "REGATTA_UNTIL",
        "TMPDIR",
    ];
    let of_the_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    assert!(ours.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(names.iter().all(|name| ours.contains(name) || of_the_shell.contains(name)), "{names:?}");
    assert_eq!(told.lines[1], "values s 1 2 3 4 4");
    assert_eq!(serde_json::from_str::<Value>(&told.lines[2]).unwrap(), json!({"rate": 0.5, "kind": "a"}));
    let folder = told.lines[3].strip_prefix("works in ").unwrap();
    assert!(!Path::new(folder).exists(), "{folder} is left");
}

#[test]
fn arguments_arrive_as_they_are() {
    let strange = ["$HOME; rm -rf /", "`id`", "*", "", "a\nb", "'\"", "&& exit 1", "--help", "\\"];
    let script = r#"for text in "$@"; do printf '<%s>' "$text"; done; echo; echo '{"resource": 4, "metrics": {}}'"#;
    let mut arguments = vec![json!("-c"), json!(script), json!("sh")];
    arguments.extend(strange.map(Value::from));
    arguments.extend([json!(1e-5), json!(0.1), json!(3), json!(true)]);
    let told = Bench::new().run(&json!({"command": {"program": "sh", "arguments": arguments}}), Asked::default());
    let expected: String =
        strange.iter().chain(&["0.00001", "0.1", "3", "true"]).map(|text| format!("<{text}>")).collect();
    assert_eq!(told.lines.join("\n"), expected);
}

#[test]
fn each_way_to_end_has_its_cause_and_the_lane_survives() {
    let report = r#"echo '{"resource": 1, "metrics": {"loss": 1}}'"#;
    let limited = |limit: &str, script: &str| {
        let mut recipe = json!({"command": {"program": "sh", "arguments": ["-c", script]}});
        recipe[limit] = 0.3.into();
        recipe
    };
    let script = |script: &str| json!({"command": {"program": "sh", "arguments": ["-c", script]}});
    let rows = [
        (script("echo oops >&2; exit 3"), FailCause::Program),
        (script("exit 75"), FailCause::Device),
        (script("kill -KILL $$"), FailCause::OutOfMemory),
        (script("kill -SEGV $$"), FailCause::Program),
        (script("true"), FailCause::Program),
        (script(&format!("{report}; {report}; sleep 100")), FailCause::Program),
        (script(r#"echo '{"metrics": {}}'; sleep 100"#), FailCause::Program),
        (script(&format!(r#"{report}; echo '{{"checkpoint": "none"}}'; sleep 100"#)), FailCause::Program),
        (script(r#"echo '{"resource": 5, "metrics": {}}'; sleep 100"#), FailCause::Program),
        (script(r#"echo '{"resource": 1, "metrics": {"loss": NaN}}'; sleep 100"#), FailCause::Diverged),
        (script(r#"echo '{"resource": 1, "metrics": {"loss": -Infinity}}'; exit 1"#), FailCause::Diverged),
        (limited("time_limit_s", "while :; do echo on; sleep 0.05; done"), FailCause::TimeLimit),
        (limited("silence_limit_s", "trap '' TERM; sleep 100 & wait"), FailCause::TimeLimit),
        (json!({"command": {"program": "python"}}), FailCause::Configuration),
        (json!({"command": {"program": "/bin/sh"}}), FailCause::Configuration),
    ];
    let mut bench = Bench::new();
    for (recipe, expected) in rows {
        let told = bench.run(&recipe, Asked::default());
        assert_eq!(cause(&told.ending), Some(expected), "{recipe} {told:?}");
    }
    let told = bench.script("echo its last words >&2; exit 1");
    assert_eq!((cause(&told.ending), told.lines.len()), (Some(FailCause::Program), 1));
    let told = bench.script(&format!("{report}; exit 0"));
    assert!(has_finished(&told.ending, 1), "an end of its own, before the resource, is as good: {told:?}");
}

#[test]
fn a_stop_leaves_nothing_of_what_was_started() {
    let told = Bench::new().script_when(
        r#"
        trap '' TERM
        (trap '' TERM; while :; do sleep 1; done) & echo "child $!"
        timeout 1000 sleep 1000 & echo "child $!"
        sh -c 'sleep 1000 & echo "child $!"; exec sleep 1000' & echo "child $!"
        sleep 0.1; echo ready
        while :; do sleep 1; done
        "#,
        Asked { interrupt: Some(false), ..Asked::default() },
    );
    assert_eq!(told.ending, Ending::Interrupted { resource: 0 });
    let children: Vec<_> = told.lines.iter().filter_map(|line| line.strip_prefix("child ")).collect();
    assert_eq!(children.len(), 4, "{told:?}");
    children.into_iter().for_each(until_gone);
}

#[test]
fn children_that_outlive_their_program_go_with_it() {
    let told = Bench::new().script(r#"sleep 1000 & echo "child $!"; echo '{"resource": 4, "metrics": {}}'"#);
    assert!(has_finished(&told.ending, 4), "{told:?}");
    until_gone(told.lines[0].strip_prefix("child ").unwrap());
}

/// Keeps a checkpoint when it is asked to end.
const KEEPS: &str = r#"
    keep() { mkdir -p "$REGATTA_CHECKPOINTS/$1/sub"; echo "$1" > "$REGATTA_CHECKPOINTS/$1/sub/file"; echo "{\"checkpoint\": \"$1\"}"; }
    trap 'keep last; exit 0' TERM
    [ -n "$REGATTA_RESUME" ] && cat "$REGATTA_RESUME/sub/file"
"#;

#[test]
fn a_checkpoint_within_the_grace_counts_and_another_lane_goes_on_from_it() {
    let script = format!(
        "{KEEPS} echo '{{\"resource\": 1, \"metrics\": {{}}}}'; keep first; echo ready; while :; do sleep 0.05; done"
    );
    let kept = |keep: bool| Bench::new().script_when(&script, Asked { interrupt: Some(keep), ..Asked::default() });
    let stopped = kept(false);
    assert_eq!((stopped.ending, stopped.checkpoints.len()), (Ending::Interrupted { resource: 1 }, 0));

    let mut told = kept(true);
    assert_eq!(told.ending, Ending::Interrupted { resource: 1 });
    assert_eq!(told.checkpoints.len(), 1, "the first was not due, and the last replaced it");
    let resumed = Bench::new().script_when(
        &format!("{KEEPS} echo '{{\"resource\": 4, \"metrics\": {{}}}}'; keep end"),
        Asked { resume: told.checkpoints.pop(), ..Asked::default() },
    );
    assert!(has_finished(&resumed.ending, 4), "{resumed:?}");
    assert_eq!(resumed.lines, ["last"]);
    assert_eq!(resumed.checkpoints.iter().map(|(resource, _)| *resource).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_checkpoint_that_is_not_one_fails_the_attempt() {
    let asked = Asked { resume: Some((1, b"no archive".repeat(100))), ..Asked::default() };
    let told = Bench::new().script_when("echo never", asked);
    assert_eq!(cause(&told.ending), Some(FailCause::Checkpoint));
    assert_eq!(told.lines, Vec::<String>::new());
}

#[test]
fn a_checkpoint_with_a_link_is_not_kept_and_the_training_goes_on() {
    let told = Bench::new().script(
        r#"
        mkdir "$REGATTA_CHECKPOINTS/a"; ln -s /etc/passwd "$REGATTA_CHECKPOINTS/a/link"
        echo '{"resource": 4, "metrics": {}, "checkpoint": "a"}'
        "#,
    );
    assert!(has_finished(&told.ending, 4), "{told:?}");
    assert_eq!((told.checkpoints.len(), told.lines.len()), (0, 1));
}

#[test]
fn a_program_that_goes_on_is_ended_at_its_rung() {
    let epochs = r#"epoch=0; while :; do epoch=$((epoch + 1)); echo "{\"resource\": $epoch, \"metrics\": {}}"; "#;
    let at_rung = |rest: &str| {
        let asked = Asked { until: Some(2), ..Asked::default() };
        Bench::new().script_when(&format!("{KEEPS} trap - TERM; {epochs} {rest}"), asked)
    };
    let kept = at_rung("keep epoch-$epoch; [ $epoch -lt 2 ] || sleep 1000; done");
    assert_eq!((kept.ending.clone(), kept.resources()), (Ending::Paused { resource: 2 }, vec![1, 2]), "{kept:?}");
    assert_eq!(kept.checkpoints.iter().map(|(resource, _)| *resource).collect::<Vec<_>>(), [2]);

    let overran = at_rung("[ $epoch -lt 3 ] || sleep 1000; done");
    assert_eq!(
        (overran.ending.clone(), overran.resources()),
        (Ending::Paused { resource: 2 }, vec![1, 2]),
        "{overran:?}"
    );
    let ended = at_rung("[ $epoch -lt 2 ] || exit 0; done");
    assert_eq!(ended.ending, Ending::Paused { resource: 2 });
}

#[test]
fn a_flood_of_output_hides_no_report_and_is_cut() {
    let told = Bench::new().script(
        r#"
        head -c 3000000 /dev/zero | tr '\0' x; echo
        yes line | head -n 100000
        echo '{"resource": 4, "metrics": {"loss": 1}}'
        "#,
    );
    assert!(has_finished(&told.ending, 4), "{:?}", told.ending);
    assert_eq!(told.resources(), [4]);
    assert!(told.lines[0].starts_with("xxx") && told.lines[0].len() < 100_000);
    assert!(told.lines.len() < 90_000, "{}", told.lines.len());
}

#[test]
fn a_program_lives_within_its_limits() {
    let memory_bytes = Some(512 << 20);
    let told = Bench::with(CommandSettings { memory_bytes, ..CommandSettings::default() }).script(
        r#"
        echo "limits $(ulimit -v) $(ulimit -c) $(ulimit -n)"
        python3 -c 'bytearray(1 << 20)' && ! python3 -c 'bytearray(1 << 30)' 2> /dev/null && echo bounded
        echo '{"resource": 4, "metrics": {}}'
        "#,
    );
    assert!(has_finished(&told.ending, 4), "{told:?}");
    let limits: Vec<u64> = told.lines[0].split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
    assert_eq!(limits[..2], [512 << 10, 0]);
    assert!(limits[2] <= 4_096);
    assert_eq!(told.lines[1..], ["bounded"]);
}
