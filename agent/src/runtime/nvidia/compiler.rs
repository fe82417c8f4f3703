//! NVRTC: CUDA C as code for a device. See NVIDIA's "NVRTC" for each function.
#![expect(unsafe_code, reason = "a C library; what it is given outlives each call")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use libloading::Library;

/// By the version of CUDA that ONNX Runtime is built for, and the one before.
const NAMES: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12"];

type Program = *mut c_void;
type Outcome = c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> Outcome;
type Bytes = unsafe extern "C" fn(Program, *mut c_char) -> Outcome;

pub struct Compiler {
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Outcome,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Outcome,
    destroy: unsafe extern "C" fn(*mut Program) -> Outcome,
    code: (Size, Bytes),
    log: (Size, Bytes),
    /// The functions are in it.
    _library: Library,
}

impl Compiler {
    pub fn open() -> Result<Self, String> {
        let library = super::driver::open(NAMES)?;
        // SAFETY: the types are those of nvrtc.h.
        unsafe {
            let symbol = |error: libloading::Error| error.to_string();
            Ok(Self {
                create: *library.get(c"nvrtcCreateProgram").map_err(symbol)?,
                compile: *library.get(c"nvrtcCompileProgram").map_err(symbol)?,
                destroy: *library.get(c"nvrtcDestroyProgram").map_err(symbol)?,
                code: (
                    *library.get(c"nvrtcGetCUBINSize").map_err(symbol)?,
                    *library.get(c"nvrtcGetCUBIN").map_err(symbol)?,
                ),
                log: (
                    *library.get(c"nvrtcGetProgramLogSize").map_err(symbol)?,
                    *library.get(c"nvrtcGetProgramLog").map_err(symbol)?,
                ),
                _library: library,
            })
        }
    }

    /// The code of a source for devices of a compute capability.
    ///
    /// # Errors
    /// What the compiler says of the source.
    pub fn compile(&self, source: &str, (major, minor): (i32, i32)) -> Result<Vec<u8>, String> {
        let source = CString::new(source).map_err(|error| error.to_string())?;
        // A product is rounded before it is added to something, as between operators: so the same numbers come out however
        // these are joined.
        let target = format!("--gpu-architecture=sm_{major}{minor}");
        let options = [target, "--std=c++17".to_owned(), "--fmad=false".to_owned()];
        let options: Vec<CString> =
            options.into_iter().map(|option| CString::new(option).expect("it has no zero in it")).collect();
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let mut program: Program = ptr::null_mut();
        // SAFETY: all that is pointed to lives until the end of the function; the program is destroyed once.
        unsafe {
            let created = (self.create)(&raw mut program, source.as_ptr(), ptr::null(), 0, ptr::null(), ptr::null());
            if created != 0 {
                return Err(format!("NVRTC makes no program: its error {created}"));
            }
            let count = c_int::try_from(pointers.len()).expect("there are few options");
            let outcome = (self.compile)(program, count, pointers.as_ptr());
            let found = if outcome == 0 {
                read(program, self.code).ok_or_else(|| "NVRTC gives no code".to_owned())
            } else {
                let log = read(program, self.log).unwrap_or_default();
                let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
                Err(format!("NVRTC refuses a kernel (its error {outcome}): {log}"))
            };
            (self.destroy)(&raw mut program);
            found
        }
    }
}

/// # Safety
/// The functions are NVRTC's for a size and for as many bytes.
unsafe fn read(program: Program, (size, bytes): (Size, Bytes)) -> Option<Vec<u8>> {
    let mut length = 0;
    // SAFETY: the buffer has the length that the first function gave.
    unsafe {
        if size(program, &raw mut length) != 0 {
            return None;
        }
        let mut buffer = vec![0u8; length];
        (bytes(program, buffer.as_mut_ptr().cast()) == 0).then_some(buffer)
    }
}
