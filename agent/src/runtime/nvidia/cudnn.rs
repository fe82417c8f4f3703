//! cuDNN's gradient of a convolution's kernel, which ONNX Runtime has no operator for. See NVIDIA's "cuDNN Graph and Legacy
//! API" for each function.
#![expect(unsafe_code, reason = "a C library; what it is given outlives each call")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use libloading::Library;

const NAMES: &[&str] = &["libcudnn.so.9"];

type Outcome = c_int;
type Handle = *mut c_void;
type Make = unsafe extern "C" fn(*mut Handle) -> Outcome;
type Destroy = unsafe extern "C" fn(Handle) -> Outcome;

/// cudnnTensorFormat_t, cudnnDataType_t, cudnnConvolutionMode_t, cudnnMathType_t and cudnnDeterminism_t.
const NCHW: c_int = 0;
const FLOAT: c_int = 0;
const HALF: c_int = 2;
const CROSS_CORRELATION: c_int = 1;
const MAY_ROUND_TO_TF32: c_int = 0;
const TENSOR_CORES: c_int = 1;
const FULL_PRECISION: c_int = 3;
const DETERMINISTIC: c_int = 1;

/// The most memory that a gradient works in.
const WORKSPACE_BYTES_MAX: usize = 1 << 28;

pub struct Cudnn(Arc<Functions>);

struct Functions {
    make_tensor: Make,
    destroy_tensor: Destroy,
    set_tensor: unsafe extern "C" fn(Handle, c_int, c_int, c_int, c_int, c_int, c_int) -> Outcome,
    make_filter: Make,
    destroy_filter: Destroy,
    set_filter: unsafe extern "C" fn(Handle, c_int, c_int, c_int, c_int, c_int, c_int) -> Outcome,
    make_convolution: Make,
    destroy_convolution: Destroy,
    set_convolution: unsafe extern "C" fn(Handle, c_int, c_int, c_int, c_int, c_int, c_int, c_int, c_int) -> Outcome,
    set_math: unsafe extern "C" fn(Handle, c_int) -> Outcome,
    algorithms:
        unsafe extern "C" fn(Handle, Handle, Handle, Handle, Handle, c_int, *mut c_int, *mut Algorithm) -> Outcome,
    gradient: unsafe extern "C" fn(
        Handle,
        *const c_void,
        Handle,
        *const c_void,
        Handle,
        *const c_void,
        Handle,
        c_int,
        *mut c_void,
        usize,
        *const c_void,
        Handle,
        *mut c_void,
    ) -> Outcome,
    text: unsafe extern "C" fn(Outcome) -> *const c_char,
    /// The functions are in it.
    _library: Library,
}

/// cudnnConvolutionBwdFilterAlgoPerf_t.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Algorithm {
    number: c_int,
    outcome: Outcome,
    milliseconds: f32,
    workspace_bytes: usize,
    determinism: c_int,
    math: c_int,
    reserved: [c_int; 3],
}

/// A convolution of images `[batch, channels, height, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convolution {
    pub image: [usize; 4],
    pub response: [usize; 4],
    pub kernel: [usize; 4],
    /// On each side.
    pub pads: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Whether all is of f16; else of f32. Sums are of f32.
    pub is_half: bool,
    /// Whether products of f32 may be in TensorFloat-32.
    pub tf32: bool,
}

/// How the gradient of a convolution's kernel is computed on a device.
pub struct KernelGradient {
    functions: Arc<Functions>,
    image: Handle,
    response: Handle,
    kernel: Handle,
    convolution: Handle,
    algorithm: c_int,
    pub workspace_bytes: usize,
}

// SAFETY: descriptors may be used by any one thread at a time.
unsafe impl Send for KernelGradient {}

impl Cudnn {
    pub fn open() -> Result<Self, String> {
        let library = super::driver::open(NAMES)?;
        // SAFETY: the types are those of cudnn_ops.h and cudnn_cnn.h.
        unsafe {
            let symbol = |error: libloading::Error| error.to_string();
            Ok(Self(Arc::new(Functions {
                make_tensor: *library.get(c"cudnnCreateTensorDescriptor").map_err(symbol)?,
                destroy_tensor: *library.get(c"cudnnDestroyTensorDescriptor").map_err(symbol)?,
                set_tensor: *library.get(c"cudnnSetTensor4dDescriptor").map_err(symbol)?,
                make_filter: *library.get(c"cudnnCreateFilterDescriptor").map_err(symbol)?,
                destroy_filter: *library.get(c"cudnnDestroyFilterDescriptor").map_err(symbol)?,
                set_filter: *library.get(c"cudnnSetFilter4dDescriptor").map_err(symbol)?,
                make_convolution: *library.get(c"cudnnCreateConvolutionDescriptor").map_err(symbol)?,
                destroy_convolution: *library.get(c"cudnnDestroyConvolutionDescriptor").map_err(symbol)?,
                set_convolution: *library.get(c"cudnnSetConvolution2dDescriptor").map_err(symbol)?,
                set_math: *library.get(c"cudnnSetConvolutionMathType").map_err(symbol)?,
                algorithms: *library.get(c"cudnnGetConvolutionBackwardFilterAlgorithm_v7").map_err(symbol)?,
                gradient: *library.get(c"cudnnConvolutionBackwardFilter").map_err(symbol)?,
                text: *library.get(c"cudnnGetErrorString").map_err(symbol)?,
                _library: library,
            })))
        }
    }

    /// Chooses how to compute a gradient: what cuDNN expects to be quickest of what gives the same bits each time.
    ///
    /// # Errors
    /// cuDNN knows no way, in words.
    pub fn kernel_gradient(&self, handle: Handle, of: &Convolution) -> Result<KernelGradient, String> {
        let functions = &self.0;
        let int = |size: usize| c_int::try_from(size).map_err(|error| error.to_string());
        let ints = |sizes: &[usize]| sizes.iter().map(|&size| int(size)).collect::<Result<Vec<_>, _>>();
        let (image, response, kernel) = (ints(&of.image)?, ints(&of.response)?, ints(&of.kernel)?);
        let (pads, strides, dilations) = (ints(&of.pads)?, ints(&of.strides)?, ints(&of.dilations)?);
        let mut made = KernelGradient {
            functions: Arc::clone(functions),
            image: ptr::null_mut(),
            response: ptr::null_mut(),
            kernel: ptr::null_mut(),
            convolution: ptr::null_mut(),
            algorithm: 0,
            workspace_bytes: 0,
        };
        let element = if of.is_half { HALF } else { FLOAT };
        // SAFETY: descriptors are made before they are set, and destroyed with what they are in.
        unsafe {
            functions.check((functions.make_tensor)(&raw mut made.image))?;
            functions.check((functions.make_tensor)(&raw mut made.response))?;
            functions.check((functions.make_filter)(&raw mut made.kernel))?;
            functions.check((functions.make_convolution)(&raw mut made.convolution))?;
            for (descriptor, n) in [(made.image, &image), (made.response, &response)] {
                functions.check((functions.set_tensor)(descriptor, NCHW, element, n[0], n[1], n[2], n[3]))?;
            }
            let n = &kernel;
            functions.check((functions.set_filter)(made.kernel, element, NCHW, n[0], n[1], n[2], n[3]))?;
            functions.check((functions.set_convolution)(
                made.convolution,
                pads[0],
                pads[1],
                strides[0],
                strides[1],
                dilations[0],
                dilations[1],
                CROSS_CORRELATION,
                FLOAT,
            ))?;
            let math = match (of.is_half, of.tf32) {
                (true, _) => TENSOR_CORES,
                (false, true) => MAY_ROUND_TO_TF32,
                (false, false) => FULL_PRECISION,
            };
            functions.check((functions.set_math)(made.convolution, math))?;
        }
        let algorithm = functions.algorithm(handle, &made)?;
        if of.tf32 || of.is_half {
            // That for which it was offered.
            // SAFETY: the descriptor is set.
            functions.check(unsafe { (functions.set_math)(made.convolution, algorithm.math) })?;
        }
        (made.algorithm, made.workspace_bytes) = (algorithm.number, algorithm.workspace_bytes);
        Ok(made)
    }
}

impl Functions {
    fn algorithm(&self, handle: Handle, of: &KernelGradient) -> Result<Algorithm, String> {
        const MOST: usize = 8;

        let (mut found, mut count) = ([Algorithm::default(); MOST], 0);
        let most = c_int::try_from(MOST).expect("it is small");
        // SAFETY: there is room for as many as are asked for.
        self.check(unsafe {
            (self.algorithms)(
                handle,
                of.image,
                of.response,
                of.convolution,
                of.kernel,
                most,
                &raw mut count,
                found.as_mut_ptr(),
            )
        })?;
        let is_fit = |algorithm: &&Algorithm| {
            algorithm.outcome == 0
                && algorithm.determinism == DETERMINISTIC
                && algorithm.workspace_bytes <= WORKSPACE_BYTES_MAX
        };
        let count = usize::try_from(count).unwrap_or(0).min(MOST);
        found[..count].iter().find(is_fit).copied().ok_or_else(|| "cuDNN has no gradient for a convolution".to_owned())
    }

    fn check(&self, outcome: Outcome) -> Result<(), String> {
        if outcome == 0 {
            return Ok(());
        }
        // SAFETY: cuDNN's texts are constants.
        let text = unsafe { CStr::from_ptr((self.text)(outcome)) }.to_string_lossy();
        Err(format!("cuDNN failure {outcome}: {text}"))
    }
}

impl KernelGradient {
    /// Has the device compute it on the stream of the handle.
    ///
    /// # Errors
    /// cuDNN failed, in words.
    pub fn compute(
        &self,
        handle: Handle,
        (image, response): (*const c_void, *const c_void),
        workspace: *mut c_void,
        kernel: *mut c_void,
    ) -> Result<(), String> {
        let (one, zero) = (1.0f32, 0.0f32);
        // SAFETY: the tensors have the sizes of the descriptors, and the workspace has its own.
        self.functions.check(unsafe {
            (self.functions.gradient)(
                handle,
                (&raw const one).cast(),
                self.image,
                image,
                self.response,
                response,
                self.convolution,
                self.algorithm,
                workspace,
                self.workspace_bytes,
                (&raw const zero).cast(),
                self.kernel,
                kernel,
            )
        })
    }
}

impl Drop for KernelGradient {
    fn drop(&mut self) {
        // SAFETY: each was made once, or is null, which cuDNN takes for nothing.
        unsafe {
            for tensor in [self.image, self.response].into_iter().filter(|tensor| !tensor.is_null()) {
                (self.functions.destroy_tensor)(tensor);
            }
            if !self.kernel.is_null() {
                (self.functions.destroy_filter)(self.kernel);
            }
            if !self.convolution.is_null() {
                (self.functions.destroy_convolution)(self.convolution);
            }
        }
    }
}
