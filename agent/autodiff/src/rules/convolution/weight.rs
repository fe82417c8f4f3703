//! The gradient of a convolution's kernel: for each of its elements, the products of what lay under it with what
//! flows to the response, summed over batch and windows.
//!
//! Convolving the image with the response, as textbooks have it, is the slowest form on both providers: kernels for
//! it are made for few, small windows. Products of matrices take its place where cuDNN cannot be asked.

use crate::graph::{Graph, GraphError, Provider, Transposed, Value, Windows};
use crate::own;

/// Beyond this many windows a column of all images costs more to write than single products cost to start.
const WINDOWS_IN_ONE_PRODUCT_MAX: usize = 64;

/// What a kernel gradient is made from.
struct Convolution<'a> {
    /// `[batch, channels, spatial sizes]`.
    image: Value,
    /// `[batch, filters, counts of windows]`.
    response: Value,
    windows: &'a Windows,
    batch: usize,
    groups: usize,
    /// Of one group.
    channels: usize,
    filters: usize,
    /// The number of windows in an image.
    places: usize,
}

/// The gradient of a kernel `[filters, channels of a group, sizes]` from the image and the response's gradient.
pub(super) fn gradient(
    graph: &mut Graph,
    (image, response): (Value, Value),
    windows: &Windows,
    kernel: &[usize],
) -> Result<Value, GraphError> {
    if let Some(found) = own::kernel_gradient(graph, (image, response), windows, kernel)? {
        return Ok(found);
    }
    let groups = graph.shape(image)[1] / kernel[1];
    let convolution = Convolution {
        image,
        response,
        windows,
        batch: graph.shape(image)[0],
        groups,
        channels: kernel[1],
        filters: kernel[0] / groups,
        places: windows.counts.iter().product(),
    };
    let single_product = graph.provider() == Provider::Cuda || convolution.places <= WINDOWS_IN_ONE_PRODUCT_MAX;
    let by_element = if windows.are_blocks() && groups == 1 {
        return convolution.product_of_blocks(graph, kernel);
    } else if groups == 1 && single_product {
        convolution.in_one_product(graph)?
    } else {
        convolution.element_by_element(graph)?
    };
    // [filters, elements of the kernel, channels]
    let ordered = graph.transpose(by_element, &[0, 2, 1])?;
    graph.reshape(ordered, kernel)
}

impl Convolution<'_> {
    /// What lies under each element of the kernel, with the same leading axes as `image`: `[.., counts of windows]`.
    fn under_elements(&self, graph: &mut Graph, image: Value) -> Result<Vec<Value>, GraphError> {
        let mut zeros = vec![(0, 0); 2];
        zeros
            .extend(std::iter::zip(&self.windows.before, &self.windows.after).map(|(&before, &after)| (before, after)));
        let padded = graph.pad(image, &zeros)?;
        let elements: usize = self.windows.kernel.iter().product();
        (0..elements).map(|element| self.under(graph, padded, element)).collect()
    }

    fn under(&self, graph: &mut Graph, padded: Value, element: usize) -> Result<Value, GraphError> {
        let mut rest = element;
        let mut taken = Vec::new();
        for axis in (0..self.windows.kernel.len()).rev() {
            let offset = rest % self.windows.kernel[axis] * self.windows.dilations[axis];
            rest /= self.windows.kernel[axis];
            taken.push((offset, self.windows.strides[axis], self.windows.counts[axis]));
        }
        taken.reverse();
        graph.strided(padded, 2, &taken)
    }

    /// All batches and elements of the kernel in one product; `[filters, elements, channels]`.
    fn in_one_product(&self, graph: &mut Graph) -> Result<Value, GraphError> {
        let columns = self.batch * self.places;
        let channels_first = channels_first(graph, self.image)?;
        let under = self.under_elements(graph, channels_first)?;
        let under = graph.concat(&under, 0)?;
        let elements: usize = self.windows.kernel.iter().product();
        let under = graph.reshape(under, &[elements * self.channels, columns])?;
        let response = channels_first_matrix(graph, self.response, self.filters, columns)?;
        let product = graph.gemm(response, under, Transposed { left: false, right: true })?;
        graph.reshape(product, &[self.filters, elements, self.channels])
    }

    /// A product for each element of the kernel, over batches and groups; `[filters, elements, channels]`.
    fn element_by_element(&self, graph: &mut Graph) -> Result<Value, GraphError> {
        let response = graph.reshape(self.response, &[self.batch, self.groups, self.filters, self.places])?;
        let mut products = Vec::new();
        for under in self.under_elements(graph, self.image)? {
            let under = graph.reshape(under, &[self.batch, self.groups, self.channels, self.places])?;
            let by_batch = self.products(graph, response, under)?;
            products.push(graph.reshape(by_batch, &[self.groups * self.filters, 1, self.channels])?);
        }
        graph.concat(&products, 1)
    }

    /// `[groups, filters, channels]`. With one channel a group, sums of products of elements.
    fn products(&self, graph: &mut Graph, response: Value, under: Value) -> Result<Value, GraphError> {
        if self.channels == 1 {
            let products = graph.mul(response, under)?;
            return graph.reduce_sum(products, &[0, 3]);
        }
        let under = graph.transpose(under, &[0, 1, 3, 2])?;
        let products = graph.matmul(response, under)?;
        graph.reduce_sum(products, &[0])
    }

    /// Windows that do not overlap are a permutation of the image: one product, in the kernel's own order.
    fn product_of_blocks(&self, graph: &mut Graph, kernel: &[usize]) -> Result<Value, GraphError> {
        let covered = std::iter::zip(&self.windows.counts, &self.windows.kernel).map(|(count, size)| (0, count * size));
        let whole: Vec<_> = [(0, self.batch), (0, self.channels)].into_iter().chain(covered).collect();
        let image = graph.window(self.image, &whole)?;
        let mut apart = vec![self.batch, self.channels];
        let mut order = vec![1];
        for (axis, (&count, &size)) in std::iter::zip(&self.windows.counts, &self.windows.kernel).enumerate() {
            apart.extend([count, size]);
            order.push(3 + 2 * axis);
        }
        order.push(0);
        order.extend((0..self.windows.counts.len()).map(|axis| 2 + 2 * axis));
        let apart = graph.reshape(image, &apart)?;
        let blocks = graph.transpose(apart, &order)?;
        let columns = self.batch * self.places;
        let blocks = graph.reshape(blocks, &[kernel[1..].iter().product(), columns])?;
        let response = channels_first_matrix(graph, self.response, self.filters, columns)?;
        let product = graph.gemm(response, blocks, Transposed { left: false, right: true })?;
        graph.reshape(product, kernel)
    }
}

fn channels_first(graph: &mut Graph, value: Value) -> Result<Value, GraphError> {
    let mut order: Vec<usize> = (0..graph.shape(value).len()).collect();
    order.swap(0, 1);
    graph.transpose(value, &order)
}

fn channels_first_matrix(graph: &mut Graph, value: Value, rows: usize, columns: usize) -> Result<Value, GraphError> {
    let transposed = channels_first(graph, value)?;
    graph.reshape(transposed, &[rows, columns])
}
