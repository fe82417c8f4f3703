//! Turns the specs of the streams, consumers and buckets into those of the client.

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{kv, object_store, stream};
use regatta_schemas::PoolId;
use regatta_schemas::streams::{
    BUCKETS, LEADER_BUCKET, LEADER_LEASE, OFFER_ACK_WAIT, STREAMS, StreamSpec, TRIALS, offers_consumer as consumer_name,
};
use regatta_schemas::subjects;

use crate::{BrokerError, Link};

/// Makes every stream and bucket that is missing, and brings those that are there to their spec.
///
/// # Errors
/// `Away` when JetStream does not answer, or refuses (its disk is full, it is switched off).
pub async fn ensure_everything(link: &Link, replicas: usize) -> Result<(), BrokerError> {
    for spec in &STREAMS {
        link.jetstream.create_or_update_stream(config(spec, replicas)).await.map_err(BrokerError::away(spec.name))?;
    }
    for bucket in BUCKETS {
        if link.jetstream.get_object_store(bucket).await.is_ok() {
            continue;
        }
        link.jetstream
            .create_object_store(object_store::Config {
                bucket: bucket.to_owned(),
                num_replicas: replicas,
                ..Default::default()
            })
            .await
            .map_err(BrokerError::away(bucket))?;
    }
    link.jetstream
        .create_or_update_key_value(kv::Config {
            bucket: LEADER_BUCKET.to_owned(),
            description: "The coordinator that leads".to_owned(),
            history: 1,
            max_age: LEADER_LEASE,
            num_replicas: replicas,
            ..Default::default()
        })
        .await
        .map_err(BrokerError::away(LEADER_BUCKET))?;
    Ok(())
}

fn config(spec: &StreamSpec, replicas: usize) -> stream::Config {
    stream::Config {
        name: spec.name.to_owned(),
        description: Some(spec.description.to_owned()),
        subjects: vec![spec.subject.to_owned()],
        retention: if spec.work_queue { stream::RetentionPolicy::WorkQueue } else { stream::RetentionPolicy::Limits },
        max_age: spec.message_age_max.unwrap_or_default(),
        max_messages_per_subject: spec.messages_per_subject_max.unwrap_or(-1),
        max_bytes: spec.bytes_max.unwrap_or(-1),
        max_messages: -1,
        duplicate_window: spec.duplicate_window,
        num_replicas: replicas,
        allow_direct: true,
        ..Default::default()
    }
}

/// The durable pull consumer that the agents of a pool share; made where it is missing.
///
/// # Errors
/// `Away` when JetStream does not answer, or the stream does not exist yet.
pub async fn offers_consumer(link: &Link, pool: &PoolId) -> Result<PullConsumer, BrokerError> {
    let name = consumer_name(pool);
    let config = pull::Config {
        durable_name: Some(name.clone()),
        filter_subject: subjects::offers(pool),
        ack_policy: AckPolicy::Explicit,
        ack_wait: OFFER_ACK_WAIT,
        max_ack_pending: 100_000,
        max_waiting: 100_000,
        ..Default::default()
    };
    // The server writes to its disk for each one that is made, also where it is there already: with a thousand agents that
    // come back at once, long.
    if let Ok(consumer) = link.jetstream.get_consumer_from_stream::<pull::Config, _, _>(&name, TRIALS.name).await {
        let there = &consumer.cached_info().config;
        if there.ack_wait == OFFER_ACK_WAIT && there.filter_subject == config.filter_subject {
            return Ok(consumer);
        }
    }
    link.jetstream
        .create_consumer_on_stream(config, TRIALS.name)
        .await
        .map_err(BrokerError::away("the pool's consumer"))
}
