//! Where a data set or a model lies: a file, or an object of the store.

use super::reader::Fields;

const SHA256_DIGITS: usize = 64;

/// `what` the file is, and how many bytes an object may have.
pub fn check(fields: &Fields, what: &str, bytes_max: u64) {
    match (fields.optional("file"), fields.optional("object")) {
        (Some(_), Some(object)) => object.fault("is given together with `file`", "keep one of the two"),
        (None, None) => fields.fault("file", "is missing", format!("add `file`: the path of the {what}; or `object`")),
        (Some(file), None) => drop(file.text()),
        (None, Some(object)) => {
            if let Some(object) = object.fields() {
                check_object(&object, bytes_max);
            }
        }
    }
}

fn check_object(object: &Fields, bytes_max: u64) {
    object.only(&["sha256", "bytes", "file_name"]);
    let digits = format!("{SHA256_DIGITS} hexadecimal digits");
    if let Some(node) = object.required("sha256", &digits)
        && let Some(text) = node.text()
        && (text.len() != SHA256_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        node.wrong_value(format!("give {digits}"));
    }
    if let Some(node) = object.required("bytes", "the size of the object") {
        node.whole(1..=bytes_max);
    }
    if let Some(node) = object.optional("file_name").filter(|node| node.value != "") {
        node.text();
    }
}
