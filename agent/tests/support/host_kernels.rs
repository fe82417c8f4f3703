//! Kernels that were written for CUDA, compiled by the host's C compiler and run thread after thread.
#![expect(unsafe_code, reason = "what was compiled is called through pointers")]

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};
use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use libloading::Library;
use regatta_agent::runtime::{HostKernels, Kernels};
use regatta_autodiff::fuse::{PRELUDE, THREADS, Together};

type Run = unsafe extern "C" fn(*const *mut c_void, c_uint);

/// For a runtime on the CPU.
pub fn host_kernels() -> HostKernels {
    Arc::new(|| Arc::new(Host::default()) as Arc<dyn Kernels>)
}

#[derive(Default)]
struct Host(Mutex<State>);

#[derive(Default)]
struct State {
    numbers: BTreeMap<String, usize>,
    library: Option<Library>,
}

impl Kernels for Host {
    fn add(&self, source: String) -> usize {
        let mut state = self.0.lock().unwrap();
        let next = state.numbers.len();
        *state.numbers.entry(source).or_insert(next)
    }

    /// However threads share in elements: here each has its own.
    fn launch(
        &self,
        number: usize,
        (elements, _): (usize, Together),
        _: *mut c_void,
        pointers: &[*mut c_void],
    ) -> Result<(), String> {
        let mut state = self.0.lock().unwrap();
        if state.library.is_none() {
            state.library = Some(compile(&state.numbers)?);
        }
        let library = state.library.as_ref().unwrap();
        let blocks = c_uint::try_from(elements.div_ceil(THREADS)).unwrap();
        // SAFETY: the function is written below, for as many pointers as the kernel has parameters.
        unsafe {
            let run = library.get::<Run>(format!("run_{number}")).map_err(|error| error.to_string())?;
            run(pointers.as_ptr(), blocks);
        }
        Ok(())
    }
}

fn compile(numbers: &BTreeMap<String, usize>) -> Result<Library, String> {
    let mut text = format!("{HOST}{PRELUDE}");
    for (source, number) in numbers {
        let (parameters, _) = source.split_once(")\n").expect("parameters come first");
        let casts: Vec<String> = (parameters.trim_start_matches('(').split(", ").enumerate())
            .map(|(at, parameter)| {
                let (of, _) = parameter.rsplit_once(' ').expect("a parameter has a type and a name");
                format!("({of})pointers[{at}]")
            })
            .collect();
        let _ = writeln!(
            text,
            "static void kernel_{number}{source}void run_{number}(void** pointers, unsigned blocks) {{\n\
             for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)\n\
             for (threadIdx.x = 0; threadIdx.x < {THREADS}; ++threadIdx.x) kernel_{number}({});\n}}",
            casts.join(", ")
        );
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (source, library) = (folder.path().join("kernels.c"), folder.path().join("kernels.so"));
    std::fs::write(&source, text).map_err(|error| error.to_string())?;
    let mut compiler = Command::new("cc");
    compiler.args([
        "-std=gnu11",
        "-O1",
        "-shared",
        "-fPIC",
        "-ffp-contract=off",
        "-Werror=implicit-function-declaration",
    ]);
    let output = compiler.arg("-o").args([&library, &source]).arg("-lm").output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // SAFETY: it has no code that runs when it is loaded.
    unsafe { Library::new(&library) }.map_err(|error| error.to_string())
}

/// What CUDA has and C has not.
const HOST: &str = r"
#include <math.h>
#include <stdint.h>
#include <string.h>
#define FUNCTION static inline
struct coordinates { unsigned x; };
static __thread struct coordinates blockIdx, threadIdx;
#define WARP_INDEX (blockIdx.x * 256u + threadIdx.x)
#define WARP_LANE 0u
#define WARP_LANES 1u
#define ACROSS_WARP(number) (number)
#define TILE_INDEX WARP_INDEX
#define TILE_LANE 0u
#define TILE_LANES 1u
#define ACROSS_TILE(number) (number)
static float of_bits(uint32_t bits) { float number; memcpy(&number, &bits, 4); return number; }
static uint32_t bits_of(float number) { uint32_t bits; memcpy(&bits, &number, 4); return bits; }
static float from_bfloat(unsigned short bits) { return of_bits((uint32_t)bits << 16); }
static unsigned short to_bfloat(float number) {
    uint32_t bits = bits_of(number);
    return number != number ? 0x7fff : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
static float from_half(unsigned short bits) {
    int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
        : exponent ? ldexpf(1024 + mantissa, exponent - 25) : ldexpf(mantissa, -24);
    return bits & 0x8000 ? -size : size;
}
static unsigned short to_half(float number) {
    unsigned short sign = signbit(number) ? 0x8000 : 0;
    float size = fabsf(number);
    if (number != number) return 0x7fff;
    if (size >= 65520.0f) return sign | 0x7c00;
    if (size < 6.103515625e-05f) return sign | (unsigned short)rintf(ldexpf(size, 24));
    int exponent;
    frexpf(size, &exponent);
    unsigned mantissa = (unsigned)rintf(ldexpf(size, 11 - exponent));
    return sign | (unsigned short)(((exponent + 14) << 10) + mantissa - 1024);
}
";
