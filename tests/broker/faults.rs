//! What dies in mid-study is made good, and nothing counts twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use regatta_broker::Objects;
use regatta_schemas::log::Record;
use regatta_schemas::reasons::OfferReason;
use regatta_schemas::{Attempt, streams};
use regatta_tests::{Cluster, History, digits_study, until};
use serde_json::{Value, json};

/// A trial that takes seconds, so that there is time to do something to its agent; a checkpoint after every epoch.
fn long_study(name: &str, trials: u32, epochs: u32) -> Value {
    let mut study = digits_study(name, trials, epochs);
    study["recipe"]["model"] = json!({"family": "mlp", "hidden": [256, 256]});
    study["recipe"]["batch_size"] = json!(4);
    study
}

fn has_checkpoint(history: &History) -> bool {
    history.count("checkpointed") >= 3
}

#[tokio::test]
async fn the_trial_of_a_killed_agent_resumes_elsewhere_from_its_checkpoint() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&["--lease-timeout-s", "2"]);
    let mut first = cluster.agent(&[]);
    let id = cluster.start_study(&long_study("killed-agent", 1, 12)).await;
    let before = cluster.until_log(&id, "there are checkpoints", has_checkpoint).await;
    first.kill();
    let _second = cluster.agent(&[]);
    let history = cluster.until_concluded(&id).await;

    let trial = *history.proposed().keys().next().unwrap();
    let offers = history.offers(trial);
    assert_eq!(offers.len(), 2, "offered again once");
    let lost = before.accepted().next().unwrap().1.agent.clone();
    assert!(matches!(&offers[1].reason, OfferReason::LeaseLost { agent, .. } if *agent == lost), "{:?}", offers[1]);
    let resumed = offers[1].resume.as_ref().expect("from the checkpoint");
    let epochs: Vec<u32> = history.points(trial, Attempt(2)).iter().map(|point| point.resource).collect();
    assert_eq!(epochs, (resumed.resource + 1..=12).collect::<Vec<_>>(), "goes on where the checkpoint was made");
}

#[tokio::test]
async fn resuming_elsewhere_changes_no_number() {
    let mut curves = Vec::new();
    for is_killed in [false, true] {
        let cluster = Cluster::start().await;
        let _coordinator = cluster.coordinator(&["--lease-timeout-s", "2"]);
        let mut agent = cluster.agent(&[]);
        let id = cluster.start_study(&long_study("same-numbers", 1, 6)).await;
        let mut second = None;
        if is_killed {
            cluster.until_log(&id, "there are checkpoints", has_checkpoint).await;
            agent.kill();
            second = Some(cluster.agent(&[]));
        }
        let history = cluster.until_concluded(&id).await;
        let trial = *history.proposed().keys().next().unwrap();
        let last = history.offers(trial).last().unwrap().attempt;
        assert_eq!(last, if is_killed { Attempt(2) } else { Attempt(1) });
        let points = history.points(trial, last);
        curves.push(points.last().unwrap().metrics.clone());
        drop(second);
    }
    assert_eq!(curves[0], curves[1], "bit for bit, on the same kind of device");
}

#[tokio::test]
async fn a_killed_coordinator_is_replaced_and_every_trial_counts_once() {
    let cluster = Cluster::start().await;
    let mut coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&long_study("killed-coordinator", 8, 3)).await;
    for ended in [2, 4] {
        cluster.until_log(&id, "trials have finished", |history| history.count("finished") >= ended).await;
        coordinator.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        coordinator = cluster.coordinator(&[]);
    }
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 8);
    assert_eq!(history.count("finished"), 8);
    for trial in history.proposed().keys() {
        assert_eq!(history.offers(*trial).len(), 1, "no agent was lost, so trial {trial} is trained once");
    }
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!(shown["trials"]["finished"], 8);
    assert_eq!(shown["resource_spent"], 24);
}

#[tokio::test]
async fn agents_go_on_training_while_the_server_is_away() {
    let mut cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&long_study("killed-nats", 4, 5)).await;
    cluster.until_log(&id, "there are checkpoints", has_checkpoint).await;
    cluster.kill_nats();
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.start_nats().await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 4);
    for trial in history.proposed().keys() {
        let last = history.offers(*trial).last().unwrap().attempt;
        let mut epochs: Vec<u32> = history.points(*trial, last).iter().map(|point| point.resource).collect();
        epochs.sort_unstable();
        let first = epochs[0];
        assert_eq!(epochs, (first..=5).collect::<Vec<_>>(), "no point of trial {trial} is lost or counted twice");
    }
}

#[tokio::test]
async fn reports_beyond_the_spool_are_thinned_in_order_and_no_end_of_a_trial_is_lost() {
    let mut cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let agent = cluster.agent(&["--lanes", "2", "--spool-kib", "8"]);
    let mut study = digits_study("spool", 2, 400);
    study["recipe"]["checkpoint"] = json!({"every_s": 3_600.0});
    let id = cluster.start_study(&study).await;
    cluster
        .until_log(&id, "both train", |history| history.count("measured") >= 3 && history.count("accepted") == 2)
        .await;
    cluster.kill_nats();
    until("both trials end while NATS is away", || async {
        (agent.log().matches("training ended").count() == 2).then_some(())
    })
    .await;
    assert!(agent.log().contains("points and lines in between are dropped"), "{}", agent.log());
    cluster.start_nats().await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.count("finished"), 2);
    for trial in history.proposed().keys() {
        assert_eq!(history.offers(*trial).len(), 1, "an agent that was cut off keeps its trials");
        let records: Vec<(u64, bool)> = history
            .of_trial(*trial)
            .filter_map(|record| Some((record.key()?.sequence.0, matches!(record, Record::Measured(_)))))
            .collect();
        let once: BTreeSet<u64> = records.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(once.len(), records.len(), "what was sent twice is stored once: {records:?}");
        // Points that were under way when the connection broke may change places, with one another only.
        for (at, (sequence, _)) in records.iter().enumerate().filter(|(_, (_, is_point))| !is_point) {
            assert!(records[..at].iter().all(|(before, _)| before < sequence), "{records:?}");
            assert!(records[at + 1..].iter().all(|(after, _)| after > sequence), "{records:?}");
        }
        let points = history.points(*trial, Attempt(1));
        assert!(points.len() < 400, "some of trial {trial} were dropped");
        assert_eq!(points.last().map(|point| point.resource), Some(400), "the newest was not");
    }
}

#[tokio::test]
async fn a_paused_agent_that_returns_is_told_to_stop_and_changes_nothing() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&["--lease-timeout-s", "2"]);
    let zombie = cluster.agent(&[]);
    let id = cluster.start_study(&long_study("zombie", 1, 10)).await;
    cluster.until_log(&id, "there are checkpoints", has_checkpoint).await;
    zombie.pause();
    let _healthy = cluster.agent(&[]);
    cluster.until_log(&id, "another agent has it", |history| history.count("accepted") == 2).await;
    zombie.resume();
    let history = cluster.until_concluded(&id).await;
    let trial = *history.proposed().keys().next().unwrap();
    let finished: Vec<_> = history
        .of_trial(trial)
        .filter_map(|record| match record {
            Record::Finished(finished) => Some(finished.attempt),
            _ => None,
        })
        .collect();
    assert_eq!(finished, [Attempt(2)], "the zombie's attempt did not run to its end");
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!(shown["resource_spent"], 10, "what the zombie trained twice counts once");
}

#[tokio::test]
async fn a_drained_agent_gives_its_trial_back_with_a_checkpoint() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let mut first = cluster.agent(&[]);
    let id = cluster.start_study(&long_study("drain", 1, 10)).await;
    cluster.until_log(&id, "it trains", |history| history.count("measured") >= 2).await;
    first.terminate();
    assert!(first.ended().await.success(), "{}", first.log());
    let _second = cluster.agent(&[]);
    let history = cluster.until_concluded(&id).await;
    let trial = *history.proposed().keys().next().unwrap();
    let offers = history.offers(trial);
    assert_eq!(offers.len(), 2);
    assert!(matches!(offers[1].reason, OfferReason::Released { .. }), "{:?}", offers[1]);
    assert!(offers[1].resume.is_some());
    assert_eq!(history.count("finished"), 1);
}

#[tokio::test]
async fn a_second_sigterm_ends_an_agent_at_once() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let mut agent = cluster.agent(&[]);
    let id = cluster.start_study(&long_study("second-sigterm", 1, 1_000)).await;
    cluster.until_log(&id, "it trains", |history| history.count("measured") >= 1).await;
    // A server that does not answer keeps the agent from storing the checkpoint that it drains with.
    cluster.pause_nats();
    agent.terminate();
    until("it drains", || async { agent.log().contains("draining").then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(agent.is_running(), "a drain waits until the trial is kept");
    agent.terminate();
    assert_eq!(agent.ended().await.code(), Some(130));
}

#[tokio::test]
async fn a_second_coordinator_takes_over_and_nothing_is_offered_twice() {
    let cluster = Cluster::start().await;
    let mut leader = cluster.coordinator(&[]);
    until("one leads", || async { leader.log().contains(" leading").then_some(()) }).await;
    let mut standby = cluster.coordinator(&[]);
    until("the other stands by", || async { standby.log().contains("another coordinator was elected").then_some(()) })
        .await;
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&long_study("takeover", 8, 3)).await;
    for ended in [2, 4] {
        cluster.until_log(&id, "trials have finished", |history| history.count("finished") >= ended).await;
        leader.kill();
        until("the other takes over", || async { standby.log().contains(" leading").then_some(()) }).await;
        (leader, standby) = (standby, cluster.coordinator(&[]));
    }
    let history = cluster.until_concluded(&id).await;
    assert_eq!((history.proposed().len(), history.count("finished")), (8, 8));
    for trial in history.proposed().keys() {
        assert_eq!(history.offers(*trial).len(), 1, "no agent was lost, so trial {trial} is trained once");
    }
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!((&shown["trials"]["finished"], &shown["resource_spent"]), (&json!(8), &json!(24)));
}

#[tokio::test]
async fn a_fleet_shows_who_leads_it_and_since_when() {
    let cluster = Cluster::start().await;
    let mut first = cluster.coordinator(&[]);
    let leader = || async {
        let fleet: Value = serde_json::from_str(&cluster.cli_ok(&["fleet", "--json"]).await).unwrap();
        let leader = &fleet["leader"];
        (leader["coordinator"].as_str().unwrap().to_owned(), leader["since_ms"].as_u64().unwrap())
    };
    let (name, since) = leader().await;
    assert!(first.log().contains(&name), "{name}: {}", first.log());
    first.kill();
    let second = cluster.coordinator(&[]);
    let (next, later) = leader().await;
    assert!(second.log().contains(&next) && next != name, "{next}: {}", second.log());
    assert!(later > since, "{since}, then {later}");
    assert!(cluster.cli_ok(&["fleet"]).await.contains(&next));
}

#[tokio::test]
async fn what_a_deposed_coordinator_decides_is_refused_and_it_stands_by() {
    let cluster = Cluster::start().await;
    let mut deposed = cluster.coordinator(&["--lease-timeout-s", "2"]);
    until("one leads", || async { deposed.log().contains(" leading").then_some(()) }).await;
    let standby = cluster.coordinator(&["--lease-timeout-s", "2"]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&long_study("deposed", 6, 4)).await;
    cluster.until_log(&id, "it trains", |history| history.count("measured") >= 2).await;
    deposed.pause();
    until("the other takes over", || async { standby.log().contains(" leading").then_some(()) }).await;
    cluster.until_log(&id, "a trial has finished", |history| history.count("finished") >= 2).await;
    // It wakes with its own view of the study, and with beats and records that waited for it.
    deposed.resume();
    until("it stands by", || async { deposed.log().contains("this one stands by").then_some(()) }).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!((history.proposed().len(), history.count("finished")), (6, 6));
    for trial in history.proposed().keys() {
        assert_eq!(history.offers(*trial).len(), 1, "no agent was lost, so trial {trial} is trained once");
    }
    assert!(deposed.is_running());
}

#[tokio::test]
async fn a_coordinator_that_is_told_to_stop_hands_over_at_once() {
    let cluster = Cluster::start().await;
    let mut leader = cluster.coordinator(&[]);
    until("one leads", || async { leader.log().contains(" leading").then_some(()) }).await;
    leader.terminate();
    assert!(leader.ended().await.success(), "{}", leader.log());
    let bucket = cluster.link().await.jetstream.get_key_value(streams::LEADER_BUCKET).await.unwrap();
    assert_eq!(bucket.get(streams::LEADER_KEY).await.unwrap(), None, "the key is given back");
    let next = cluster.coordinator(&[]);
    until("the next leads", || async { next.log().contains(" leading").then_some(()) }).await;
}

#[tokio::test]
async fn a_coordinator_that_begins_with_a_snapshot_knows_what_the_log_says() {
    let cluster = Cluster::start().await;
    let mut coordinator = cluster.coordinator(&[]);
    let mut agent = cluster.agent(&[]);
    let over = cluster.start_study(&digits_study("over", 3, 2)).await;
    cluster.until_concluded(&over).await;
    let unwanted = cluster.start_study(&digits_study("unwanted", 1, 1)).await;
    cluster.until_concluded(&unwanted).await;
    agent.terminate();
    agent.ended().await;
    let going_on = cluster.start_study(&digits_study("going-on", 2, 2)).await;
    let show = ["study", "show", over.as_str(), "--json"];
    let list = ["trial", "list", over.as_str(), "--json"];
    let before = (cluster.cli_ok(&show).await, cluster.cli_ok(&list).await);
    coordinator.terminate();
    assert!(coordinator.ended().await.success(), "{}", coordinator.log());

    let mut coordinator = cluster.coordinator(&[]);
    until("it begins with the snapshot", || async { coordinator.log().contains("from the snapshot").then_some(()) })
        .await;
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["study", "list", "--json"]).await).unwrap();
    assert_eq!(listed["studies"].as_array().map(Vec::len), Some(3), "{listed}");
    assert_eq!((cluster.cli_ok(&show).await, cluster.cli_ok(&list).await), before);
    cluster.cli_ok(&["study", "delete", unwanted.as_str()]).await;
    let _agent = cluster.agent(&[]);
    cluster.until_concluded(&going_on).await;

    // A snapshot that nobody can read costs time and nothing else.
    coordinator.kill();
    let store = cluster.link().await.jetstream.get_object_store(streams::SNAPSHOTS_BUCKET).await.unwrap();
    store.put(streams::SNAPSHOT_OBJECT, &mut &b"{\"type\": \"snapshot\", \"version\""[..]).await.unwrap();
    let coordinator = cluster.coordinator(&[]);
    until("it reads the whole log", || async { coordinator.log().contains("whole log").then_some(()) }).await;
    assert_eq!((cluster.cli_ok(&show).await, cluster.cli_ok(&list).await), before);
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["study", "list", "--json"]).await).unwrap();
    assert_eq!(listed["studies"].as_array().map(Vec::len), Some(2), "the deleted one stays forgotten: {listed}");
}

#[tokio::test]
async fn a_log_that_lost_its_tail_is_what_counts_and_the_rest_is_trained_again() {
    let mut cluster = Cluster::start().await;
    let coordinator = cluster.coordinator(&["--lease-timeout-s", "2"]);
    let _agents = [cluster.agent(&[]), cluster.agent(&[])];
    let id = cluster.start_study(&long_study("power-cut", 6, 3)).await;
    cluster.until_log(&id, "a trial has finished", |history| history.count("finished") >= 1).await;
    let (store, early) = (cluster.folder().join("nats"), cluster.folder().join("early"));
    cluster.kill_nats();
    copy_folder(&store, &early);
    cluster.start_nats().await;
    cluster.until_log(&id, "three have finished", |history| history.count("finished") >= 3).await;
    // As after a power cut: what was acknowledged, and not yet on the disk, is gone.
    cluster.kill_nats();
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&early, &store).unwrap();
    // It cannot look before the log has grown again past what was read of it.
    coordinator.pause();
    cluster.start_nats().await;
    let link = cluster.link().await;
    for _ in 0..100 {
        let stored = link.jetstream.publish("regatta.v1.log.noise", "".into()).await.unwrap();
        stored.await.unwrap();
    }
    coordinator.resume();
    until("it is noticed", || async { coordinator.log().contains("lost the end of stream").then_some(()) }).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 6);
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!((&shown["trials"]["finished"], &shown["resource_spent"]), (&json!(6), &json!(18)));
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(from, to).expect("a file can be copied");
        }
    }
}

#[tokio::test]
async fn checkpoints_that_were_left_behind_are_deleted_and_no_others() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&["--sweep-age-s", "3"]);
    let agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("swept", 2, 2)).await;
    cluster.until_concluded(&id).await;
    let objects = Objects::new(&cluster.link().await, streams::CHECKPOINTS_BUCKET);
    let announced = objects.list().await.unwrap();
    assert!(!announced.is_empty(), "a finished trial keeps its last checkpoint");
    let left_behind = objects.put(b"stored, and then its agent died".to_vec()).await.unwrap();
    until("the sweep", || async {
        let objects = objects.list().await.unwrap();
        (!objects.iter().any(|(object, _)| *object == left_behind)).then_some(())
    })
    .await;
    assert_eq!(objects.list().await.unwrap(), announced);
    drop(agent);
}
