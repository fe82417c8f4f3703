//! The CUDA driver: code is loaded, and its functions are launched. See NVIDIA's "CUDA Driver API" for each function.
//!
//! A thread that ONNX Runtime has used for a device has that device's context, which is the one that is used here.
#![expect(unsafe_code, reason = "a C library; what it is given outlives each call")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::Arc;

use libloading::Library;
use regatta_autodiff::fuse::{THREADS, Together};

const NAMES: &[&str] = &["libcuda.so.1"];

/// Threads of a block, at most.
pub const BLOCK_MAX: usize = 1024;

/// CUdevice_attribute: the compute capability.
const CAPABILITY_MAJOR: c_int = 75;
const CAPABILITY_MINOR: c_int = 76;

type Outcome = c_int;
type Handle = *mut c_void;

pub struct Driver {
    functions: Arc<Functions>,
}

struct Functions {
    start: unsafe extern "C" fn(c_uint) -> Outcome,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> Outcome,
    context_device: unsafe extern "C" fn(*mut c_int) -> Outcome,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> Outcome,
    memory: unsafe extern "C" fn(*mut usize, c_int) -> Outcome,
    load: unsafe extern "C" fn(*mut Handle, *const c_void) -> Outcome,
    unload: unsafe extern "C" fn(Handle) -> Outcome,
    function: unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> Outcome,
    launch: unsafe extern "C" fn(
        Handle,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        c_uint,
        Handle,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> Outcome,
    text: unsafe extern "C" fn(Outcome, *mut *const c_char) -> Outcome,
    /// The functions are in it.
    _library: Library,
}

/// A device, and what its code is compiled for.
pub struct Device {
    pub number: i32,
    pub capability: (i32, i32),
}

/// Code on a device.
pub struct Module {
    handle: Handle,
    functions: Arc<Functions>,
}

/// A kernel of a module that is kept beside it.
pub struct Function(Handle);

// SAFETY: the driver's handles may be used by any thread that has their context.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}
// SAFETY: as above.
unsafe impl Send for Function {}

/// The first of these libraries that is there.
pub fn open(names: &[&str]) -> Result<Library, String> {
    let mut failures = Vec::new();
    for name in names {
        // SAFETY: NVIDIA's libraries may be loaded at any time.
        match unsafe { Library::new(*name) } {
            Ok(library) => return Ok(library),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(failures.join("; "))
}

impl Driver {
    pub fn open() -> Result<Self, String> {
        let library = open(NAMES)?;
        // SAFETY: the types are those of cuda.h.
        let functions = unsafe {
            let symbol = |error: libloading::Error| error.to_string();
            Functions {
                start: *library.get(c"cuInit").map_err(symbol)?,
                device: *library.get(c"cuDeviceGet").map_err(symbol)?,
                context_device: *library.get(c"cuCtxGetDevice").map_err(symbol)?,
                attribute: *library.get(c"cuDeviceGetAttribute").map_err(symbol)?,
                memory: *library.get(c"cuDeviceTotalMem_v2").map_err(symbol)?,
                load: *library.get(c"cuModuleLoadData").map_err(symbol)?,
                unload: *library.get(c"cuModuleUnload").map_err(symbol)?,
                function: *library.get(c"cuModuleGetFunction").map_err(symbol)?,
                launch: *library.get(c"cuLaunchKernel").map_err(symbol)?,
                text: *library.get(c"cuGetErrorString").map_err(symbol)?,
                _library: library,
            }
        };
        Ok(Self { functions: Arc::new(functions) })
    }

    /// The device that the thread uses.
    pub fn device(&self) -> Result<Device, String> {
        let mut number = 0;
        // SAFETY: it writes one number.
        self.check("cuCtxGetDevice", unsafe { (self.functions.context_device)(&raw mut number) })?;
        Ok(Device { number, capability: self.capability_of(number)? })
    }

    /// The compute capability of the device of this number.
    pub fn capability(&self, number: u32) -> Result<(i32, i32), String> {
        self.capability_of(self.numbered(number)?)
    }

    /// The memory of the device of this number, all of it.
    pub fn memory_bytes(&self, number: u32) -> Result<u64, String> {
        let (device, mut bytes) = (self.numbered(number)?, 0);
        // SAFETY: it writes one number.
        self.check("cuDeviceTotalMem_v2", unsafe { (self.functions.memory)(&raw mut bytes, device) })?;
        Ok(bytes as u64)
    }

    fn numbered(&self, number: u32) -> Result<c_int, String> {
        let (ordinal, mut device) = (c_int::try_from(number).map_err(|error| error.to_string())?, 0);
        // SAFETY: the driver may be started more than once; the second call writes one number.
        unsafe {
            self.check("cuInit", (self.functions.start)(0))?;
            self.check("cuDeviceGet", (self.functions.device)(&raw mut device, ordinal))?;
        }
        Ok(device)
    }

    fn capability_of(&self, device: c_int) -> Result<(i32, i32), String> {
        let (mut major, mut minor) = (0, 0);
        for (attribute, to) in [(CAPABILITY_MAJOR, &raw mut major), (CAPABILITY_MINOR, &raw mut minor)] {
            // SAFETY: it writes one number.
            self.check("cuDeviceGetAttribute", unsafe { (self.functions.attribute)(to, attribute, device) })?;
        }
        Ok((major, minor))
    }

    pub fn load(&self, image: &[u8]) -> Result<Module, String> {
        let mut handle: Handle = ptr::null_mut();
        // SAFETY: the driver copies the image.
        let outcome = unsafe { (self.functions.load)(&raw mut handle, image.as_ptr().cast()) };
        self.check("cuModuleLoadData", outcome)?;
        Ok(Module { handle, functions: Arc::clone(&self.functions) })
    }

    pub fn function(&self, module: &Module, name: &str) -> Result<Function, String> {
        let name = CString::new(name).map_err(|error| error.to_string())?;
        let mut handle: Handle = ptr::null_mut();
        // SAFETY: the module is loaded, the name ends with a zero.
        let outcome = unsafe { (self.functions.function)(&raw mut handle, module.handle, name.as_ptr()) };
        self.check("cuModuleGetFunction", outcome)?;
        Ok(Function(handle))
    }

    /// A function for so many elements, whose parameters are all pointers.
    pub fn launch(
        &self,
        function: &Function,
        (elements, together): (usize, Together),
        stream: Handle,
        pointers: &[Handle],
    ) -> Result<(), String> {
        const WARP: usize = 32;
        /// Elements of a block whose threads share in them.
        const TILE: usize = 8;
        let size = |number: usize| c_uint::try_from(number).map_err(|error| error.to_string());
        let (blocks, block) = match together {
            Together::Each => (elements.div_ceil(THREADS), elements.next_multiple_of(WARP).min(THREADS)),
            Together::Warp => ((elements * WARP).div_ceil(THREADS), THREADS),
            Together::Tile => (elements.div_ceil(TILE), BLOCK_MAX),
        };
        let (blocks, block) = (size(blocks)?, size(block)?);
        let mut parameters: Vec<*mut c_void> =
            pointers.iter().map(|pointer| ptr::from_ref(pointer).cast_mut().cast()).collect();
        // SAFETY: the driver copies the parameters, which are as many as the function has; the caller gave pointers of the
        // sizes that the source was written for.
        let outcome = unsafe {
            (self.functions.launch)(
                function.0,
                blocks,
                1,
                1,
                block,
                1,
                1,
                0,
                stream,
                parameters.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        self.check("cuLaunchKernel", outcome)
    }

    fn check(&self, call: &str, outcome: Outcome) -> Result<(), String> {
        if outcome == 0 {
            return Ok(());
        }
        let mut text: *const c_char = ptr::null();
        // SAFETY: the driver's texts are constants.
        let text = unsafe {
            (self.functions.text)(outcome, &raw mut text);
            if text.is_null() { "an unknown error".into() } else { CStr::from_ptr(text).to_string_lossy() }
        };
        Err(format!("{call}: CUDA failure {outcome}: {text}"))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle, and no function of it is launched any more.
        unsafe { (self.functions.unload)(self.handle) };
    }
}
