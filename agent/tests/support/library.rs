//! Where the tests find ONNX Runtime, and what they train on.
#![allow(dead_code, reason = "some tests are of the CPU alone")]

use std::path::PathBuf;

use regatta_agent::runtime::Device;

/// What `ORT_DYLIB_PATH` names, else where scripts/setup puts it.
pub fn library() -> PathBuf {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return path.into();
    }
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.regatta/lib/libonnxruntime.so"));
    assert!(path.exists(), "no ONNX Runtime: run scripts/setup, or set ORT_DYLIB_PATH to libonnxruntime.so");
    path
}

/// What `REGATTA_TEST_DEVICE` names (`cuda:N`), else the CPU.
pub fn device() -> Device {
    let named = std::env::var("REGATTA_TEST_DEVICE");
    named.map_or(Device::Cpu, |named| named.parse().expect("REGATTA_TEST_DEVICE is a device"))
}
