//! The values that a trial assigns to the parameters of its study's space.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One parameter's value.
#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ParamValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// An assignment: parameter name to value. A parameter whose condition does not hold is absent.
pub type Params = BTreeMap<String, ParamValue>;

impl ParamValue {
    /// The value as JSON. Finite by contract: spaces hold finite bounds only.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.clone().into(),
        }
    }

    /// The value as a number, where it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Float(value) => {
                if *value != 0.0 && (value.abs() < 1e-3 || value.abs() >= 1e6) {
                    write!(f, "{value:.3e}")
                } else {
                    write!(f, "{}", (value * 1e6).round() / 1e6)
                }
            }
            Self::Text(value) => f.write_str(value),
        }
    }
}
