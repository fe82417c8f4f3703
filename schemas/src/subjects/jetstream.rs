//! The subjects of JetStream itself, as far as a role may be allowed to use them.

use crate::streams::StreamSpec;

/// Everything that JetStream can be asked.
pub const API_ALL: &str = "$JS.API.>";
pub const ACKS_ALL: &str = "$JS.ACK.>";
pub const FLOW_ALL: &str = "$JS.FC.>";
/// Every key of every bucket of keys, and every object of every bucket of objects.
pub const KEYS_ALL: &str = "$KV.>";
pub const OBJECTS_ALL: &str = "$O.>";
/// Who serves what, asked by anybody.
pub const SERVICES_ALL: &str = "$SRV.>";

/// The stream behind a bucket of objects.
pub fn objects_stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

pub fn objects(bucket: &str) -> String {
    format!("$O.{bucket}.>")
}

fn objects_metadata(bucket: &str) -> String {
    format!("$O.{bucket}.M.>")
}

/// What an object is called and how large it is; its name is in base64, made for URLs.
pub fn object_metadata(bucket: &str, encoded_name: &str) -> String {
    format!("$O.{bucket}.M.{encoded_name}")
}

/// The parts of an object's content, which a metadata names by what was drawn for this one upload.
pub fn object_parts(bucket: &str, upload: &str) -> String {
    format!("$O.{bucket}.C.{upload}")
}

/// The parts of all objects.
pub fn objects_parts(bucket: &str) -> String {
    object_parts(bucket, "*")
}

/// The upload whose parts have this subject.
pub fn read_object_parts<'a>(subject: &'a str, bucket: &str) -> Option<&'a str> {
    subject.strip_prefix("$O.")?.strip_prefix(bucket)?.strip_prefix(".C.")
}

/// What reads a stream whole or in part, in the ways that clients of any language do it.
pub fn read_stream(stream: &StreamSpec) -> Vec<String> {
    let name = stream.name;
    vec![
        format!("$JS.API.STREAM.INFO.{name}"),
        format!("$JS.API.STREAM.MSG.GET.{name}"),
        format!("$JS.API.DIRECT.GET.{name}"),
        format!("$JS.API.DIRECT.GET.{name}.>"),
        format!("$JS.API.CONSUMER.CREATE.{name}"),
        format!("$JS.API.CONSUMER.CREATE.{name}.>"),
        format!("$JS.API.CONSUMER.INFO.{name}.*"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{name}.*"),
        format!("$JS.API.CONSUMER.DELETE.{name}.*"),
        format!("$JS.FC.{name}.>"),
    ]
}

/// What reads the last message of each subject of a stream.
pub fn read_last(stream: &StreamSpec) -> String {
    format!("$JS.API.DIRECT.GET.{}.{}", stream.name, stream.subject)
}

/// What reads objects.
pub fn read_objects(bucket: &str) -> Vec<String> {
    let stream = objects_stream(bucket);
    vec![
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.STREAM.MSG.GET.{stream}"),
        format!("$JS.API.DIRECT.GET.{stream}.{}", objects_metadata(bucket)),
        format!("$JS.API.CONSUMER.CREATE.{stream}"),
        format!("$JS.API.CONSUMER.DELETE.{stream}.*"),
        format!("$JS.FC.{stream}.>"),
    ]
}

/// What puts objects, beside [`read_objects`]: an object that is put anew replaces the remains of an older one.
pub fn write_objects(bucket: &str) -> Vec<String> {
    vec![objects(bucket), format!("$JS.API.STREAM.PURGE.{}", objects_stream(bucket))]
}

/// What takes from a stream through a durable consumer of this name, made where it is missing; `*` stands for any name.
pub fn take_from(stream: &StreamSpec, consumer: &str, subject: &str) -> Vec<String> {
    let name = stream.name;
    vec![
        format!("$JS.API.CONSUMER.INFO.{name}.{consumer}"),
        format!("$JS.API.CONSUMER.CREATE.{name}.{consumer}.{subject}"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{name}.{consumer}"),
        format!("$JS.ACK.{name}.{consumer}.>"),
    ]
}
