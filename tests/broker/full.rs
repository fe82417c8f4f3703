//! No room: in the bucket of checkpoints, in a tenant's account, on the server's disk, on an agent's disk. Training goes
//! on, no half of a checkpoint is ever taken for one, and everybody who looks is told what to do.

use std::collections::BTreeMap;

use regatta_broker::async_nats::jetstream::stream::Stream;
use regatta_broker::{BrokerError, Link, Objects};
use regatta_schemas::api::Endpoint;
use regatta_schemas::log::Record;
use regatta_schemas::reasons::FailCause;
use regatta_schemas::streams::CHECKPOINTS_BUCKET;
use regatta_schemas::subjects::jetstream::{object_parts, objects_parts, objects_stream};
use regatta_schemas::{TrialId, subjects};
use regatta_tests::{Cluster, History, SmallDisk, digits_study, until};
use serde_json::{Value, json};

use super::command::{allowed, wines};

async fn checkpoints(link: &Link) -> Stream {
    until("the bucket is there", || async { link.jetstream.get_stream(objects_stream(CHECKPOINTS_BUCKET)).await.ok() })
        .await
}

/// Lets the bucket of checkpoints hold so many bytes at most; -1: any number.
async fn limit_checkpoints(link: &Link, bytes_max: i64) {
    let mut config = checkpoints(link).await.cached_info().config.clone();
    config.max_bytes = bytes_max;
    link.jetstream.update_stream(config).await.expect("the server changes a limit");
}

fn bytes(count: usize, seed: u8) -> Vec<u8> {
    (0..count).map(|at| u8::try_from(at % 251).expect("it is small") ^ seed).collect()
}

async fn shown(cluster: &Cluster, words: &[&str]) -> Value {
    serde_json::from_str(&cluster.cli_ok(words).await).expect("JSON was asked for")
}

/// What every trial measured, epoch by epoch; it fails where an epoch counts twice or is missing.
fn curves(history: &History, epochs: u32) -> BTreeMap<TrialId, Vec<BTreeMap<String, u64>>> {
    let curve = |trial: TrialId| {
        let mut by_epoch = BTreeMap::new();
        for offer in history.offers(trial) {
            for point in history.points(trial, offer.attempt) {
                let bits = point.metrics.iter().map(|(name, value)| (name.clone(), value.to_bits()));
                by_epoch.insert(point.resource, bits.collect());
            }
        }
        assert_eq!(by_epoch.keys().copied().collect::<Vec<_>>(), (1..=epochs).collect::<Vec<_>>());
        by_epoch.into_values().collect()
    };
    history.proposed().into_keys().map(|trial| (trial, curve(trial))).collect()
}

#[tokio::test]
async fn a_refused_object_leaves_nothing_and_a_full_bucket_can_be_emptied() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let link = cluster.link().await;
    limit_checkpoints(&link, 2_500_000).await;
    let objects = Objects::new(&link, CHECKPOINTS_BUCKET);
    let first = objects.put(bytes(1_200_000, 1)).await.unwrap();
    let used = checkpoints(&link).await.cached_info().state.bytes;
    let refused = objects.put(bytes(1_400_000, 2)).await;
    assert!(matches!(refused, Err(BrokerError::NoRoom { .. })), "{refused:?}");
    assert_eq!(checkpoints(&link).await.cached_info().state.bytes, used, "parts of no object are left");

    // Not even a word about a deletion has room.
    let filler = object_parts(CHECKPOINTS_BUCKET, "filler");
    for size in [100_000, 1_000, 1] {
        while link.jetstream.publish(filler.clone(), bytes(size, 3).into()).await.unwrap().await.is_ok() {}
    }
    objects.delete(&first).await.unwrap();
    let gone = objects.get(&first, u64::MAX).await;
    assert!(matches!(gone, Err(BrokerError::NoObject { .. })), "{gone:?}");
    objects.put(bytes(1_100_000, 4)).await.unwrap();
}

#[tokio::test]
async fn an_object_without_all_its_parts_is_damaged_and_put_anew() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let link = cluster.link().await;
    let stream = checkpoints(&link).await;
    let objects = Objects::new(&link, CHECKPOINTS_BUCKET);
    let name = objects.put(bytes(1_200_000, 1)).await.unwrap();
    let parts = objects_parts(CHECKPOINTS_BUCKET);
    stream.purge().filter(&parts).keep(1).await.unwrap();
    let damaged = objects.get(&name, u64::MAX).await;
    assert!(matches!(damaged, Err(BrokerError::Damaged { .. })), "{damaged:?}");
    assert_eq!(objects.put(bytes(1_200_000, 1)).await.unwrap(), name);
    assert!(objects.get(&name, u64::MAX).await.unwrap() == bytes(1_200_000, 1));
}

#[tokio::test]
async fn what_an_upload_left_that_broke_off_is_swept_and_no_object_is() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&["--sweep-age-s", "2"]);
    let link = cluster.link().await;
    let stream = checkpoints(&link).await;
    let objects = Objects::new(&link, regatta_schemas::streams::DATA_BUCKET);
    let name = objects.put(bytes(1_200_000, 1)).await.unwrap();
    let parts = object_parts(CHECKPOINTS_BUCKET, "brokenoff");
    for part in 0..3 {
        link.jetstream.publish(parts.clone(), bytes(1_000, part).into()).await.unwrap().await.unwrap();
    }
    until("the sweep", || async {
        let info = stream.get_info().await.unwrap();
        (info.state.messages == 0).then_some(())
    })
    .await;
    assert!(objects.get(&name, u64::MAX).await.is_ok());
}

#[tokio::test]
async fn without_room_for_checkpoints_a_study_ends_with_the_same_results() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let calm = cluster.start_study(&digits_study("calm", 3, 4)).await;
    let calm = cluster.until_concluded(&calm).await;
    assert!(calm.count("checkpointed") > 0);

    limit_checkpoints(&cluster.link().await, 1).await;
    let mut study = digits_study("full", 3, 4);
    study["name"] = "calm".into();
    let full = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&full).await;
    assert_eq!((history.count("checkpointed"), history.count("finished")), (0, 3));
    assert_eq!(curves(&history, 4), curves(&calm, 4), "bit for bit");
    let printed = cluster.cli_ok(&["logs", full.as_str()]).await;
    let lost = printed.lines().filter(|line| line.contains("agent: ")).count();
    assert_eq!(lost, 3, "one word for each trial: {printed}");
}

#[tokio::test]
async fn an_agents_trouble_shows_with_its_study_until_there_is_room() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let link = cluster.link().await;
    limit_checkpoints(&link, 1).await;
    let mut study = digits_study("troubled", 1, 1_000_000);
    study["recipe"]["checkpoint"]["every_s"] = json!(0.2);
    let id = cluster.start_study(&study).await;
    let show = ["study", "show", id.as_str(), "--json"];
    let trouble = || async { shown(&cluster, &show).await["trouble"].as_str().map(str::to_owned) };
    until("the study tells of it", trouble).await;
    limit_checkpoints(&link, -1).await;
    until("it is over", || async { trouble().await.is_none().then_some(()) }).await;
    cluster.until_log(&id, "checkpoints are announced", |history| history.count("checkpointed") > 0).await;
    cluster.cli_ok(&["study", "stop", id.as_str()]).await;
    cluster.until_concluded(&id).await;
}

#[tokio::test]
async fn a_tenant_without_room_trains_on_and_decides_once_it_has_more() {
    let cluster = Cluster::start_secured(&["--tenant", "default=2G"]).await;
    let coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&digits_study("tenant", 6, 400)).await;
    cluster.until_log(&id, "it trains", |history| history.count("measured") >= 2).await;
    let storage = |size: &str| {
        let keys = cluster.keys().display().to_string();
        cluster.auth(&["init", &keys, "--tenant", &format!("default={size}")]);
        cluster.reload_nats();
    };
    storage("1K");
    let show = ["study", "show", id.as_str(), "--json"];
    until("the study tells of it", || async { shown(&cluster, &show).await["trouble"].as_str().map(str::to_owned) })
        .await;
    // The coordinator cannot write down what it is asked for, and lets nobody wait for that.
    let link = cluster.link().await;
    let pause = json!({"study": id, "by": "a test"}).to_string();
    let nobody_listens = link.client.new_inbox();
    let pausing = subjects::api(Endpoint::StudyPause);
    link.client.publish_with_reply(pausing, nobody_listens, pause.into()).await.unwrap();
    until("whoever asks is told why not", || async {
        let answer = link.client.request(subjects::api(Endpoint::FleetShow), "".into()).await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        (answer["code"] == "not_ready").then_some(())
    })
    .await;
    storage("2G");
    until("the study can be paused", || async {
        cluster.cli(&["study", "pause", id.as_str()]).await;
        (shown(&cluster, &show).await["status"] == "paused").then_some(())
    })
    .await;
    cluster.cli_ok(&["study", "resume", id.as_str()]).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!((history.proposed().len(), history.count("finished")), (6, 6), "{}", coordinator.log());
    curves(&history, 400);
}

#[tokio::test]
async fn a_server_whose_disk_is_full_costs_time_and_no_result() {
    let Some(mut cluster) = Cluster::start_on_small_disk(64).await else { return };
    let _coordinator = cluster.coordinator(&[]);
    let agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("disk", 4, 60)).await;
    cluster.until_log(&id, "there are checkpoints", |history| history.count("checkpointed") >= 2).await;
    cluster.disk.as_ref().unwrap().fill();
    until("the agent tells that the server stores nothing", || async {
        agent.log().contains("is not kept").then_some(())
    })
    .await;
    cluster.disk.as_ref().unwrap().free();
    // It does not come back to a stream that it could not write.
    cluster.kill_nats();
    cluster.start_nats().await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!((history.proposed().len(), history.count("finished")), (4, 4));
    curves(&history, 60);
}

#[tokio::test]
async fn an_agent_whose_disk_is_full_fails_no_trial_for_good() {
    let cluster = Cluster::start().await;
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("small"), 8).await else { return };
    let _coordinator = cluster.coordinator(&[]);
    let args = ["--lanes", "1", "--allow", &allowed()];
    let _full = cluster.agent_on(&disk, &args);
    let mut study = wines(4);
    study["stopper"] = "none".into();
    let id = cluster.start_study(&study).await;
    cluster.until_log(&id, "it trains", |history| history.count("checkpointed") >= 1).await;
    disk.fill();
    cluster.until_log(&id, "its disk fails a trial", |history| history.count("failed") >= 1).await;
    until("the fleet shows its trouble", || async {
        shown(&cluster, &["fleet", "--json"]).await["agents"][0]["trouble"].as_str().map(str::to_owned)
    })
    .await;
    let _healthy = cluster.agent(&args);
    let history = cluster.until_concluded(&id).await;
    assert_eq!((history.count("finished"), history.count("concluded")), (4, 0));
    for entry in &history.0 {
        if let Record::Failed(failed) = &entry.record {
            assert_eq!(failed.cause, FailCause::Device, "{failed:?}");
        }
    }
    curves(&history, 9);
}
