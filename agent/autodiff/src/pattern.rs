//! Patterns of names, as recipes have them.

/// Whether a name fits a pattern, in which `*` stands for any characters.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().expect("a split text has at least one part");
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn star_stands_for_any_characters() {
        let rows = [
            ("*.bias", "layers.0.bias", true),
            ("*.bias", "layers.0.weight", false),
            ("layers.*.bias", "layers.10.bias", true),
            ("layers.*.bias", "layer.bias", false),
            ("norm*", "norm", true),
            ("*norm*weight", "a.norm.b.weight", true),
            ("*norm*weight", "a.weight.norm", false),
            ("aba*ba", "aba", false),
            ("*", "", true),
            ("head", "head", true),
            ("head", "heads", false),
            ("head.*", "body.head.weight", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("", "head", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
