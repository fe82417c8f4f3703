//! Operators of opsets 9 to 24 in the form that they have in this crate's opset.

use super::Old;
use crate::graph::{Attribute, Graph, GraphError, Value, axis_position};

/// Brings a node into the form of this crate's opset: its operator's name, operands and attributes.
///
/// # Errors
/// The old form cannot be brought into the new one.
pub(super) fn modernise(graph: &mut Graph, opset: i64, old: &mut Old) -> Result<(), GraphError> {
    match old.op.as_str() {
        "Squeeze" | "Unsqueeze" | "ReduceSum" if opset < 13 => axes_as_operand(graph, old),
        "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare"
        | "ReduceLogSum" | "ReduceLogSumExp"
            if opset < 18 =>
        {
            axes_as_operand(graph, old);
        }
        "Split" => split(graph, old)?,
        "Slice" if opset < 10 => slice(graph, old),
        "Pad" if opset < 11 => pad(graph, old),
        "Clip" if opset < 11 => clip(graph, old),
        "TopK" if opset < 10 => top_k(graph, old),
        "Softmax" | "LogSoftmax" | "Hardmax" if opset < 13 => softmax(graph, old)?,
        "Scatter" => old.op = "ScatterElements".into(),
        "Upsample" => upsample(graph, opset, old)?,
        "Resize" if opset < 11 => resize(old),
        "CastLike" => cast_like(graph, old)?,
        _ => {}
    }
    // Attributes that later opsets have added; their defaults are what this crate's opset does.
    for name in ["round_mode", "saturate", "training_mode"] {
        old.attributes.remove(name);
    }
    Ok(())
}

fn invalid(old: &Old, reason: &str) -> GraphError {
    GraphError::InvalidOperands { op: old.op.clone(), reason: reason.into() }
}

fn required(old: &Old, position: usize) -> Result<Value, GraphError> {
    old.input(position).ok_or_else(|| invalid(old, "an operand is missing"))
}

fn axes_as_operand(graph: &mut Graph, old: &mut Old) {
    if let Some(axes) = old.take_ints("axes") {
        let axes = graph.int_vector(axes);
        old.set_input(1, axes);
    }
}

/// Sizes as an operand, and the number of outputs as an attribute where there are none.
fn split(graph: &mut Graph, old: &mut Old) -> Result<(), GraphError> {
    if let Some(sizes) = old.take_ints("split") {
        let sizes = graph.int_vector(sizes);
        old.set_input(1, sizes);
    }
    if old.input(1).is_none() && !old.attributes.contains_key("num_outputs") {
        let count = i64::try_from(old.outputs).map_err(|_| invalid(old, "too many outputs"))?;
        old.attributes.insert("num_outputs".into(), Attribute::Int(count));
    }
    Ok(())
}

fn slice(graph: &mut Graph, old: &mut Old) {
    for (position, name) in ["starts", "ends", "axes"].into_iter().enumerate() {
        if let Some(ints) = old.take_ints(name) {
            let ints = graph.int_vector(ints);
            old.set_input(position + 1, ints);
        }
    }
}

fn pad(graph: &mut Graph, old: &mut Old) {
    if let Some(pads) = old.take_ints("pads") {
        let pads = graph.int_vector(pads);
        old.set_input(1, pads);
    }
    let value = old.float("value", 0.0);
    old.attributes.remove("value");
    if let Some(x) = old.input(0) {
        let value = graph.scalar_like(x, value);
        old.set_input(2, value);
    }
}

fn clip(graph: &mut Graph, old: &mut Old) {
    for (position, name) in ["min", "max"].into_iter().enumerate() {
        if let (Some(Attribute::Float(bound)), Some(x)) = (old.attributes.remove(name), old.input(0)) {
            let bound = graph.scalar_like(x, bound);
            old.set_input(position + 1, bound);
        }
    }
}

fn top_k(graph: &mut Graph, old: &mut Old) {
    let count = old.int("k", 1);
    old.attributes.remove("k");
    let count = graph.int_vector(vec![count]);
    old.set_input(1, count);
}

/// Before opset 13 all axes from `axis` on were one; along the last axis it is the same.
fn softmax(graph: &Graph, old: &mut Old) -> Result<(), GraphError> {
    let x = required(old, 0)?;
    let rank = graph.shape(x).len();
    let axis = axis_position(old.int("axis", 1), rank).ok_or_else(|| invalid(old, "no such axis"))?;
    if graph.shape(x)[axis..].iter().skip(1).any(|&size| size != 1) {
        return Err(invalid(old, "along several axes at once, which opsets from 13 on do not have"));
    }
    old.attributes.insert("axis".into(), Attribute::Int(i64::try_from(axis).expect("an axis fits in an i64")));
    Ok(())
}

fn upsample(graph: &mut Graph, opset: i64, old: &mut Old) -> Result<(), GraphError> {
    let scales = match old.attributes.remove("scales") {
        Some(Attribute::Floats(scales)) if opset < 9 => {
            let shape = vec![scales.len()];
            let elements = crate::graph::Elements::Float(scales);
            graph.constant(crate::graph::Constant { dtype: crate::graph::Dtype::F32, shape, elements })
        }
        _ => required(old, 1)?,
    };
    old.op = "Resize".into();
    old.inputs.truncate(1);
    old.set_input(2, scales);
    resize_attributes(old);
    Ok(())
}

/// The first form had no region of interest, and one mode of coordinates.
fn resize(old: &mut Old) {
    if let Some(scales) = old.input(1) {
        old.inputs.truncate(1);
        old.set_input(2, scales);
    }
    resize_attributes(old);
}

fn resize_attributes(old: &mut Old) {
    for (name, text) in [("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")] {
        old.attributes.insert(name.into(), Attribute::Text(text.into()));
    }
}

fn cast_like(graph: &Graph, old: &mut Old) -> Result<(), GraphError> {
    let to = crate::graph::dtype_code(graph.dtype(required(old, 1)?));
    old.op = "Cast".into();
    old.inputs.truncate(1);
    old.attributes.insert("to".into(), Attribute::Int(to));
    Ok(())
}
