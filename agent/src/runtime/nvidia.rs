//! What of CUDA is used beside ONNX Runtime: kernels of our own, compiled by NVRTC when they are first needed and launched
//! through the driver, and of cuDNN what ONNX Runtime has no operator for.
//!
//! The libraries are loaded where there is a CUDA device, and never else. Without them graphs run as ONNX Runtime's own
//! operators.

mod compiler;
mod cudnn;
mod driver;

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use compiler::Compiler;
use cudnn::Cudnn;
pub use cudnn::{Convolution, KernelGradient};
use driver::{BLOCK_MAX, Driver, Function, Module};
use regatta_autodiff::fuse::{PRELUDE, Together};

use super::kernels::Kernels;

/// NVRTC, cuDNN and the driver.
pub struct Nvidia {
    compiler: Compiler,
    cudnn: Cudnn,
    driver: Driver,
}

/// The memory of the device of this number; `None` where the driver does not say.
pub fn memory_bytes(device: u32) -> Option<u64> {
    Driver::open().and_then(|driver| driver.memory_bytes(device)).ok()
}

/// What was found for each device.
static OPENED: Mutex<BTreeMap<u32, Option<Arc<Nvidia>>>> = Mutex::new(BTreeMap::new());

impl Nvidia {
    /// For the device of this number; `None`, with a warning the first time, where something is missing or NVRTC does not
    /// know the device.
    pub fn open(device: u32) -> Option<Arc<Self>> {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let found = opened.entry(device).or_insert_with(|| match Self::load(device) {
            Ok(nvidia) => Some(Arc::new(nvidia)),
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "no kernels can be compiled, so that training takes longer: `scripts/setup --gpu` fetches NVRTC and cuDNN"
                );
                None
            }
        });
        found.clone()
    }

    fn load(device: u32) -> Result<Self, String> {
        let nvidia = Self { compiler: Compiler::open()?, cudnn: Cudnn::open()?, driver: Driver::open()? };
        let capability = nvidia.driver.capability(device)?;
        nvidia.compiler.compile("extern \"C\" __global__ void nothing() {}\n", capability)?;
        Ok(nvidia)
    }

    /// How to compute the gradient of a convolution's kernel: see [`Cudnn::kernel_gradient`].
    ///
    /// # Errors
    /// cuDNN knows no way, in words.
    pub fn kernel_gradient(&self, handle: *mut c_void, of: &Convolution) -> Result<KernelGradient, String> {
        self.cudnn.kernel_gradient(handle, of)
    }
}

/// The kernels of a graph on a device. All are compiled at once, when the first is launched.
pub struct DeviceKernels {
    nvidia: Arc<Nvidia>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Their number by their source.
    numbers: BTreeMap<String, usize>,
    /// In the order of their numbers; fewer than there are numbers until the rest is compiled.
    functions: Vec<Function>,
    /// What the functions are of.
    modules: Vec<Arc<Module>>,
}

/// By the device and the sources.
type Modules = BTreeMap<(i32, Vec<String>), Weak<Module>>;

/// Compiled kernels of the process, for lanes that train the same.
static COMPILED: Mutex<Modules> = Mutex::new(BTreeMap::new());

/// Kernels that are compiled together: compiling has a price of its own.
const TOGETHER: usize = 12;

impl Kernels for DeviceKernels {
    fn add(&self, source: String) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.numbers.len();
        *state.numbers.entry(source).or_insert(next)
    }

    fn launch(
        &self,
        number: usize,
        elements: (usize, Together),
        stream: *mut c_void,
        pointers: &[*mut c_void],
    ) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if number >= state.functions.len() {
            self.compile(&mut state)?;
        }
        let function = state.functions.get(number).ok_or("a kernel that nobody asked for")?;
        self.nvidia.driver.launch(function, elements, stream, pointers)
    }
}

impl DeviceKernels {
    pub fn new(nvidia: Arc<Nvidia>) -> Self {
        Self { nvidia, state: Mutex::default() }
    }

    fn compile(&self, state: &mut State) -> Result<(), String> {
        let first = state.functions.len();
        let mut sources: Vec<(usize, String)> = (state.numbers.iter())
            .filter(|(_, number)| **number >= first)
            .map(|(source, number)| (*number, source.clone()))
            .collect();
        sources.sort_unstable();
        let sources: Vec<String> = sources.into_iter().map(|(_, source)| source).collect();
        let device = self.nvidia.driver.device()?;
        let chunks: Vec<&[String]> = sources.chunks(TOGETHER).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(chunks.len());
        let modules: Vec<Arc<Module>> = {
            let images: Mutex<BTreeMap<usize, Result<Image, String>>> = Mutex::default();
            let next = Mutex::new(0..chunks.len());
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        loop {
                            let Some(at) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
                            let image = self.image(&device, chunks[at]);
                            images.lock().unwrap_or_else(PoisonError::into_inner).insert(at, image);
                        }
                    });
                }
            });
            let images = images.into_inner().unwrap_or_else(PoisonError::into_inner);
            images
                .into_iter()
                .map(|(at, image)| self.module(&device, chunks[at], image?))
                .collect::<Result<_, String>>()?
        };
        for (module, chunk) in modules.into_iter().zip(chunks) {
            for at in 0..chunk.len() {
                state.functions.push(self.nvidia.driver.function(&module, &name(at))?);
            }
            state.modules.push(module);
        }
        Ok(())
    }

    fn image(&self, device: &driver::Device, sources: &[String]) -> Result<Image, String> {
        if let Some(module) = found(device, sources) {
            return Ok(Image::Loaded(module));
        }
        let mut text = format!("{DEVICE}{PRELUDE}");
        for (at, source) in sources.iter().enumerate() {
            text += &format!("extern \"C\" __global__ void __launch_bounds__({BLOCK_MAX}) {}{source}", name(at));
        }
        self.nvidia.compiler.compile(&text, device.capability).map(Image::Compiled)
    }

    fn module(&self, device: &driver::Device, sources: &[String], image: Image) -> Result<Arc<Module>, String> {
        match image {
            Image::Loaded(module) => Ok(module),
            Image::Compiled(image) => {
                let module = Arc::new(self.nvidia.driver.load(&image)?);
                let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
                compiled.retain(|_, module| module.strong_count() > 0);
                compiled.insert((device.number, sources.to_vec()), Arc::downgrade(&module));
                Ok(module)
            }
        }
    }
}

enum Image {
    Loaded(Arc<Module>),
    Compiled(Vec<u8>),
}

fn found(device: &driver::Device, sources: &[String]) -> Option<Arc<Module>> {
    let compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.get(&(device.number, sources.to_vec()))?.upgrade()
}

fn name(at: usize) -> String {
    format!("fused_{at}")
}

/// Numbers of 16 bits, without the headers that CUDA has them in, and threads that sum up together: those of a warp, and
/// those of a block of 1,024 for eight elements.
const DEVICE: &str = r#"
#define FUNCTION static __device__ __forceinline__
#define WARP_INDEX ((blockIdx.x * blockDim.x + threadIdx.x) / 32u)
#define WARP_LANE (threadIdx.x % 32u)
#define WARP_LANES 32u
#define ACROSS_WARP(number) across_warp(number)
#define TILE_INDEX (blockIdx.x * 8u + threadIdx.x % 8u)
#define TILE_LANE (threadIdx.x / 8u)
#define TILE_LANES 128u
#define ACROSS_TILE(number) across_tile(number)
template <class T> static __device__ __forceinline__ T across_warp(T sum) {
    for (int apart = 16; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
    return sum;
}
template <class T> static __device__ T across_tile(T sum) {
    __shared__ T sums[32][8];
    sum += __shfl_xor_sync(0xffffffffu, sum, 8);
    sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    __syncthreads();
    if (threadIdx.x % 32u < 8u) sums[threadIdx.x / 32u][threadIdx.x % 8u] = sum;
    __syncthreads();
    T all = 0;
    for (int warp = 0; warp < 32; ++warp) all += sums[warp][threadIdx.x % 8u];
    return all;
}
static __device__ __forceinline__ float from_half(unsigned short bits) {
    float number; asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(bits)); return number;
}
static __device__ __forceinline__ unsigned short to_half(float number) {
    unsigned short bits; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(number)); return bits;
}
static __device__ __forceinline__ float from_bfloat(unsigned short bits) {
    return __uint_as_float((unsigned)bits << 16);
}
static __device__ __forceinline__ unsigned short to_bfloat(float number) {
    const unsigned bits = __float_as_uint(number);
    return number != number ? 0x7fff : (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where NVRTC is there: it needs no device.
    #[test]
    fn what_every_source_begins_with_compiles() {
        let Ok(compiler) = Compiler::open() else {
            eprintln!("skipped: no NVRTC; `scripts/setup --gpu` fetches it, and `. .regatta/gpu/env` names it");
            return;
        };
        let body = "(const unsigned short* p0, unsigned short* q0)\n{ const unsigned i = threadIdx.x; \
                    q0[i] = to_half(lesser_f(from_half(p0[i]), greater_f(from_bfloat(to_bfloat(2.0f)), 1.0f))); }\n";
        let text = format!("{DEVICE}{PRELUDE}extern \"C\" __global__ void fused_0{body}");
        let image = compiler.compile(&text, (9, 0)).expect("it compiles");
        assert_eq!(&image[..4], b"\x7fELF");
        assert!(compiler.compile("no C", (9, 0)).is_err_and(|error| error.contains("error")));
    }
}
