//! Every gradient rule in ONNX Runtime: the rows of the rules' own tests, whose graphs run in single precision on the device
//! of the tests, against what the same graphs give in double precision.
#![allow(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

#[path = "../../autodiff/tests/gradients/arithmetic.rs"]
mod arithmetic;
mod check;
#[path = "../../autodiff/tests/gradients/convolution.rs"]
mod convolution;
#[path = "../../autodiff/tests/gradients/draw.rs"]
mod draw;
#[path = "../../autodiff/tests/gradients/elementwise.rs"]
mod elementwise;
#[path = "../../autodiff/tests/support/evaluator.rs"]
mod evaluator;
#[path = "../../autodiff/tests/gradients/indexing.rs"]
mod indexing;
#[path = "../support/library.rs"]
mod library;
#[path = "../../autodiff/tests/gradients/linear.rs"]
mod linear;
#[path = "../../autodiff/tests/gradients/lowerings.rs"]
mod lowerings;
#[path = "../../autodiff/tests/gradients/movement.rs"]
mod movement;
#[path = "../../autodiff/tests/gradients/normalization.rs"]
mod normalization;
#[path = "../../autodiff/tests/gradients/pooling.rs"]
mod pooling;
#[path = "../../autodiff/tests/gradients/reduction.rs"]
mod reduction;
#[path = "../../autodiff/tests/gradients/resize.rs"]
mod resize;
#[path = "../../autodiff/tests/gradients/sweep.rs"]
mod sweep;

use std::path::Path;
use std::process::Command;

/// With ONNX Runtime's CUDA provider on a CUDA runtime that computes nothing: every node has a kernel there.
#[test]
fn every_rule_runs_on_cuda() {
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let library = repository.join(".regatta/gpu/lib/libonnxruntime.so");
    if !library.exists() {
        eprintln!("skipped: no ONNX Runtime with CUDA; `scripts/fetch onnxruntime-gpu .regatta/gpu/lib` fetches it");
        return;
    }
    let counting = Path::new(env!("CARGO_TARGET_TMPDIR")).join("counting-cuda");
    let built = Command::new(repository.join("tests/cuda/build")).arg(&counting).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut rows = Command::new(std::env::current_exe().unwrap());
    rows.args(["--skip", "every_rule_runs_on_cuda"]).env("REGATTA_TEST_DEVICE", "cuda:0");
    rows.env("ORT_DYLIB_PATH", library).env("LD_LIBRARY_PATH", counting).env(check::COMPUTES_NOTHING, "1");
    let output = rows.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
