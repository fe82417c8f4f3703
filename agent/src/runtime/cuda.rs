//! How CUDA is used, and what to do where it cannot be.

use ort::ep::{self, ArenaExtendStrategy, ExecutionProviderDispatch};

/// What a user may choose about CUDA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CudaSettings {
    /// TensorFloat-32 in matrix products and convolutions: faster, with ten bits of mantissa. Without it they are
    /// computed in full single precision, as on the CPU: a search compares trials, so their numbers come first.
    pub tf32: bool,
    /// Bytes of device memory that each compiled graph may take, with the tensors made for it; where runs are recorded,
    /// these may take as much again.
    pub memory_limit_bytes: Option<usize>,
    /// Launches each kernel by itself, where a graph's runs would be recorded and replayed.
    pub kernel_by_kernel: bool,
    /// Leaves every operator to ONNX Runtime, where runs of them would become kernels of our own.
    pub stock_kernels: bool,
}

/// How a run reaches the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Launch {
    EachKernel,
    /// As a CUDA graph.
    WholeGraph,
}

impl CudaSettings {
    pub(super) fn provider(self, device: i32, launch: Launch) -> ExecutionProviderDispatch {
        let mut provider = ep::CUDA::default()
            .with_device_id(device)
            .with_tf32(self.tf32)
            .with_cuda_graph(launch == Launch::WholeGraph)
            // No more than is needed: lanes share a device.
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
        if let Some(bytes) = self.memory_limit_bytes {
            provider = provider.with_memory_limit(bytes);
        }
        provider.build().error_on_failure()
    }
}

/// What ONNX Runtime and CUDA say, and what helps.
const REMEDIES: &[(&str, &str)] = &[
    ("not enabled in this build", FOR_CPUS),
    ("libonnxruntime_providers_shared.so", FOR_CPUS),
    ("libcuda.so", "install NVIDIA's driver, 580 or newer"),
    ("driver version is insufficient", "install NVIDIA's driver, 580 or newer: CUDA 13 needs it"),
    ("no CUDA-capable device", "`nvidia-smi -L` lists the devices; CUDA_VISIBLE_DEVICES may hide some"),
    ("invalid device", "`nvidia-smi -L` lists the devices; CUDA_VISIBLE_DEVICES may hide some"),
    ("no kernel image", "this ONNX Runtime has no code for this GPU: it knows compute capability 7.5 to 9.0, and 12.0"),
    ("cudnn", "install cuDNN 9, or let `scripts/setup --gpu` fetch it"),
    (
        "cannot open shared object file",
        "install CUDA 13 and cuDNN 9, or let `scripts/setup --gpu` fetch their libraries",
    ),
];
const FOR_CPUS: &str =
    "this ONNX Runtime is for CPUs: `scripts/setup --gpu` fetches the one for CUDA, `. .regatta/gpu/env` chooses it";

/// What to install or set, for the words of a failure.
pub(super) fn remedy(reason: &str) -> &'static str {
    let reason = reason.to_lowercase();
    let found = REMEDIES.iter().find(|(sign, _)| reason.contains(&sign.to_lowercase()));
    found.map_or("`scripts/setup --gpu` fetches what CUDA needs beside the driver", |(_, remedy)| remedy)
}

/// The last words of a failure, without the places in ONNX Runtime's source that it came through.
pub(super) fn last_words(reason: &str) -> &str {
    reason.rsplit(" : FAIL : ").next().unwrap_or(reason).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_from_the_words_of_the_failure() {
        let rows = [
            ("CUDA execution provider is not enabled in this build.", FOR_CPUS),
            ("libcublasLt.so.13: cannot open shared object file: No such file or directory", "install CUDA 13"),
            ("libcuda.so.1: cannot open shared object file: No such file or directory", "install NVIDIA's driver"),
            (
                "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version",
                "install NVIDIA's driver",
            ),
            ("CUDA failure 100: no CUDA-capable device is detected", "`nvidia-smi -L`"),
            ("Invalid device ID: 3, must be between 0 (inclusive) and 1 (exclusive).", "`nvidia-smi -L`"),
            (
                "CUDA error cudaErrorNoKernelImageForDevice: no kernel image is available",
                "this ONNX Runtime has no code",
            ),
        ];
        for (reason, expected) in rows {
            assert!(remedy(reason).starts_with(expected), "{reason}: {}", remedy(reason));
        }
    }

    #[test]
    fn the_way_through_the_source_is_left_out() {
        let reason = "/onnxruntime_src/a.cc:63 f() [ONNXRuntimeError] : 1 : FAIL : Invalid device ID: 3\n";
        assert_eq!(last_words(reason), "Invalid device ID: 3");
        assert_eq!(last_words("no such words"), "no such words");
    }
}
