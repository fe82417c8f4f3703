//! Kernels that are compiled from source when a graph first runs, as [`regatta_autodiff::fuse`] writes them.

use std::ffi::c_void;

use regatta_autodiff::fuse::Together;

/// The kernels of one graph.
pub trait Kernels: Send + Sync {
    /// The number of a kernel, of its parameters and its body in C. All are asked for before any is launched.
    fn add(&self, source: String) -> usize;

    /// Launches a kernel for so many elements, on a stream of the device that the calling thread uses. The pointers are
    /// those of its inputs and of its outputs.
    ///
    /// # Errors
    /// It cannot be compiled or launched, in words.
    fn launch(
        &self,
        number: usize,
        elements: (usize, Together),
        stream: *mut c_void,
        pointers: &[*mut c_void],
    ) -> Result<(), String>;
}
