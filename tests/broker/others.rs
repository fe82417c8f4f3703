//! What strangers send, and the embedded cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use regatta_broker::BrokerError;
use regatta_broker::async_nats::jetstream::message::PublishMessage;
use regatta_schemas::api::Endpoint;
use regatta_schemas::{PoolId, subjects};
use regatta_tests::{Cluster, Process, digits_study, program, repository, until};
use serde_json::{Value, json};

#[tokio::test]
async fn garbage_on_every_subject_harms_nobody() {
    let cluster = Cluster::start().await;
    let mut coordinator = cluster.coordinator(&[]);
    let mut agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("garbage", 6, 4)).await;
    let link = cluster.link().await;
    cluster.until_log(&id, "it trains", |history| history.count("measured") >= 1).await;
    let garbage: [&[u8]; 6] =
        [b"", b"{", b"[1,2]", b"{\"type\":\"nothing we know\"}", b"\xff\xfe\x00", b"{\"type\":\"measured\"}"];
    let subjects = [
        format!("regatta.v1.log.{id}.0.measured"),
        format!("regatta.v1.log.{id}.99.finished"),
        format!("regatta.v1.log.{id}.study.study_concluded"),
        "regatta.v1.log.nobody.0.measured".to_owned(),
        "regatta.v1.log.x.y.z".to_owned(),
        format!("regatta.v1.stop.{id}.0"),
        format!("regatta.v1.stop.{id}.all"),
        subjects::offers(&PoolId::default()),
        "regatta.v1.fleet.default.stranger".to_owned(),
        format!("regatta.v1.output.{id}.0"),
    ];
    for subject in &subjects {
        for payload in garbage {
            let message = PublishMessage::build().payload(payload.to_vec().into());
            // A subject that no stream keeps has nobody to acknowledge it.
            let _not_kept = link.jetstream.send_publish(subject.clone(), message).await.unwrap();
        }
    }
    for endpoint in Endpoint::ALL {
        for payload in garbage {
            let answer = link.client.request(subjects::api(endpoint), payload.to_vec().into()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            let needs_nothing = matches!(endpoint, Endpoint::StudyList | Endpoint::FleetShow);
            if !needs_nothing {
                assert_eq!(answer["type"], "rejected", "{endpoint:?} {answer}");
                assert!(!answer["message"].as_str().unwrap().is_empty());
            }
        }
    }
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 6);
    assert!(coordinator.is_running() && agent.is_running());
}

#[tokio::test]
async fn a_log_that_ends_with_a_foreign_message_keeps_no_coordinator_from_its_work() {
    let cluster = Cluster::start().await;
    let mut coordinator = cluster.coordinator(&[]);
    let link = cluster.link().await;
    until("the log is there", || async { link.jetstream.get_stream("REGATTA_LOG").await.ok() }).await;
    let message = PublishMessage::build().payload("{".into());
    link.jetstream.send_publish("regatta.v1.log.foreign", message).await.unwrap().await.unwrap();
    coordinator.kill();
    let _next = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("after-foreign", 1, 1)).await;
    assert_eq!(cluster.until_concluded(&id).await.count("finished"), 1);
}

#[tokio::test]
async fn a_request_too_large_to_be_logged_is_refused() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let id = cluster.start_study(&digits_study("large", 1, 1)).await;
    let link = cluster.link().await;
    let request = json!({"study": id, "by": "x".repeat(900_000)}).to_string();
    let answer = link.client.request(subjects::api(Endpoint::StudyPause), request.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["code"], "malformed", "{answer}");
    assert!(cluster.cli_ok(&["study", "list"]).await.contains("running"));
}

#[tokio::test]
async fn a_bare_recipe_is_a_study_of_one_trial() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let link = cluster.link().await;
    let digits = std::fs::read(repository().join("examples/data/digits.npz")).unwrap();
    // The coordinator makes the buckets; wait for it.
    let objects = regatta_broker::Objects::new(&link, regatta_schemas::streams::DATA_BUCKET);
    let sha256 = until("the bucket is there", || async { objects.put(digits.clone()).await.ok() }).await;
    let mut recipe = digits_study("bare", 1, 1)["recipe"].clone();
    recipe["data"].as_object_mut().unwrap().remove("file");
    recipe["data"]["object"] = json!({"sha256": sha256, "bytes": digits.len()});
    recipe["optimizer"]["learning_rate"] = json!(0.01);
    let request = json!({"recipe": recipe, "resource": 2, "labels": {"from": "a test"}});
    let subject = subjects::api(Endpoint::TrialSubmit);
    let answer = until("the api answers", || async {
        link.client.request(subject.clone(), request.to_string().into()).await.ok()
    })
    .await;
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["type"], "ok", "{answer}");
    let id = answer["study"].as_str().unwrap().parse().unwrap();
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.count("finished"), 1);
}

#[tokio::test]
async fn an_object_is_copied_to_the_disk_piece_by_piece_and_checked() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let objects = regatta_broker::Objects::new(&cluster.link().await, regatta_schemas::streams::DATA_BUCKET);
    let bytes: Vec<u8> = (0..1_300_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let name = until("the bucket is there", || async { objects.put(bytes.clone()).await.ok() }).await;
    let mut copy = Vec::new();
    objects.copy(&name, bytes.len() as u64, &mut copy).await.unwrap();
    assert!(copy == bytes);
    let too_large = objects.copy(&name, bytes.len() as u64 - 1, &mut Vec::new()).await;
    assert!(matches!(too_large, Err(BrokerError::Damaged { .. })), "{too_large:?}");
    let missing = objects.copy(&"0".repeat(64), u64::MAX, &mut Vec::new()).await;
    assert!(matches!(missing, Err(BrokerError::NoObject { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_trial_whose_data_is_missing_fails_alone_with_its_cause() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let link = cluster.link().await;
    let mut study = digits_study("no-data", 1, 1);
    study["recipe"]["data"].as_object_mut().unwrap().remove("file");
    study["recipe"]["data"]["object"] = json!({"sha256": "0".repeat(64), "bytes": 1});
    let missing = cluster.start_study(&study).await;
    let good = cluster.start_study(&digits_study("good", 1, 1)).await;
    let history = cluster.until_concluded(&missing).await;
    assert_eq!(history.count("failed"), 1, "not tried again: a retry cannot mend it");
    assert_eq!(cluster.until_concluded(&good).await.count("finished"), 1);
    drop(link);
}

#[tokio::test]
async fn a_trial_that_diverges_fails_and_the_study_goes_on() {
    let cluster = Cluster::start().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let mut study = digits_study("diverges", 4, 3);
    study["space"] = json!({"rate": {"type": "categorical", "choices": [0.01, 0.02, 1e30, 1e35]}});
    study["recipe"]["optimizer"] = json!({"name": "sgd", "learning_rate": "$rate"});
    study["recipe"]["data"]["normalize"] = json!("none");
    let id = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&id).await;
    let shown: Value = serde_json::from_str(&cluster.cli_ok(&["study", "show", id.as_str(), "--json"]).await).unwrap();
    assert_eq!(shown["trials"]["failed"], 2, "{shown}");
    assert_eq!(shown["trials"]["finished"], 2, "{shown}");
    assert_eq!(history.count("offered"), 4, "a configuration that diverges is not tried again");
}

#[tokio::test]
async fn an_embedded_cluster_leaves_no_process_behind_even_when_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("study.json");
    let cluster = folder.path().join("cluster");
    std::fs::write(&file, digits_study("killed", 50, 100_000).to_string()).unwrap();
    let mut command = Command::new(program("regatta"));
    command.args(["run", "--local", "--agents", "2", "--lanes", "1", "--device", "cpu", "--folder"]);
    command.arg(&cluster).arg(&file);
    let mut run = Process::start(command, &folder.path().join("run.log"));
    let parent = run.id();
    let children = until("agents train", || async {
        let children = children_of(parent);
        let trains = |index: usize| {
            std::fs::read_to_string(cluster.join(format!("agent-{index}.log")))
                .is_ok_and(|log| log.contains("trial accepted"))
        };
        (children.len() == 3 && trains(0) && trains(1)).then_some(children)
    })
    .await;
    run.kill();
    until("every child is gone", || async { children.iter().all(|child| !is_alive(*child)).then_some(()) }).await;
}

#[tokio::test]
async fn an_embedded_cluster_that_is_told_to_stop_leaves_no_folder_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("study.json");
    std::fs::write(&file, digits_study("stopped", 50, 100_000).to_string()).unwrap();
    let mut command = Command::new(program("regatta"));
    command.args(["run", "--local", "--agents", "1", "--lanes", "1", "--device", "cpu"]).arg(&file);
    command.env("TMPDIR", folder.path());
    let mut run = Process::start(command, &folder.path().join("run.log"));
    let clusters = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("regatta-")).collect::<Vec<_>>()
    };
    until("its agent trains", || async {
        let log = clusters().first()?.path().join("agent-0.log");
        std::fs::read_to_string(log).is_ok_and(|log| log.contains("trial accepted")).then_some(())
    })
    .await;
    run.terminate();
    assert!(!run.ended().await.success(), "the study did not end");
    assert!(clusters().is_empty());
}

#[tokio::test]
async fn an_embedded_cluster_says_what_remains_of_it_and_a_kept_one_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("study.json");
    let cluster = folder.path().join("cluster");
    std::fs::write(&file, digits_study("kept", 1, 1).to_string()).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(program("regatta"));
        command.args(["run", "--local", "--agents", "1", "--lanes", "1", "--device", "cpu"]).arg(&file).args(more);
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), told)
    };
    let kept = cluster.to_str().unwrap();
    let (printed, told) = run(&["--folder", kept]);
    assert!(told.contains(kept) && told.contains("publisher"), "{told}");
    let first = printed.split_whitespace().find(|word| word.starts_with("kept-")).unwrap();
    run(&["--folder", kept, "--earlier", first]);
    let (_, told) = run(&[]);
    assert!(told.contains("--folder"), "{told}");
    assert!(run(&["--json"]).1.is_empty());
}

#[tokio::test]
async fn an_embedded_cluster_that_loses_a_part_tells_how_that_ended_and_ends() {
    // An agent is started again three times.
    for (part, losses) in [("nats-server", 1), ("regatta-agent", 4)] {
        let folder = tempfile::tempdir().unwrap();
        let (mut run, cluster) = embedded(folder.path(), &digits_study("broken", 50, 100_000));
        let parent = run.id();
        until("the agent trains", || async { trains(&cluster, "agent-0.log").then_some(()) }).await;
        until("the study is followed", || async { run.log().contains("has begun").then_some(()) }).await;
        let children = children_of(parent);
        for _ in 0..losses {
            let victim = until("the part is there", || async { child_called(parent, part) }).await;
            kill(victim);
            until("it is gone", || async { (!is_alive(victim)).then_some(()) }).await;
        }
        assert!(!run.ended().await.success(), "{}", run.log());
        // A signal that nobody else sends: only the part's own status tells of it.
        assert!(
            run.log().contains(part.trim_start_matches("regatta-")) && run.log().contains("SIGKILL"),
            "{}",
            run.log()
        );
        assert!(
            ["validation_accuracy", "0 finished", "are kept in"].iter().all(|told| run.log().contains(told)),
            "{}",
            run.log()
        );
        assert!(children.iter().all(|child| !is_alive(*child)), "nothing is left of the cluster");
    }
}

#[tokio::test]
async fn a_study_on_an_embedded_cluster_outlives_its_agent() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, cluster) = embedded(folder.path(), &digits_study("outlives", 2, 60));
    until("the agent trains", || async { trains(&cluster, "agent-0.log").then_some(()) }).await;
    kill(child_called(run.id(), "regatta-agent").unwrap());
    assert!(run.ended().await.success(), "{}", run.log());
    assert!(run.log().contains("is started again: 1 of 3 times") && run.log().contains("2 finished"), "{}", run.log());
    assert!(trains(&cluster, "agent-0-1.log"));
}

/// A study on a cluster of one agent with one lane, which is kept.
fn embedded(folder: &Path, study: &Value) -> (Process, PathBuf) {
    let (file, cluster) = (folder.join("study.json"), folder.join("cluster"));
    std::fs::write(&file, study.to_string()).expect("there is room");
    let mut command = Command::new(program("regatta"));
    command.args(["run", "--local", "--agents", "1", "--lanes", "1", "--device", "cpu", "--folder"]);
    command.arg(&cluster).arg(&file);
    (Process::start(command, &folder.join("run.log")), cluster)
}

fn trains(cluster: &Path, log: &str) -> bool {
    std::fs::read_to_string(cluster.join(log)).is_ok_and(|log| log.contains("trial accepted"))
}

fn child_called(parent: u32, name: &str) -> Option<u32> {
    let is_called =
        |child: &u32| std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name);
    children_of(parent).into_iter().find(is_called)
}

fn kill(process: u32) {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).expect("a process has a number");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("it is ours");
}

/// Processes whose parent this is, as the kernel tells it.
fn children_of(parent: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| status(*pid).is_some_and(|(state, its_parent)| its_parent == parent && state != 'Z'))
        .collect()
}

fn is_alive(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent of a process.
fn status(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[test]
fn a_reader_that_goes_away_ends_the_program_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(program("regatta"));
    command.arg("check").arg(repository().join("examples/digits.yaml")).stdout(writer);
    let output = command.output().unwrap();
    // As of a program that the signal SIGPIPE ended.
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(141), ""));
}
