//! Tells a message that somebody sent from one that the server copied on somebody's behalf.

use async_nats::HeaderMap;
use async_nats::header::NATS_STREAM;

/// Whether these are the headers of a stored message that the server handed out.
///
/// NATS checks on which subject a request is published, but not on which subject it asks to be answered. Whoever may read
/// a stream can so have its messages copied to a subject on which it may not publish. The server marks such copies, and
/// nobody who takes orders from a subject may follow them.
pub fn is_copy(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get(NATS_STREAM).is_some())
}
