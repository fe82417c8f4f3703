//! The text of a study file, YAML or JSON (which is YAML), as a value; bounded in every direction.

use serde_json::Value;
use serde_saphyr::options::NonFiniteFloatPolicy;

use crate::api::Fault;
use crate::limits::LIMITS;

/// No study file nests deeper than this.
const DEPTH_MAX: usize = 32;
/// Parser events of a study file, aliases written out.
const EVENTS_MAX: usize = 262_144;
const ALIASES_MAX: usize = 256;

pub fn read(text: &str) -> Result<Value, Fault> {
    if text.len() > LIMITS.study_bytes_max {
        let problem = format!("the file has {} bytes", text.len());
        return Err(Fault::new("", problem, format!("at most {} are read", LIMITS.study_bytes_max)));
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| fault(&error))
}

/// YAML 1.2 words for true and false only (`no` is a text), infinite and undefined numbers as texts, which
/// the checks then refuse at their path, keys given twice refused, and a bound on everything.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_events: EVENTS_MAX,
            max_nodes: EVENTS_MAX,
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: EVENTS_MAX,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::Error,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

fn fault(error: &serde_saphyr::Error) -> Fault {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let text = text.split(": limits breached").next().unwrap_or(&text);
    let problem = match error.location() {
        Some(at) if at.line() > 0 => {
            let place = format!("line {}, column {}", at.line(), at.column());
            let text = text.strip_suffix(&format!(" at {place}")).unwrap_or(text);
            format!("{place}: {text}")
        }
        _ => text.to_owned(),
    };
    Fault::new("", problem, "write YAML or JSON, one document, each key once")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_what_a_person_means() {
        let rows = [
            ("1e-4", json!(1e-4)),
            ("1.0e-4", json!(1.0e-4)),
            ("1E5", json!(1e5)),
            (".5", json!(0.5)),
            ("-.5", json!(-0.5)),
            ("+3", json!(3)),
            ("0", json!(0)),
            ("1_000", json!(1000)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("true", json!(true)),
            ("no", json!("no")),
            ("off", json!("off")),
            ("\"3\"", json!("3")),
            ("null", Value::Null),
            ("~", Value::Null),
            ("none", json!("none")),
            ("$learning_rate", json!("$learning_rate")),
            ("$$x", json!("$$x")),
            ("2026-11-01", json!("2026-11-01")),
            (".nan", json!(".nan")),
            (".inf", json!(".inf")),
            ("1e999", json!(".inf")),
        ];
        for (text, expected) in rows {
            assert_eq!(read(&format!("value: {text}")).unwrap(), json!({ "value": expected }), "{text}");
        }
    }

    #[test]
    fn json_is_read_too() {
        let text = "{\n\t\"a\": [1, 2.5e-3, \"x\", null],\n\t\"b\": {\"c\": true}\n}\n";
        assert_eq!(read(text).unwrap(), json!({"a": [1, 2.5e-3, "x", null], "b": {"c": true}}));
    }

    #[test]
    fn what_is_no_study_file_is_refused() {
        let too_large = "a".repeat(LIMITS.study_bytes_max + 1);
        let too_deep = "[".repeat(10_000);
        let bomb: String = ('b'..='z').fold("a: &a [x,x,x,x,x,x,x,x]\n".to_owned(), |text, name| {
            let last = char::from(name as u8 - 1);
            text + &format!("{name}: &{name} [{}]\n", vec![format!("*{last}"); 8].join(","))
        });
        for text in [
            "a: 1\na: 2",
            "{\"a\": 1, \"a\": 2}",
            "a: [1, 2",
            "a: 'x",
            "a: *nowhere",
            "a: &a [*a]",
            "a: 1\n---\nb: 2",
            "? [1, 2]\n: 3",
            "a: \u{0}",
            &too_large,
            &too_deep,
            &bomb,
        ] {
            let fault = read(text).unwrap_err();
            println!("{fault:?}");
            assert!(!fault.problem.is_empty());
        }
    }
}
