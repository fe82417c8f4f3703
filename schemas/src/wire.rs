//! Reading and writing a message: JSON, a size limit on the way in, numbers that JSON lacks.

use serde::{Serialize, de::DeserializeOwned};

use crate::limits::LIMITS;

/// A message that cannot be read. The sender's fault: drop it and say so.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("message of {bytes} bytes; at most {max} are read")]
    TooLarge { bytes: usize, max: usize },
    #[error("not a message of this kind: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Reads one message. Unknown fields are ignored.
///
/// # Errors
/// When it is larger than `message_bytes_max`, or not JSON of this type.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    if payload.len() > LIMITS.message_bytes_max {
        return Err(DecodeError::TooLarge { bytes: payload.len(), max: LIMITS.message_bytes_max });
    }
    Ok(serde_json::from_slice(payload)?)
}

/// Writes one message.
///
/// # Panics
/// Never: the types of this crate have text keys only and write no number that JSON lacks.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("the wire's types are plain JSON")
}

/// A map of metrics, in which a value that is no number crosses as `"nan"`, `"inf"` or `"-inf"`;
/// `null` is read as not a number.
pub(crate) mod metrics {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Crossing {
        Number(f64),
        Text(String),
        Nothing,
    }

    pub fn serialize<S: Serializer>(values: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(values.iter().map(|(name, value)| (name, write(*value))))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let crossing = BTreeMap::<String, Crossing>::deserialize(from)?;
        crossing.into_iter().map(|(name, value)| Ok((name, read(value).map_err(serde::de::Error::custom)?))).collect()
    }

    fn write(value: f64) -> Crossing {
        if value.is_finite() {
            Crossing::Number(value)
        } else if value.is_nan() {
            Crossing::Text("nan".to_owned())
        } else if value > 0.0 {
            Crossing::Text("inf".to_owned())
        } else {
            Crossing::Text("-inf".to_owned())
        }
    }

    fn read(value: Crossing) -> Result<f64, String> {
        match value {
            Crossing::Number(value) => Ok(value),
            Crossing::Nothing => Ok(f64::NAN),
            Crossing::Text(text) => match text.to_ascii_lowercase().as_str() {
                "nan" => Ok(f64::NAN),
                "inf" | "infinity" => Ok(f64::INFINITY),
                "-inf" | "-infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(format!("`{text}` is not a metric's value: give a number, \"nan\", \"inf\" or \"-inf\"")),
            },
        }
    }
}
