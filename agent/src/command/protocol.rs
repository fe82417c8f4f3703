//! What a program says on its output: a line is a report, a checkpoint, both, or something for people.

use std::collections::BTreeMap;
use std::time::Duration;

use regatta_schemas::check::is_name;
use regatta_schemas::limits::LIMITS;
use serde_json::{Map, Value};

/// Bytes of a line; what is beyond is left out, and the line is for people.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Lines for people that are passed on: so many a second, and so many at once.
const LINES_PER_SECOND: f64 = 100.0;
const LINES_AT_ONCE: f64 = 1_000.0;

/// A line, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    bytes: Vec<u8>,
    /// It was longer than lines may be.
    is_cut: bool,
}

/// What a line of a program's output says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// `{"resource": 3, "metrics": {"loss": 0.5}}`, `{"checkpoint": "name"}`, or the keys of both.
    Message { report: Option<Measurement>, checkpoint: Option<String> },
    /// A message that does not keep to the protocol.
    Wrong { reason: String },
    /// Whatever else.
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    pub resource: u32,
    pub metrics: BTreeMap<String, f64>,
}

impl Line {
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let text = text.trim_end_matches('\r');
        if self.is_cut { format!("{text} (the line was longer)") } else { text.to_owned() }
    }

    /// A JSON object with `metrics` or `checkpoint` is a message, a line that was cut never. Numbers may be written as
    /// Python's `json` does: `NaN`, `Infinity`.
    pub fn read(&self) -> Said {
        let text = self.text();
        if self.is_cut { Said::Text(text) } else { read(text) }
    }
}

fn read(text: String) -> Said {
    let Some(message) = object(&text).filter(|map| map.contains_key("metrics") || map.contains_key("checkpoint"))
    else {
        return Said::Text(text);
    };
    let report = message.get("metrics").map(|metrics| measurement(message.get("resource"), metrics)).transpose();
    let checkpoint = message.get("checkpoint").map(folder_name).transpose();
    match (report, checkpoint) {
        (Ok(report), Ok(checkpoint)) => Said::Message { report, checkpoint },
        (Err(reason), _) | (_, Err(reason)) => Said::Wrong { reason: format!("{reason}: {text}") },
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let value = serde_json::from_str(text).or_else(|_| serde_json::from_str(&with_words_quoted(text)));
    match value {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// The text with Python's words for what JSON has no number for as texts.
fn with_words_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 8);
    let mut rest = text;
    let (mut is_in_text, mut is_escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !is_in_text && rest.starts_with(word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        is_in_text ^= next == '"' && !is_escaped;
        is_escaped = is_in_text && next == '\\' && !is_escaped;
        quoted.push(next);
        rest = &rest[next.len_utf8()..];
    }
    quoted
}

fn measurement(resource: Option<&Value>, metrics: &Value) -> Result<Measurement, String> {
    let resource = resource
        .and_then(Value::as_u64)
        .and_then(|resource| u32::try_from(resource).ok())
        .filter(|resource| (1..=LIMITS.resource_max).contains(resource))
        .ok_or("a report needs a `resource`, a whole number from 1")?;
    let metrics = metrics.as_object().ok_or("`metrics` must be an object of numbers")?;
    if metrics.len() > LIMITS.metrics_per_point_max {
        return Err(format!("a report has at most {} metrics", LIMITS.metrics_per_point_max));
    }
    let numbers = metrics.iter().map(|(name, value)| {
        if name.is_empty() || name.chars().count() > LIMITS.id_chars_max {
            return Err(format!("a metric's name has 1 to {} characters", LIMITS.id_chars_max));
        }
        Ok((name.clone(), number(value).ok_or_else(|| format!("the metric `{name}` is no number"))?))
    });
    Ok(Measurement { resource, metrics: numbers.collect::<Result<_, _>>()? })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Null => Some(f64::NAN),
        // `nan`, `inf`, `-inf` in any case, and no other text.
        Value::String(text) => text.parse::<f64>().ok().filter(|number| !number.is_finite()),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn folder_name(value: &Value) -> Result<String, String> {
    let name = value.as_str().filter(|name| is_name(name));
    name.map(str::to_owned).ok_or_else(|| "`checkpoint` must be the name of a folder, without a path".to_owned())
}

/// Puts lines together from what arrives in pieces.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    is_cut: bool,
}

impl Lines {
    /// Hands over each line that is now whole.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Line)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, is_whole) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            let room = LINE_BYTES_MAX - self.begun.len();
            self.is_cut |= piece.len() > room;
            self.begun.extend_from_slice(&piece[..piece.len().min(room)]);
            if is_whole {
                self.finish(&mut each);
            }
        }
    }

    /// Hands over a last line without an end.
    pub fn end(&mut self, mut each: impl FnMut(Line)) {
        if !self.begun.is_empty() {
            self.finish(&mut each);
        }
    }

    fn finish(&mut self, each: &mut impl FnMut(Line)) {
        each(Line { bytes: std::mem::take(&mut self.begun), is_cut: std::mem::take(&mut self.is_cut) });
    }
}

/// Bounds the lines that a program may have passed on.
#[derive(Debug)]
pub struct Quota {
    left: f64,
    counted_at: Duration,
    left_out: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { left: LINES_AT_ONCE, counted_at: Duration::ZERO, left_out: 0 }
    }
}

impl Quota {
    /// Whether a line may pass now; with it, what to say of those that were left out before it.
    pub fn admit(&mut self, now: Duration) -> (bool, Option<String>) {
        let since = now.saturating_sub(self.counted_at).as_secs_f64();
        self.left = (self.left + since * LINES_PER_SECOND).min(LINES_AT_ONCE);
        self.counted_at = now;
        if self.left < 1.0 {
            self.left_out += 1;
            return (false, None);
        }
        self.left -= 1.0;
        (true, self.omission())
    }

    /// What to say of lines that were left out and not spoken of yet.
    pub fn omission(&mut self) -> Option<String> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then(|| format!("({left_out} lines are left out: more than {LINES_PER_SECOND} a second)"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(resource: u32, metrics: &[(&str, f64)]) -> Option<Measurement> {
        let metrics = metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Some(Measurement { resource, metrics })
    }

    #[test]
    fn a_line_is_a_message_by_its_keys() {
        let rows = [
            (r#"{"resource": 3, "metrics": {"loss": 0.5, "n": 2}}"#, report(3, &[("loss", 0.5), ("n", 2.0)]), None),
            (r#"{"checkpoint": "at-3"}"#, None, Some("at-3")),
            (r#"{"resource": 1, "metrics": {}, "checkpoint": "a"}"#, report(1, &[]), Some("a")),
            (
                r#"{"resource": 1, "metrics": {"a": Infinity, "b NaN": -Infinity}}"#,
                report(1, &[("a", f64::INFINITY), ("b NaN", f64::NEG_INFINITY)]),
                None,
            ),
        ];
        for (line, report, checkpoint) in rows {
            let checkpoint = checkpoint.map(str::to_owned);
            assert_eq!(read(line.to_owned()), Said::Message { report, checkpoint }, "{line}");
        }
    }

    #[test]
    fn what_python_writes_for_no_number_is_no_number() {
        for word in ["NaN", "null", "\"nan\"", "\"NaN\""] {
            let Said::Message { report: Some(report), .. } =
                read(format!(r#"{{"resource": 1, "metrics": {{"\"NaN": {word}}}}}"#))
            else {
                panic!("{word}")
            };
            assert!(report.metrics["\"NaN"].is_nan(), "{word}");
        }
    }

    #[test]
    fn everything_else_is_for_people() {
        for line in
            ["", "epoch 3", "{", "{}", r#"{"resource": 3}"#, "[1]", r#"{"metrics": "#, "{NaN", "\u{0}", "{\"a\\"]
        {
            assert_eq!(read(line.to_owned()), Said::Text(line.to_owned()));
        }
    }

    #[test]
    fn a_message_that_is_not_right_is_not_passed_over() {
        for line in [
            r#"{"metrics": {}}"#,
            r#"{"resource": 0, "metrics": {}}"#,
            r#"{"resource": 1.5, "metrics": {}}"#,
            r#"{"resource": -1, "metrics": {}}"#,
            r#"{"resource": 5000000000, "metrics": {}}"#,
            r#"{"resource": 1, "metrics": []}"#,
            r#"{"resource": 1, "metrics": {"a": "much"}}"#,
            r#"{"resource": 1, "metrics": {"a": "1"}}"#,
            r#"{"resource": 1, "metrics": {"": 1}}"#,
            r#"{"checkpoint": "../a"}"#,
            r#"{"checkpoint": "/a"}"#,
            r#"{"checkpoint": "."}"#,
            r#"{"checkpoint": 3}"#,
        ] {
            assert!(matches!(read(line.to_owned()), Said::Wrong { .. }), "{line}");
        }
        let many: Vec<String> = (0..=LIMITS.metrics_per_point_max).map(|n| format!("\"{n}\": 1")).collect();
        let line: String = format!(r#"{{"resource": 1, "metrics": {{{}}}}}"#, many.join(","));
        assert!(matches!(read(line.to_owned()), Said::Wrong { .. }));
    }

    #[test]
    fn lines_are_put_together_and_too_long_ones_cut() {
        let mut lines = Lines::default();
        let mut said = Vec::new();
        for bytes in [b"\xff\na\nb".as_slice(), b"c\r\n\nd", &vec![b'x'; LINE_BYTES_MAX], b"y\n{\"checkpoint\": \"z\"}"]
        {
            lines.push(bytes, |line| said.push(line.read()));
        }
        lines.end(|line| said.push(line.read()));

        assert!(matches!(said.remove(0), Said::Text(_)));
        assert_eq!(said[..3], [Said::Text("a".into()), Said::Text("bc".into()), Said::Text(String::new())]);
        let Said::Text(cut) = &said[3] else { panic!("{:?}", said[3]) };
        assert!(cut.starts_with("dx") && cut.len() < LINE_BYTES_MAX + 100);
        assert_eq!(said[4..], [Said::Message { report: None, checkpoint: Some("z".into()) }]);
    }

    #[test]
    fn a_flood_is_let_through_in_part_and_counted() {
        let mut quota = Quota::default();
        let passed = (0..5_000).filter(|_| quota.admit(Duration::ZERO).0).count();
        assert_eq!(passed, 1_000);
        let (is_admitted, omission) = quota.admit(Duration::from_secs(1));
        assert!(is_admitted && omission.is_some());
        assert_eq!(quota.omission(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_output_is_read_alike_in_whatever_pieces_it_comes(
            text in prop::collection::vec(
                prop_oneof![
                    Just(b"{\"resource\": 1, \"metrics\": {\"a\": NaN}}\n".to_vec()),
                    Just(b"{\"checkpoint\": \"a\", \"x\": -Infinity".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..40),
                    prop::sample::select(vec!["\n", "}", "{", "\"", "\\", ":", "metrics", "Infinity"])
                        .prop_map(|text| text.as_bytes().to_vec()),
                ],
                0..20,
            ),
            size in 1_usize..50,
        ) {
            let bytes = text.concat();
            let said_in_pieces_of = |size: usize| {
                let (mut lines, mut said) = (Lines::default(), Vec::new());
                bytes.chunks(size).for_each(|piece| lines.push(piece, |line| said.push(format!("{:?}", line.read()))));
                lines.end(|line| said.push(format!("{:?}", line.read())));
                said
            };
            prop_assert_eq!(said_in_pieces_of(size), said_in_pieces_of(bytes.len().max(1)));
        }
    }
}
