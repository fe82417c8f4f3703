//! Chooses what trains, and finds the ONNX Runtime that it trains through.

use std::path::{Path, PathBuf};

use crate::runtime::{Device, Runtime, RuntimeError};

/// The folder that `scripts/setup` fills, above this program. (Not above the current folder: that may be anybody's.)
const SETUP_FOLDER: &str = ".regatta";
const LIBRARY_NAME: &str = "libonnxruntime.so";
const SYSTEM_FOLDERS: [&str; 4] =
    ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];

/// Why there is nothing to train with.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("`{0}` is no device: give auto, cpu or cuda:N")]
    NoDevice(String),
    #[error("ONNX Runtime was not found; run scripts/setup, or install it, or set ORT_DYLIB_PATH to libonnxruntime.so")]
    NoLibrary,
    #[error("{0} is no file; ORT_DYLIB_PATH or --onnxruntime must name libonnxruntime.so")]
    NotAFile(PathBuf),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// The library: the one given, then what `scripts/setup` fetched, then the system's.
///
/// # Errors
/// When there is none, with how to get it.
pub fn find_library(given: Option<&Path>) -> Result<PathBuf, DeviceError> {
    if let Some(path) = given {
        return if path.is_file() { Ok(path.to_owned()) } else { Err(DeviceError::NotAFile(path.to_owned())) };
    }
    let this = std::env::current_exe().ok();
    this.iter()
        .flat_map(|this| this.ancestors())
        .map(|folder| folder.join(SETUP_FOLDER).join("lib"))
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(LIBRARY_NAME))
        .find(|path| path.is_file())
        .ok_or(DeviceError::NoLibrary)
}

/// What `--device` asks for. `auto` is the first CUDA device where it works, else the CPU; a device that was
/// asked for by name is had, or the agent does not start.
///
/// # Errors
/// When the library cannot be loaded, or the device that was asked for cannot be had, with what is missing.
pub fn choose(asked: &str, library: &Path) -> Result<Device, DeviceError> {
    let device = match asked {
        "auto" => match open(library, Device::Cuda(0)) {
            Ok(()) => return Ok(Device::Cuda(0)),
            Err(reason) => {
                tracing::info!(%reason, "no CUDA; training on the CPU");
                Device::Cpu
            }
        },
        named => named.parse().map_err(|_| DeviceError::NoDevice(named.to_owned()))?,
    };
    open(library, device)?;
    Ok(device)
}

/// Has the device compute something, so that what is missing is known before a trial is taken.
fn open(library: &Path, device: Device) -> Result<(), RuntimeError> {
    let runtime = Runtime::load(library, device, 1)?;
    runtime.check()?;
    if let Err(reason) = runtime.check_convolutions() {
        tracing::warn!(%reason, "models with convolutions cannot be trained here");
    }
    Ok(())
}
