//! Studies whose configurations come from somebody else's program, over a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use regatta_broker::Link;
use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::log::{Lineage, Proposed};
use regatta_schemas::reasons::{AskFailure, Outcome};
use regatta_schemas::roles::Role;
use regatta_schemas::{SamplerId, StudyId, decode, encode, subjects};
use regatta_tests::{Cluster, History, digits_study};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// What a sampler sends back; None: nothing.
type Answer = Box<dyn Fn(&Ask) -> Option<Vec<u8>> + Send>;

/// Serves until its handle is dropped.
struct Sampler {
    serving: JoinHandle<()>,
    asked: Arc<Mutex<Vec<Ask>>>,
}

impl Sampler {
    async fn start(link: &Link, service: &str, answer: Answer) -> Self {
        let subject = subjects::sampler(&SamplerId::new(service).expect("made by the test"));
        let mut questions = link.client.subscribe(subject).await.expect("the sampler may listen");
        link.client.flush().await.expect("the server is there");
        let (client, asked) = (link.client.clone(), Arc::new(Mutex::new(Vec::new())));
        let heard = asked.clone();
        let serving = tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                let ask: Ask = decode(&question.payload).expect("the coordinator asks rightly");
                if let (Some(answer), Some(reply)) = (answer(&ask), question.reply) {
                    client.publish(reply, answer.into()).await.expect("the server is there");
                }
                heard.lock().await.push(ask);
            }
        });
        Self { serving, asked }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn external_study(name: &str, service: &str, trials: u32) -> Value {
    let mut study = digits_study(name, trials, 1);
    study["sampler"] = json!({"name": "external", "service": service, "timeout_s": 1});
    study
}

fn rate_of(index: u64) -> f64 {
    0.001 * (index + 1) as f64
}

fn good(ask: &Ask) -> Option<Vec<u8>> {
    let params = (!ask.more).then(|| json!({"rate": rate_of(ask.index)}));
    Some(encode(&Suggestion { params, since: None }))
}

/// Of each configuration, in the order of the trials, its rate and why it is the fallback's.
fn sampled(history: &History) -> Vec<(f64, Option<AskFailure>)> {
    let of = |proposed: &&Proposed| match &proposed.lineage {
        Lineage::Sampled { fallback, .. } => {
            (proposed.params["rate"].as_f64().expect("a rate is a number"), fallback.clone())
        }
        other => panic!("{other:?}"),
    };
    history.proposed().values().map(of).collect()
}

#[tokio::test]
async fn a_sampler_with_the_key_of_its_role_proposes_and_is_told_what_came_of_it() {
    let cluster = Cluster::start_secured(&[]).await;
    let sampler = Sampler::start(&cluster.link_as(Role::Sampler).await, "mine", Box::new(good)).await;
    let coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let id = cluster.start_study(&external_study("asked", "mine", 4)).await;
    let history = cluster.until_concluded(&id).await;
    let expected: Vec<_> = (0..4).map(|index| (rate_of(index), None)).collect();
    assert_eq!(sampled(&history), expected, "{}", coordinator.log());
    let asked = sampler.asked.lock().await;
    let ended = asked.iter().flat_map(|ask| &ask.trials).filter(|trial| trial.outcome == Some(Outcome::Finished));
    let ended: Vec<_> = ended.collect();
    assert!(ended.iter().any(|trial| trial.index == Some(0)), "{asked:?}");
    assert!(ended.iter().all(|trial| trial.points.iter().any(|point| point.metrics["validation_accuracy"] > 0.0)));
}

#[tokio::test]
async fn whatever_a_sampler_does_the_study_goes_on() {
    let cluster = Cluster::start().await;
    let link = cluster.link().await;
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&["--lanes", "2"]);
    let out_of_bounds = |_: &Ask| Some(br#"{"params": {"rate": 7.0}}"#.to_vec());
    let too_large = |ask: &Ask| {
        let mut answer = good(ask)?;
        answer.resize(LIMITS.suggestion_bytes_max + 1, b' ');
        Some(answer)
    };
    let rows: [(&str, Option<Answer>); 6] = [
        ("absent", None),
        ("timed_out", Some(Box::new(|_| None))),
        ("unfit", Some(Box::new(out_of_bounds))),
        ("answer_too_large", Some(Box::new(too_large))),
        ("unreadable", Some(Box::new(|_| Some(b"\xffnonsense".to_vec())))),
        ("empty", Some(Box::new(|_| Some(b"{}".to_vec())))),
    ];
    let mut studies = Vec::new();
    let mut samplers = Vec::new();
    for (cause, answer) in rows {
        if let Some(answer) = answer {
            samplers.push(Sampler::start(&link, cause, answer).await);
        }
        studies.push((cause, cluster.start_study(&external_study(cause, cause, 2)).await));
    }
    let mut random = digits_study("random", 2, 1);
    random["sampler"] = json!("random");
    let random = cluster.start_study(&random).await;
    let random = cluster.until_concluded(&random).await;
    let rates: Vec<f64> = sampled(&random).into_iter().map(|(rate, _)| rate).collect();
    for (cause, id) in studies {
        let history = cluster.until_concluded(&id).await;
        assert_eq!(history.count("finished"), 2, "{cause}");
        for ((rate, failure), expected) in sampled(&history).into_iter().zip(&rates) {
            assert_eq!(json!(failure)["cause"], cause);
            assert_eq!(rate, *expected, "{cause}: as random search, the fallback, proposes");
        }
    }
}

#[tokio::test]
async fn a_coordinator_that_is_killed_before_the_answer_asks_again() {
    let cluster = Cluster::start().await;
    let link = cluster.link().await;
    let mut first = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let (heard, mut questions) = mpsc::unbounded_channel();
    let is_awake = Arc::new(AtomicBool::new(false));
    let awake = is_awake.clone();
    let answer = move |ask: &Ask| {
        heard.send(ask.clone()).expect("the test listens");
        if awake.load(Ordering::SeqCst) { good(ask) } else { None }
    };
    let _sampler = Sampler::start(&link, "slow", Box::new(answer)).await;
    let mut study = external_study("killed", "slow", 2);
    study["sampler"]["timeout_s"] = json!(100);
    let id: StudyId = cluster.start_study(&study).await;
    let asked = tokio::time::timeout(Duration::from_secs(60), questions.recv()).await.expect("it asks").unwrap();
    first.kill();
    is_awake.store(true, Ordering::SeqCst);
    let _second = cluster.coordinator(&[]);
    let again = tokio::time::timeout(Duration::from_secs(60), questions.recv()).await.expect("it asks").unwrap();
    assert_eq!(again, asked);
    let history = cluster.until_concluded(&id).await;
    assert_eq!(sampled(&history), [(rate_of(0), None), (rate_of(1), None)]);
}
