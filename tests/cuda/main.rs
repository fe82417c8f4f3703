//! Training with CUDA where there is no GPU: ONNX Runtime's own CUDA provider on a CUDA runtime of ours that computes
//! nothing and traces what it is asked for (`tests/cuda/build`). So placement, launches, copies, waiting, what may be
//! recorded as a CUDA graph, and every failure are as they would be; only the numbers are not.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

mod trace;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use regatta_tests::repository;
use trace::{Section, Trace};

/// The folder of the counting libraries, built once.
fn counting() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counting-cuda");
        let built = Command::new(repository().join("tests/cuda/build")).arg(&folder).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        folder
    })
}

/// ONNX Runtime with its CUDA provider, where it was fetched.
fn library() -> Option<PathBuf> {
    let path = repository().join(".regatta/gpu/lib/libonnxruntime.so");
    if !path.exists() {
        eprintln!("skipped: no ONNX Runtime with CUDA; `scripts/fetch onnxruntime-gpu .regatta/gpu/lib` fetches it");
    }
    path.exists().then_some(path)
}

/// A process of `cuda-step` to come.
struct Step {
    command: Command,
    trace: tempfile::TempPath,
}

struct Ended {
    /// `ok`, or the kind of the error.
    outcome: String,
    /// All that it said.
    text: String,
    trace: Trace,
}

impl Step {
    fn new(library: &Path, what: &str) -> Self {
        let trace = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuda-step"));
        command.arg(what).env("ORT_DYLIB_PATH", library).env("COUNTING_CUDA_TRACE", &trace);
        command.env("LD_LIBRARY_PATH", counting());
        Self { command, trace }
    }

    fn arg(mut self, arg: &str) -> Self {
        self.command.arg(arg);
        self
    }

    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn end(mut self) -> Ended {
        let output = self.command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let outcome = text.split(':').next().unwrap().to_owned();
        Ended { outcome, text, trace: Trace::read(&self.trace) }
    }

    fn succeed(self) -> Trace {
        let ended = self.end();
        assert_eq!(ended.outcome, "ok", "{}", ended.text);
        ended.trace
    }
}

/// What an engine hands over at once, and the bytes of its row numbers in `cuda-step`.
const AHEAD: usize = 128;
const INDICES_BYTES: usize = AHEAD * 32 * 8;

/// A step has no node on the CPU, else it would not have been compiled: the agent forbids that fall back.
#[test]
fn steps_cross_to_the_device_with_row_numbers_and_rates_and_back_with_results_however_many_they_are() {
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "four at once").succeed();
    for time in 1..4 {
        let section = trace.section(&format!("time {time}"));
        let replays = section.replays();
        assert!(replays.len() == 4 && replays[0] > 20 && replays.iter().all(|replay| *replay == replays[0]));
        assert_eq!(section.launches(), 0);
        // Learning rates cross while there are new ones.
        assert!(section.copies("h2d").starts_with(&[INDICES_BYTES]) && section.count("malloc") == 0, "{section:?}");
        assert_eq!(section.copies("d2h"), [AHEAD * 4; 2]);
    }
    assert_eq!(trace.count("illegal"), 0);
}

/// What a recording copies from the host is read again at every replay, long after it has gone.
#[test]
fn steps_of_every_kind_are_recorded_without_the_host() {
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "every kind").succeed();
    for kind in 0..3 {
        let section = trace.section(&format!("kind {kind}"));
        // One adds gradients, the other updates.
        assert_eq!(section.recorded().len(), 2, "kind {kind}");
        assert!(section.recordings().iter().all(|recording| recording.copies("h2d").is_empty()), "kind {kind}");
    }
    assert_eq!(trace.count("illegal"), 0);
}

/// Whatever PyTorch exports: every node of its step has a kernel on the device, and may be recorded.
#[test]
fn steps_of_exported_models_are_recorded_without_the_host() {
    let Some(library) = library() else { return };
    for what in ["golden models", "golden models in half", "golden models in bfloat16", "families"] {
        let trace = Step::new(&library, what).env("REGATTA_TEST_DEVICE", "cuda:0").succeed();
        let sections = trace.sections();
        for (name, section) in &sections {
            assert_eq!(section.recorded().len(), 1, "{name}");
            let from_host = section.recordings().iter().flat_map(|recording| recording.copies("h2d")).count();
            assert_eq!(from_host, 0, "{name}");
        }
        eprintln!("{what}: {} trainings", sections.len());
        assert!(sections.len() >= if what == "families" { 4 } else { 60 });
        assert_eq!(trace.count("illegal"), 0, "{what}");
    }
}

#[test]
fn trials_of_one_shape_share_a_recording_while_their_data_are_the_same() {
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "trial after trial").succeed();
    let recordings: Vec<usize> =
        (0..3).map(|trial| trace.section(&format!("trial {trial}")).recorded().len()).collect();
    assert_eq!(recordings, [1, 0, 1]);
    assert_eq!(trace.count("illegal"), 0);
}

#[test]
fn a_step_launches_no_more_kernels_than_it_has_to() {
    let Some(library) = library() else { return };
    // Kernels and products of the model with dropout and clipping; fewer are better.
    for (optimizer, launches_max) in [("sgd", 34), ("adamw", 34)] {
        let trace = Step::new(&library, &format!("{optimizer}, kernel by kernel")).succeed();
        // The first two steps take memory: the second in one piece, by the pattern of the first.
        let steps: Vec<Section> = (2..5).map(|step| trace.section(&format!("step {step}"))).collect();
        for step in &steps {
            assert_eq!(step.copies("d2h"), [AHEAD * 4; 2], "{optimizer}");
            assert_eq!(step.count("malloc"), 0, "{optimizer}");
            assert!(step.launches() <= launches_max, "{optimizer}: {} launches", step.launches());
            assert_eq!(step.launches(), steps[0].launches());
        }
        assert_eq!(trace.count("illegal"), 0);
    }
}

/// Three quarters of the kernels of a step are runs of operators that became one.
#[test]
fn without_a_compiler_for_kernels_a_step_is_of_onnx_runtimes_own() {
    let Some(library) = library() else { return };
    if is_installed("libnvrtc.so") {
        eprintln!("skipped: this machine has NVRTC");
        return;
    }
    let launches = |step: Step| step.succeed().section("step 2").launches();
    let adamw = || Step::new(&library, "adamw, kernel by kernel");
    let folder = without("libnvrtc.so.13");
    let stock = launches(adamw().env("LD_LIBRARY_PATH", folder.path()));
    let own = launches(adamw());
    assert!(3 * own < stock, "{own} launches, {stock} without NVRTC");
}

#[test]
fn gradients_of_kernels_are_cudnns() {
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "convolutions").succeed();
    let calls = trace.section("begin").calls("cudnn cudnnConvolutionBackwardFilter");
    // Of two convolutions, computed twice to take memory and recorded once.
    assert_eq!(calls, 6);
    assert_eq!(trace.count("illegal"), 0);
}

#[test]
fn products_are_in_full_precision_unless_tensorfloat_is_asked_for() {
    let Some(library) = library() else { return };
    let tensorfloat =
        |what| Step::new(&library, what).succeed().section("step 2").math_modes(CUBLAS_TF32_TENSOR_OP_MATH);
    assert_eq!(tensorfloat("sgd"), 0);
    assert!(tensorfloat("tf32") > 0);
}

/// cuBLAS's number for it.
const CUBLAS_TF32_TENSOR_OP_MATH: usize = 3;

/// Whatever the precision: every operator of the step and of its gradient has a kernel on the device.
#[test]
fn a_step_in_16_bits_crosses_to_the_device_as_one_in_single_precision() {
    let Some(library) = library() else { return };
    for what in
        ["half", "half convolutions", "half transformer", "bfloat16", "bfloat16 convolutions", "bfloat16 transformer"]
    {
        let trace = Step::new(&library, what).succeed();
        let step = trace.section("step 2");
        assert_eq!((step.replays().len(), step.launches()), (1, 0), "{what}");
        assert_eq!(step.copies("d2h"), [AHEAD * 4; 2], "{what}");
        assert_eq!(trace.count("illegal"), 0, "{what}");
    }
}

/// Weights are cast as one, and what is cast for a sum alone is not written.
#[test]
fn a_step_in_16_bits_launches_few_kernels_more() {
    let Some(library) = library() else { return };
    for what in ["convolutions", "transformer"] {
        let launches = |what: String| Step::new(&library, &what).succeed().launches();
        let (half, single) = (launches(format!("half {what}")), launches(format!("{what} in single precision")));
        assert!(3 * half <= 4 * single, "{what}: {half} launches, {single} in single precision");
    }
}

#[test]
fn a_step_that_recomputes_takes_less_memory() {
    let Some(library) = library() else { return };
    // The second step takes its memory in one piece, by the pattern of the first.
    let bytes = |what| {
        let taken = Step::new(&library, what).succeed().section("step 1").taken();
        taken.into_iter().max().unwrap_or_default()
    };
    let (kept, recomputed) = (bytes("deep transformer"), bytes("deep transformer, recomputed"));
    eprintln!("a step of a transformer of eight blocks takes {kept} bytes, {recomputed} with blocks recomputed");
    assert!(4 * recomputed < 3 * kept, "{recomputed} of {kept} bytes");
}

/// The vector that is updated in place and the parts that products read; both moments and the gradient; and what the
/// weights once crossed by.
#[test]
fn a_step_holds_its_weights_twice() {
    const WEIGHTS_BYTES: usize = 4 * (20 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 10 + 10);
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "wide").succeed();
    let as_large =
        |section: Section| section.taken().into_iter().filter(|bytes| 10 * bytes > 9 * WEIGHTS_BYTES).count();
    assert_eq!(as_large(trace.beginning()), 2 + 2 + 1 + 1);
    assert!((0..5).all(|step| as_large(trace.section(&format!("step {step}"))) == 0));
}

#[test]
fn two_lanes_train_on_one_device_as_two_alone() {
    let Some(library) = library() else { return };
    let alone = Step::new(&library, "adamw").succeed();
    let together = Step::new(&library, "two lanes").succeed();

    assert_eq!(together.launches(), 2 * alone.launches());
    assert_eq!(together.count("illegal"), 0);
}

#[test]
fn a_whole_step_is_recorded_once_and_replayed_with_one_launch() {
    let Some(library) = library() else { return };
    for what in ["replay", "replay in half"] {
        check_replay(&Step::new(&library, what).succeed());
    }
}

fn check_replay(trace: &Trace) {
    let first = trace.section("step 0");
    let recorded = first.recorded();
    assert!(recorded.len() == 1 && recorded[0] > 100, "{recorded:?}");
    assert_eq!(trace.count("illegal"), 0);
    // Twice to take memory, once to record: and the recording is replayed. So the first run computes three steps.
    assert_eq!(first.launches(), 3 * recorded[0]);
    assert_eq!(first.replays(), recorded);
    for step in 1..5 {
        let section = trace.section(&format!("step {step}"));
        assert_eq!(section.replays(), recorded);
        let others = ["launch", "gemm", "copy", "memset", "malloc", "capture"];
        assert!(others.iter().all(|kind| section.count(kind) == 0), "{section:?}");
    }
    // What a recording copies from the host is read again at every replay, long after it has gone.
    assert_eq!(first.copies("h2d"), [0; 0]);
}

#[test]
fn a_lane_records_while_another_takes_memory_and_gives_it_back() {
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "replay on two lanes").succeed();

    assert_eq!(trace.count("illegal"), 0);
}

/// Why flat states are parted by a tree of Splits: ONNX Runtime hands more than four lengths over in memory of the host,
/// which the recording would read again at every replay.
#[test]
fn a_split_into_four_is_recorded_without_the_host_and_one_into_five_is_not() {
    let Some(library) = library() else { return };
    let copies = |what| Step::new(&library, what).succeed().section("step 0").recording().copies("h2d").len();
    assert_eq!(copies("replay four parts"), 0);
    assert!(copies("replay five parts") > 0);
}

/// The rules of CUDA that the counting runtime holds its callers to.
#[test]
fn what_cuda_forbids_in_a_recording_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("forbidden");
    let source = repository().join("tests/cuda/forbidden.c");
    let runtime = counting().join("libcudart.so.13");
    let built = Command::new("cc").arg("-o").arg(&program).arg(source).arg(runtime).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let trace = folder.path().join("trace");
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", counting()).env("COUNTING_CUDA_TRACE", &trace);
    assert!(command.status().unwrap().success());

    let forbidden =
        ["cudaMalloc", "cudaFree", "cudaMemcpy", "cudaDeviceSynchronize", "cudaStreamSynchronize", "launch"];
    assert_eq!(Trace::read(&trace).section("forbidden").illegal(), forbidden);
    assert_eq!(Trace::read(&trace).section("allowed").illegal(), [""; 0]);
}

#[test]
fn a_device_that_works_is_used() {
    let Some(library) = library() else { return };
    assert_eq!(Step::new(&library, "open").succeed().count("gemm"), 1);
    assert_eq!(Step::new(&library, "convolve").succeed().count("cudnn"), 1);
}

#[test]
fn a_device_that_cannot_be_used_is_refused_with_what_to_do() {
    let Some(library) = library() else { return };
    let for_cpus = repository().join(".regatta/lib/libonnxruntime.so");
    let open = || Step::new(&library, "open");
    let mut rows = vec![
        ("no device", open().env("COUNTING_CUDA_DEVICES", "0"), "nvidia-smi -L"),
        ("no such device", open().arg("3"), "nvidia-smi -L"),
        ("an old driver", open().env("COUNTING_CUDA_DRIVER", "12080"), "install NVIDIA's driver"),
    ];
    if for_cpus.exists() {
        rows.push(("an ONNX Runtime for CPUs", Step::new(&for_cpus, "open"), "scripts/setup --gpu"));
    } else {
        eprintln!("skipped: an ONNX Runtime for CPUs (one from elsewhere is in use)");
    }
    let hidden = [
        ("libcuda.so.1", "open", "install NVIDIA's driver"),
        ("libcublasLt.so.13", "open", "install CUDA 13"),
        ("libcudnn.so.9", "convolve", "install cuDNN 9"),
    ];
    let folders = hidden.map(|(name, _, _)| without(name));
    for ((name, what, remedy), folder) in hidden.into_iter().zip(&folders) {
        if is_installed(name) {
            eprintln!("skipped: without {name} (this machine has it)");
        } else {
            rows.push((name, Step::new(&library, what).env("LD_LIBRARY_PATH", folder.path()), remedy));
        }
    }
    for (what, step, remedy) in rows {
        let ended = step.end();
        assert_eq!(ended.outcome, "device unavailable", "{what}: {}", ended.text);
        assert!(ended.text.contains(remedy), "{what}: {}", ended.text);
    }
}

/// The counting libraries without one.
fn without(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(counting()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != name {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// Whether the system's own folders have a library, so that it cannot be hidden.
fn is_installed(name: &str) -> bool {
    let listed = Command::new("ldconfig").arg("-p").env("PATH", "/sbin:/usr/sbin:/bin:/usr/bin").output().unwrap();
    String::from_utf8_lossy(&listed.stdout).contains(name)
}

/// As cuDNN's may, which another lane brought about.
#[test]
fn a_recording_of_one_of_cudas_own_libraries_is_waited_for() {
    let Some(library) = library() else { return };
    for what in ["adamw", "two lanes", "streamed"] {
        Step::new(&library, what).env("COUNTING_CUDA_BUSY", "3").succeed();
    }
}

#[test]
fn streamed_rows_cross_without_a_wait_for_the_whole_device() {
    let Some(library) = library() else { return };
    let trace = Step::new(&library, "streamed").succeed();
    let section = trace.section("step 2");
    assert!(section.copies("h2d").len() >= 3 && section.copies("d2h") == [4, 4], "{section:?}");
    assert_eq!(section.waits("cudaDeviceSynchronize"), 0);
}

#[test]
fn failures_of_the_device_are_told_apart() {
    let Some(library) = library() else { return };
    let adamw = || Step::new(&library, "adamw");
    let rows = [
        ("no room for the data", adamw().env("COUNTING_CUDA_MEMORY", "400000"), "out of memory"),
        ("no room for the step", adamw().env("COUNTING_CUDA_MEMORY", "1000000"), "out of memory"),
        ("more than the settings allow", Step::new(&library, "exceed the limit"), "out of memory"),
        ("a launch that fails", adamw().env("COUNTING_CUDA_FAIL_LAUNCH", "50"), "device failed"),
        ("one while steps are recorded", adamw().env("COUNTING_CUDA_FAIL_LAUNCH", "80"), "device failed"),
    ];
    for (what, step, outcome) in rows {
        let ended = step.end();
        assert_eq!(ended.outcome, outcome, "{what}: {}", ended.text);
    }
}
