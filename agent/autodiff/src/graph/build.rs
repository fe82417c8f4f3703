//! Builder functions: one short method for each operator that rules and families write.

use super::padded::Padded;
use super::{Attribute, Constant, Dtype, Elements, Graph, GraphError, Provider, Value, axis_position};
use crate::own;

/// Whether the operands of a matrix product are taken transposed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transposed {
    pub left: bool,
    pub right: bool,
}

/// A method that applies one operator to one or two values.
macro_rules! operators {
    ($($name:ident($($operand:ident),+) = $op:literal;)+) => {
        impl Graph {
            $(pub fn $name(&mut self, $($operand: Value),+) -> Result<Value, GraphError> {
                self.node($op, &[$($operand),+], &[])
            })+
        }
    };
}

operators! {
    add(left, right) = "Add";
    sub(left, right) = "Sub";
    mul(left, right) = "Mul";
    div(left, right) = "Div";
    modulo(left, right) = "Mod";
    min(left, right) = "Min";
    max(left, right) = "Max";
    pow(base, exponent) = "Pow";
    less(left, right) = "Less";
    greater(left, right) = "Greater";
    equal(left, right) = "Equal";
    and(left, right) = "And";
    matmul(left, right) = "MatMul";
    neg(x) = "Neg";
    exp(x) = "Exp";
    log(x) = "Log";
    sqrt(x) = "Sqrt";
    abs(x) = "Abs";
    sign(x) = "Sign";
    reciprocal(x) = "Reciprocal";
    sin(x) = "Sin";
    cos(x) = "Cos";
    softplus(x) = "Softplus";
    erf(x) = "Erf";
    relu(x) = "Relu";
    tanh(x) = "Tanh";
    sigmoid(x) = "Sigmoid";
    gelu(x) = "Gelu";
    log_softmax(x) = "LogSoftmax";
    gather(data, indices) = "Gather";
}

impl Graph {
    /// A scalar of the given type.
    pub fn scalar(&mut self, dtype: Dtype, number: f64) -> Value {
        self.constant(Constant { dtype, shape: vec![], elements: Elements::Float(vec![number]) })
    }

    /// A scalar of the same type as another value.
    pub fn scalar_like(&mut self, value: Value, number: f64) -> Value {
        self.scalar(self.dtype(value), number)
    }

    pub fn int_scalar(&mut self, number: i64) -> Value {
        self.constant(Constant { dtype: Dtype::I64, shape: vec![], elements: Elements::Int(vec![number]) })
    }

    pub fn int_vector(&mut self, numbers: Vec<i64>) -> Value {
        let shape = vec![numbers.len()];
        self.constant(Constant { dtype: Dtype::I64, shape, elements: Elements::Int(numbers) })
    }

    /// `0, step, 2 step, ...`: so many numbers of type i64.
    pub fn int_range(&mut self, count: usize, step: usize) -> Value {
        self.sizes(&(0..count).map(|position| position * step).collect::<Vec<_>>())
    }

    /// `value * number` for values of type i64, or the value itself where the number is one.
    pub fn scale_int(&mut self, value: Value, number: usize) -> Result<Value, GraphError> {
        if number == 1 {
            return Ok(value);
        }
        let factor = self.sizes(&[number]);
        self.mul(value, factor)
    }

    /// A vector of dimensions or axes.
    pub(crate) fn sizes(&mut self, sizes: &[usize]) -> Value {
        let ints = sizes.iter().map(|&size| i64::try_from(size).expect("a tensor's size fits in an i64"));
        self.int_vector(ints.collect())
    }

    /// `value * number`, or the value itself where the number is one.
    pub fn scale(&mut self, value: Value, number: f64) -> Result<Value, GraphError> {
        if number == 1.0 {
            return Ok(value);
        }
        let factor = self.scalar_like(value, number);
        self.mul(value, factor)
    }

    pub fn cast(&mut self, value: Value, to: Dtype) -> Result<Value, GraphError> {
        if self.dtype(value) == to {
            return Ok(value);
        }
        self.node("Cast", &[value], &[("to", Attribute::Int(super::encode::dtype_code(to)))])
    }

    /// The matrix product of two matrices, without a `Transpose` node.
    pub fn gemm(&mut self, left: Value, right: Value, transposed: Transposed) -> Result<Value, GraphError> {
        let attributes = [
            ("transA", Attribute::Int(i64::from(transposed.left))),
            ("transB", Attribute::Int(i64::from(transposed.right))),
        ];
        self.node("Gemm", &[left, right], &attributes)
    }

    /// `x * weight + bias` for a batch of rows.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Value) -> Result<Value, GraphError> {
        self.node("Gemm", &[x, weight, bias], &[])
    }

    /// The sum over some axes, which disappear.
    pub fn reduce_sum(&mut self, value: Value, axes: &[usize]) -> Result<Value, GraphError> {
        let left = (0..self.shape(value).len()).filter(|axis| !axes.contains(axis));
        let shape: Vec<usize> = left.map(|axis| self.shape(value)[axis]).collect();
        self.summed(value, axes, &shape)
    }

    /// The sum over one axis, which stays with size one.
    pub fn sum_along(&mut self, value: Value, axis: i64) -> Result<Value, GraphError> {
        let position = axis_position(axis, self.shape(value).len()).ok_or_else(|| GraphError::InvalidOperands {
            op: "ReduceSum".into(),
            reason: format!("axis {axis} of {} axes", self.shape(value).len()),
        })?;
        self.sum_kept(value, &[position])
    }

    /// The sum over some axes, which stay with size one.
    pub fn sum_kept(&mut self, value: Value, axes: &[usize]) -> Result<Value, GraphError> {
        if axes.is_empty() {
            return Ok(value);
        }
        let mut shape = self.shape(value).to_vec();
        axes.iter().for_each(|&axis| shape[axis] = 1);
        self.summed(value, axes, &shape)
    }

    /// The sum over some axes, in a shape with or without them. Numbers of 16 bits are summed in single precision.
    fn summed(&mut self, value: Value, axes: &[usize], shape: &[usize]) -> Result<Value, GraphError> {
        let dtype = self.dtype(value);
        let is_low = matches!(dtype, Dtype::F16 | Dtype::Bf16);
        let wide = if is_low { self.cast(value, Dtype::F32)? } else { value };
        let becomes_kernels = own::sum_runs(self, wide, axes).is_some();
        let by_products = if becomes_kernels { None } else { self.sum_by_products(wide, axes)? };
        let sum = match by_products {
            Some(sum) => self.reshape(sum, shape)?,
            None => {
                let keeps = i64::from(self.shape(value).len() == shape.len());
                let axes = self.sizes(axes);
                self.node("ReduceSum", &[wide, axes], &[("keepdims", Attribute::Int(keeps))])?
            }
        };
        if self.low.is_some() { Ok(sum) } else { self.cast(sum, dtype) }
    }

    /// On CUDA, a sum over the first axes, the last ones or both, as products with ones, in any shape: where runs are to
    /// be repeatable, ONNX Runtime leaves sums to cuDNN, which takes several times as long.
    fn sum_by_products(&mut self, value: Value, axes: &[usize]) -> Result<Option<Value>, GraphError> {
        /// Beyond it the sum of all elements, a product of two vectors, is no quicker.
        const WHOLE_MAX: usize = 1 << 14;

        let (dtype, shape) = (self.dtype(value), self.shape(value).to_vec());
        let first = (0..shape.len()).take_while(|axis| axes.contains(axis)).count();
        let last = (first..shape.len()).rev().take_while(|axis| axes.contains(axis)).count();
        let (rows, kept, columns) = {
            let size = |range: std::ops::Range<usize>| shape[range].iter().product::<usize>();
            let end = shape.len() - last;
            (size(0..first), size(first..end), size(end..shape.len()))
        };
        let is_whole = kept == 1 && rows * columns > WHOLE_MAX;
        let is_float = matches!(dtype, Dtype::F32 | Dtype::F64);
        let is_empty = rows * kept * columns == 0;
        if self.provider() != Provider::Cuda || !is_float || first + last != axes.len() || is_whole || is_empty {
            return Ok(None);
        }
        let one = self.scalar(dtype, 1.0);
        let mut sum = value;
        if columns > 1 {
            let ones = self.expand(one, &[columns, 1])?;
            let matrix = self.reshape(sum, &[rows * kept, columns])?;
            sum = self.node("MatMul", &[matrix, ones], &[])?;
        }
        if rows > 1 {
            let ones = self.expand(one, &[1, rows])?;
            let matrix = self.reshape(sum, &[rows, kept])?;
            sum = self.node("MatMul", &[ones, matrix], &[])?;
        }
        Ok(Some(sum))
    }

    /// The sum over all axes: a scalar.
    pub fn sum_all(&mut self, value: Value) -> Result<Value, GraphError> {
        let axes: Vec<usize> = (0..self.shape(value).len()).collect();
        if axes.is_empty() { Ok(value) } else { self.reduce_sum(value, &axes) }
    }

    pub fn reshape(&mut self, value: Value, shape: &[usize]) -> Result<Value, GraphError> {
        if self.shape(value) == shape {
            return Ok(value);
        }
        let shape = self.sizes(shape);
        self.node("Reshape", &[value, shape], &[])
    }

    pub fn expand(&mut self, value: Value, shape: &[usize]) -> Result<Value, GraphError> {
        if self.shape(value) == shape {
            return Ok(value);
        }
        let shape = self.sizes(shape);
        self.node("Expand", &[value, shape], &[])
    }

    pub fn transpose(&mut self, value: Value, permutation: &[usize]) -> Result<Value, GraphError> {
        let axes = permutation.iter().map(|&axis| i64::try_from(axis).expect("an axis fits in an i64"));
        self.node("Transpose", &[value], &[("perm", Attribute::Ints(axes.collect()))])
    }

    /// One-hot rows of type f32 for class indices of type i64.
    pub fn one_hot(&mut self, classes: Value, depth: usize) -> Result<Value, GraphError> {
        let depth = self.sizes(&[depth]);
        let off_and_on =
            self.constant(Constant { dtype: Dtype::F32, shape: vec![2], elements: Elements::Float(vec![0.0, 1.0]) });
        self.node("OneHot", &[classes, depth, off_and_on], &[("axis", Attribute::Int(-1))])
    }

    /// Elements of `holding` where the condition (bool) holds, else of `other`.
    pub fn choose(&mut self, condition: Value, holding: Value, other: Value) -> Result<Value, GraphError> {
        self.node("Where", &[condition, holding, other], &[])
    }

    /// The position of the greatest element of each row, as i64.
    pub fn arg_max_last(&mut self, value: Value) -> Result<Value, GraphError> {
        let attributes = [("axis", Attribute::Int(-1)), ("keepdims", Attribute::Int(0))];
        self.node("ArgMax", &[value], &attributes)
    }

    /// `target` with `updates` added at the rows that `indices` (a column of i64) name; a row named twice gets both.
    pub fn scatter_add(&mut self, target: Value, indices: Value, updates: Value) -> Result<Value, GraphError> {
        self.node("ScatterND", &[target, indices, updates], &[("reduction", Attribute::Text("add".into()))])
    }

    /// `value + number`.
    pub fn shift(&mut self, value: Value, number: f64) -> Result<Value, GraphError> {
        if number == 0.0 {
            return Ok(value);
        }
        let addend = self.scalar_like(value, number);
        self.add(value, addend)
    }

    /// The mean over some axes, which stay with size one: a sum, because other reductions need cuDNN on CUDA.
    pub fn mean_kept(&mut self, value: Value, axes: &[usize]) -> Result<Value, GraphError> {
        let count: usize = axes.iter().map(|&axis| self.shape(value)[axis]).product();
        let sum = self.sum_kept(value, axes)?;
        #[expect(clippy::cast_precision_loss, reason = "a tensor has fewer than 2^52 elements")]
        self.scale(sum, 1.0 / count as f64)
    }

    /// Zeros of the same type as another value.
    pub fn zeros_like(&mut self, value: Value, shape: &[usize]) -> Result<Value, GraphError> {
        let zero = self.scalar_like(value, 0.0);
        self.expand(zero, shape)
    }

    /// The part of a value between `start` and `end` of each axis: one pair an axis.
    pub fn window(&mut self, value: Value, range_by_axis: &[(usize, usize)]) -> Result<Value, GraphError> {
        let shape = self.shape(value).to_vec();
        let cut: Vec<usize> = (0..shape.len()).filter(|&axis| range_by_axis[axis] != (0, shape[axis])).collect();
        if cut.is_empty() {
            return Ok(value);
        }
        let starts: Vec<usize> = cut.iter().map(|&axis| range_by_axis[axis].0).collect();
        let ends: Vec<usize> = cut.iter().map(|&axis| range_by_axis[axis].1).collect();
        let operands = [value, self.sizes(&starts), self.sizes(&ends), self.sizes(&cut)];
        self.node("Slice", &operands, &[])
    }

    /// A value with zeros before and after it along each axis: one pair of counts an axis.
    pub fn pad(&mut self, value: Value, zeros_by_axis: &[(usize, usize)]) -> Result<Value, GraphError> {
        if zeros_by_axis.iter().all(|zeros| *zeros == (0, 0)) {
            return Ok(value);
        }
        let mut padded = (0..zeros_by_axis.len()).filter(|&axis| zeros_by_axis[axis] != (0, 0));
        let only = padded.next().filter(|_| padded.next().is_none());
        let y = match only {
            Some(axis) if self.provider() == Provider::Cuda => self.pad_by_concat(value, axis, zeros_by_axis[axis])?,
            _ => {
                let before = zeros_by_axis.iter().map(|zeros| zeros.0);
                let pads: Vec<usize> = before.chain(zeros_by_axis.iter().map(|zeros| zeros.1)).collect();
                let pads = self.sizes(&pads);
                self.node("Pad", &[value, pads], &[])?
            }
        };
        if let Some(axis) = only {
            self.padded_by_value.insert(y, Padded { part: value, axis, before: zeros_by_axis[axis].0 });
        }
        Ok(y)
    }

    /// A value with zeros before and after it along one axis. ONNX Runtime's Pad computes for each element on CUDA where
    /// it comes from, and takes ten times as long.
    fn pad_by_concat(
        &mut self,
        value: Value,
        axis: usize,
        (before, after): (usize, usize),
    ) -> Result<Value, GraphError> {
        let shape = self.shape(value).to_vec();
        let mut parts = Vec::with_capacity(3);
        self.push_zeros(&mut parts, (&shape, axis), before, value)?;
        parts.push(value);
        self.push_zeros(&mut parts, (&shape, axis), after, value)?;
        self.concat(&parts, axis)
    }

    /// A value with the order of the elements reversed along some axes.
    pub fn reversed(&mut self, value: Value, axes: &[usize]) -> Result<Value, GraphError> {
        if axes.is_empty() {
            return Ok(value);
        }
        let backwards = self.int_vector(vec![-1; axes.len()]);
        let past_the_first = self.int_vector(vec![i64::from(i32::MIN); axes.len()]);
        let operands = [value, backwards, past_the_first, self.sizes(axes), backwards];
        self.node("Slice", &operands, &[])
    }

    /// Values side by side along an axis.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Result<Value, GraphError> {
        let axis = i64::try_from(axis).expect("an axis fits in an i64");
        if let [only] = values { Ok(*only) } else { self.node("Concat", values, &[("axis", Attribute::Int(axis))]) }
    }

    /// Every `step`-th element from `start` on, `count` of them, along each axis from `first` on: one triple an axis.
    pub fn strided(
        &mut self,
        value: Value,
        first: usize,
        taken_by_axis: &[(usize, usize, usize)],
    ) -> Result<Value, GraphError> {
        let axes: Vec<usize> = (first..first + taken_by_axis.len()).collect();
        let whole = |(&axis, &taken): (&usize, &(usize, usize, usize))| taken == (0, 1, self.shape(value)[axis]);
        if axes.iter().zip(taken_by_axis).all(whole) {
            return Ok(value);
        }
        let starts: Vec<usize> = taken_by_axis.iter().map(|taken| taken.0).collect();
        let steps: Vec<usize> = taken_by_axis.iter().map(|taken| taken.1).collect();
        let ends: Vec<usize> =
            taken_by_axis.iter().map(|(start, step, count)| start + (count - 1) * step + 1).collect();
        let operands = [value, self.sizes(&starts), self.sizes(&ends), self.sizes(&axes), self.sizes(&steps)];
        self.node("Slice", &operands, &[])
    }
}
