//! Puts an object whole, or nothing of it: what is left of an upload that was refused is taken away again.
//!
//! An object is its parts, under a subject that is drawn for the one upload, and then its metadata, which makes it one.

use async_nats::HeaderMap;
use async_nats::header::NATS_ROLLUP;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::{ObjectInfo, ObjectOptions};
use async_nats::jetstream::stream::{PurgeError, PurgeErrorKind, Stream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use regatta_schemas::subjects::jetstream::{object_metadata, object_parts, objects_stream};
use sha2::{Digest, Sha256};

use super::CHUNK_BYTES;
use crate::{BrokerError, Link};

const STORING: &str = "storing an object";
/// The value of [`NATS_ROLLUP`] with which a message takes the place of all earlier ones of its subject.
const ROLLUP_SUBJECT: &str = "sub";

/// The subject of an object's metadata.
pub(super) fn metadata_of(bucket: &str, object: &str) -> String {
    object_metadata(bucket, &URL_SAFE.encode(object))
}

/// The stream behind a bucket.
pub(super) async fn stream_of(link: &Link, bucket: &'static str) -> Result<Stream<()>, BrokerError> {
    link.jetstream.get_stream_no_info(objects_stream(bucket)).await.map_err(BrokerError::away(bucket))
}

/// Stores the bytes under this name, in the place of what has it now.
pub(super) async fn upload(
    link: &Link,
    bucket: &'static str,
    object: &str,
    bytes: &[u8],
    replaced: Option<ObjectInfo>,
) -> Result<(), BrokerError> {
    let stream = stream_of(link, bucket).await?;
    let inbox = link.client.new_inbox();
    let drawn = inbox.rsplit('.').next().expect("a split text has a last part");
    let parts = object_parts(bucket, drawn);
    for part in bytes.chunks(CHUNK_BYTES) {
        let message = PublishMessage::build().payload(part.to_vec().into());
        if let Err(error) = publish(link, &parts, message).await {
            return Err(take_away(&stream, &parts, error).await);
        }
    }
    let info = ObjectInfo {
        name: object.to_owned(),
        description: None,
        metadata: Default::default(),
        headers: None,
        options: Some(ObjectOptions { link: None, max_chunk_size: Some(CHUNK_BYTES) }),
        bucket: bucket.to_owned(),
        nuid: drawn.to_owned(),
        size: bytes.len(),
        chunks: bytes.len().div_ceil(CHUNK_BYTES),
        modified: Some(async_nats::datetime::now()),
        digest: Some(format!("SHA-256={}", URL_SAFE.encode(Sha256::digest(bytes)))),
        deleted: false,
    };
    let payload = serde_json::to_vec(&info).map_err(BrokerError::away(STORING))?;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_ROLLUP, ROLLUP_SUBJECT);
    let message = PublishMessage::build().payload(payload.into()).headers(headers);
    match publish(link, &metadata_of(bucket, object), message).await {
        Ok(()) => {}
        Err(error @ BrokerError::NoRoom { .. }) => return Err(take_away(&stream, &parts, error).await),
        // It may have been stored all the same: then it is an object.
        Err(error) => return Err(error),
    }
    if let Some(old) = replaced.filter(|old| old.chunks > 0) {
        purge(&stream, &object_parts(bucket, &old.nuid)).await.map_err(BrokerError::away(STORING))?;
    }
    Ok(())
}

async fn publish(link: &Link, subject: &str, message: PublishMessage) -> Result<(), BrokerError> {
    let sent = link.jetstream.send_publish(subject.to_owned(), message).await;
    let stored = match sent {
        Ok(ack) => ack.await,
        Err(error) => Err(error),
    };
    stored.map(drop).map_err(BrokerError::unstored(STORING))
}

/// Makes the room free that parts of no object take, and tells why there are such.
async fn take_away(stream: &Stream<()>, parts: &str, why: BrokerError) -> BrokerError {
    match purge(stream, parts).await {
        Ok(()) => why,
        // A server whose disk is full is silent about what it does not store, and says why it cannot purge.
        Err(error) if matches!(error.kind(), PurgeErrorKind::JetStream(_)) => {
            BrokerError::NoRoom { what: STORING, cause: error.into() }
        }
        Err(error) => {
            tracing::debug!(%error, parts, "what is left of an upload stays for the sweep");
            why
        }
    }
}

/// Removes all messages of a subject.
pub(super) async fn purge(stream: &Stream<()>, subject: &str) -> Result<(), PurgeError> {
    stream.purge().filter(subject).await.map(drop)
}
