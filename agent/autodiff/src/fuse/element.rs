//! Operators of single elements as C, which CUDA's compiler and a host's take alike.

use half::{bf16, f16};

use crate::graph::{Constant, Dtype, Elements, Graph, Node};

/// The type of an element in memory.
pub fn memory_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 | Dtype::Bf16 => "unsigned short",
        Dtype::F32 => "float",
        Dtype::F64 => "double",
        Dtype::U8 | Dtype::Bool => "unsigned char",
        Dtype::I32 => "int",
        Dtype::I64 => "long long",
    }
}

/// The type that an element is computed in.
pub fn register_type(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 => "float",
        Dtype::F64 => "double",
        Dtype::U8 | Dtype::Bool | Dtype::I32 => "int",
        Dtype::I64 => "long long",
    }
}

/// An element in memory as it is computed with.
pub fn loaded(dtype: Dtype, element: &str) -> String {
    match dtype {
        Dtype::F16 => format!("from_half({element})"),
        Dtype::Bf16 => format!("from_bfloat({element})"),
        _ => element.to_owned(),
    }
}

/// An element as it is held in memory.
pub fn stored(dtype: Dtype, element: &str) -> String {
    match dtype {
        Dtype::F16 => format!("to_half({element})"),
        Dtype::Bf16 => format!("to_bfloat({element})"),
        Dtype::U8 | Dtype::Bool => format!("(unsigned char){element}"),
        _ => element.to_owned(),
    }
}

/// The only element of a constant.
pub fn literal(constant: &Constant) -> Option<String> {
    #[expect(clippy::cast_possible_truncation, reason = "such floats stand for integers")]
    let text = match (&constant.elements, constant.dtype) {
        (Elements::Float(floats), dtype) if dtype.is_float() => float(dtype, *floats.first()?),
        (Elements::Float(floats), _) => format!("{}ll", *floats.first()? as i64),
        // Its size is no number of C's.
        (Elements::Int(ints), _) if *ints.first()? == i64::MIN => format!("{}ll - 1", i64::MIN + 1),
        (Elements::Int(ints), _) => format!("{}ll", ints.first()?),
    };
    (constant.shape.iter().product::<usize>() == 1).then(|| format!("({text})"))
}

fn float(dtype: Dtype, number: f64) -> String {
    let suffix = suffix(dtype);
    #[expect(clippy::cast_possible_truncation, reason = "constants are held wide and rounded here")]
    let single = match dtype {
        Dtype::F16 => f16::from_f64(number).to_f32(),
        Dtype::Bf16 => bf16::from_f64(number).to_f32(),
        _ => number as f32,
    };
    let (is_wide, held) = (dtype == Dtype::F64, if dtype == Dtype::F64 { number } else { f64::from(single) });
    if held.is_nan() {
        format!("0.0{suffix} / 0.0{suffix}")
    } else if held.is_infinite() {
        format!("{}1.0{suffix} / 0.0{suffix}", if held < 0.0 { "-" } else { "" })
    } else if is_wide {
        format!("{number:e}")
    } else {
        format!("{single:e}{suffix}")
    }
}

/// What the prelude's functions for a type end with.
fn compared(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "_d",
        _ if dtype.is_float() => "_f",
        _ => "_i",
    }
}

/// What C's functions for a type end with, and its literals.
fn suffix(dtype: Dtype) -> &'static str {
    if dtype == Dtype::F64 { "" } else { "f" }
}

/// Functions of one float that C has under these names.
const FUNCTIONS: &[(&str, &str)] = &[
    ("Ceil", "ceil"),
    ("Floor", "floor"),
    ("Round", "rint"),
    ("Exp", "exp"),
    ("Log", "log"),
    ("Sqrt", "sqrt"),
    ("Erf", "erf"),
    ("Sin", "sin"),
    ("Cos", "cos"),
    ("Tan", "tan"),
    ("Asin", "asin"),
    ("Acos", "acos"),
    ("Atan", "atan"),
    ("Sinh", "sinh"),
    ("Cosh", "cosh"),
    ("Asinh", "asinh"),
    ("Acosh", "acosh"),
    ("Atanh", "atanh"),
    ("Tanh", "tanh"),
];

/// The operator over operands that are C's names or literals, in the type of [`register_type`]; `None` where it is not
/// one of single elements.
pub fn expression(graph: &Graph, node: &Node, x: &[Option<String>]) -> Option<String> {
    if !node.domain.is_empty() {
        return None;
    }
    let from = graph.dtype(node.inputs.first().copied().flatten()?);
    let to = graph.dtype(*node.outputs.first()?);
    let a = x.first()?.as_deref()?;
    let one_of_two = || x.get(1).and_then(Option::as_deref);
    let computed = match node.op.as_str() {
        "Identity" => a.to_owned(),
        "Cast" => cast(from, to, a),
        "Where" => {
            let (then, otherwise) = (one_of_two()?, x.get(2)?.as_deref()?);
            format!("{a} ? {then} : {otherwise}")
        }
        "Clip" => clipped(a, one_of_two(), x.get(2).and_then(Option::as_deref)),
        "Sum" | "Min" | "Max" => {
            let operands: Option<Vec<&str>> = x.iter().map(Option::as_deref).collect();
            folded(&node.op, to, &operands?)?
        }
        "Pow" => power(graph, node, (from, a), one_of_two()?)?,
        _ => match one_of_two() {
            Some(b) => of_two(&node.op, from, node, (a, b))?,
            None => of_one(from, node, a)?,
        },
    };
    let rounds = from != to || !matches!(node.op.as_str(), "Identity" | "Where" | "Clip" | "Min" | "Max");
    Some(if rounds { rounded(to, computed) } else { computed })
}

/// A number of few bits as its memory would hold it.
pub fn rounded(dtype: Dtype, computed: String) -> String {
    match dtype {
        Dtype::F16 => format!("from_half(to_half({computed}))"),
        Dtype::Bf16 => format!("from_bfloat(to_bfloat({computed}))"),
        Dtype::U8 => format!("(int)(unsigned char)({computed})"),
        _ => computed,
    }
}

fn cast(from: Dtype, to: Dtype, a: &str) -> String {
    match to {
        Dtype::Bool if from != Dtype::Bool => format!("{a} != 0"),
        Dtype::U8 => format!("(int)(unsigned char){a}"),
        _ => format!("({}){a}", register_type(to)),
    }
}

fn clipped(a: &str, least: Option<&str>, most: Option<&str>) -> String {
    let raised = least.map_or(a.to_owned(), |least| format!("({a} < {least} ? {least} : {a})"));
    match (least, most) {
        (_, None) => raised,
        (None, Some(most)) => format!("{a} > {most} ? {most} : {a}"),
        // Where the bounds cross, ONNX has the upper one win.
        (Some(least), Some(most)) => {
            format!("{a} > {most} || {least} > {most} ? {most} : {raised}")
        }
    }
}

/// Of any number of operands. A NaN wins over every number.
fn folded(op: &str, dtype: Dtype, operands: &[&str]) -> Option<String> {
    let of = compared(dtype);
    let (first, rest) = operands.split_first()?;
    let mut all = (*first).to_owned();
    for b in rest {
        all = match op {
            "Sum" => format!("({all} + {b})"),
            "Min" => format!("lesser{of}({all}, {b})"),
            _ => format!("greater{of}({all}, {b})"),
        };
    }
    Some(all)
}

fn power(graph: &Graph, node: &Node, (dtype, a): (Dtype, &str), b: &str) -> Option<String> {
    if !dtype.is_float() {
        return None;
    }
    let exponent = graph.constant_of(node.inputs.get(1).copied().flatten()?);
    let exponent = exponent.filter(|constant| constant.shape.iter().product::<usize>() == 1);
    let exponent = exponent.and_then(|constant| match &constant.elements {
        Elements::Float(floats) => floats.first().copied(),
        Elements::Int(_) => None,
    });
    let (suffix, of) = (suffix(dtype), register_type(dtype));
    Some(match exponent {
        Some(1.0) => a.to_owned(),
        Some(2.0) => format!("{a} * {a}"),
        Some(3.0) => format!("{a} * {a} * {a}"),
        Some(0.5) => format!("sqrt{suffix}({a})"),
        Some(-1.0) => format!("1 / {a}"),
        _ => format!("pow{suffix}({a}, ({of}){b})"),
    })
}

fn of_two(op: &str, dtype: Dtype, node: &Node, (a, b): (&str, &str)) -> Option<String> {
    let is_float = dtype.is_float();
    Some(match op {
        "Add" => format!("{a} + {b}"),
        "Sub" => format!("{a} - {b}"),
        "Mul" => format!("{a} * {b}"),
        "Div" => format!("{a} / {b}"),
        "Mod" if is_float => format!("fmod{}({a}, {b})", suffix(dtype)),
        "Mod" if node.int("fmod", 0) != 0 => format!("{a} % {b}"),
        // Of the divisor's sign.
        "Mod" => format!("{a} % {b} + ({a} % {b} != 0 && ({a} % {b} < 0) != ({b} < 0) ? {b} : 0)"),
        "Less" => format!("{a} < {b}"),
        "LessOrEqual" => format!("{a} <= {b}"),
        "Greater" => format!("{a} > {b}"),
        "GreaterOrEqual" => format!("{a} >= {b}"),
        "Equal" => format!("{a} == {b}"),
        "And" => format!("{a} && {b}"),
        "Or" => format!("{a} || {b}"),
        "Xor" => format!("({a} != 0) != ({b} != 0)"),
        "PRelu" => format!("{a} > 0 ? {a} : {a} * {b}"),
        _ => return None,
    })
}

fn of_one(dtype: Dtype, node: &Node, a: &str) -> Option<String> {
    match node.op.as_str() {
        "Neg" => return Some(format!("-{a}")),
        "Not" => return Some(format!("!{a}")),
        "Sign" => return Some(format!("({a} > 0) - ({a} < 0)")),
        "Abs" if !dtype.is_float() => return Some(format!("{a} < 0 ? -{a} : {a}")),
        "Relu" => return Some(format!("{a} < 0 ? 0 : {a}")),
        _ if !dtype.is_float() => return None,
        _ => {}
    }
    let end = suffix(dtype);
    let number = |number: f64| format!("({})", float(dtype, number));
    let attribute = |name: &str, default: f64| number(node.float(name, default));
    if let Some((_, function)) = FUNCTIONS.iter().find(|(op, _)| *op == node.op) {
        return Some(format!("{function}{end}({a})"));
    }
    Some(match node.op.as_str() {
        "Abs" => format!("fabs{end}({a})"),
        "Reciprocal" => format!("1 / {a}"),
        "IsNaN" => format!("{a} != {a}"),
        "Sigmoid" => format!("1 / (1 + exp{end}(-{a}))"),
        "Softplus" => format!("({a} < 0 ? 0 : {a}) + log1p{end}(exp{end}(-fabs{end}({a})))"),
        "Softsign" => format!("{a} / (1 + fabs{end}({a}))"),
        "Elu" => format!("{a} > 0 ? {a} : {} * expm1{end}({a})", attribute("alpha", 1.0)),
        "Selu" => {
            let (alpha, gamma) =
                (attribute("alpha", 1.673_263_192_176_818_8), attribute("gamma", 1.050_701_022_148_132_3));
            format!("{gamma} * ({a} > 0 ? {a} : {alpha} * expm1{end}({a}))")
        }
        "LeakyRelu" => format!("{a} > 0 ? {a} : {} * {a}", attribute("alpha", 0.01)),
        "ThresholdedRelu" => format!("{a} > {} ? {a} : 0", attribute("alpha", 1.0)),
        "HardSigmoid" => {
            let (alpha, beta) = (attribute("alpha", 0.2), attribute("beta", 0.5));
            let zero = number(0.0);
            let of = compared(dtype);
            format!("lesser{of}(greater{of}({alpha} * {a} + {beta}, {zero}), {})", number(1.0))
        }
        "Gelu" if node.text("approximate") == Some("tanh") => {
            let (scale, cubic) = (number((2.0 / std::f64::consts::PI).sqrt()), number(0.044_715));
            let half = number(0.5);
            format!("{half} * {a} * (1 + tanh{end}({scale} * ({a} + {cubic} * {a} * {a} * {a})))")
        }
        "Gelu" => {
            let (half, root) = (number(0.5), number(std::f64::consts::FRAC_1_SQRT_2));
            format!("{half} * {a} * (1 + erf{end}({a} * {root}))")
        }
        _ => return None,
    })
}
