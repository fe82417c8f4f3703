//! What each role may do on a server that `regatta auth` has set up, and what nobody may.

use std::path::Path;

use regatta_broker::async_nats::jetstream::message::PublishMessage;
use regatta_broker::{Server, async_nats};
use regatta_schemas::api::Endpoint;
use regatta_schemas::roles::Role;
use regatta_schemas::streams::{CHECKPOINTS_BUCKET, DATA_BUCKET, LOG, TRIALS};
use regatta_schemas::{PoolId, StudyId, TenantId, subjects};
use regatta_tests::{Cluster, RawClient, digits_study, program, reach, until};
use serde_json::{Value, json};

/// The secret in a file of `regatta auth`.
fn seed(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("the file is there");
    text.lines().find(|line| line.starts_with("SU")).expect("the file has a seed").to_owned()
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("made by the test")
}

async fn raw(cluster: &Cluster, role: Role) -> RawClient {
    let seed = seed(&cluster.key(&cluster.tenant, role));
    RawClient::connect(cluster.port(), Some(&seed)).await.expect("the key is known")
}

#[tokio::test]
async fn each_role_may_say_what_it_needs_and_nothing_else() {
    use Role::{Agent, Coordinator, Publisher, Sampler, Viewer};
    let cluster = Cluster::start_secured(&[]).await;
    let may_publish: &[(&str, &[Role])] = &[
        ("regatta.v1.trials.default", &[Coordinator]),
        ("regatta.v1.stop.s.1", &[Coordinator]),
        ("regatta.v1.stop.s.all", &[Coordinator]),
        ("regatta.v1.log.leader", &[Coordinator]),
        ("regatta.v1.log.s.1.proposed", &[Coordinator]),
        ("regatta.v1.log.s.1.offered", &[Coordinator]),
        ("regatta.v1.log.s.1.stopped", &[Coordinator]),
        ("regatta.v1.log.s.1.paused", &[Coordinator]),
        ("regatta.v1.log.s.1.concluded", &[Coordinator]),
        ("regatta.v1.log.s.study.study_created", &[Coordinator]),
        ("regatta.v1.log.s.study.study_deleted", &[Coordinator]),
        ("regatta.v1.log.s.1.accepted", &[Coordinator, Agent]),
        ("regatta.v1.log.s.1.measured", &[Coordinator, Agent]),
        ("regatta.v1.log.s.1.released", &[Coordinator, Agent]),
        ("regatta.v1.output.s.1", &[Agent]),
        ("regatta.v1.fleet.default.a", &[Agent]),
        ("regatta.v1.api.study.create", &[Coordinator, Publisher]),
        ("regatta.v1.api.trial.submit", &[Coordinator, Publisher]),
        ("regatta.v1.api.study.stop", &[Coordinator, Publisher]),
        ("regatta.v1.api.study.list", &[Coordinator, Publisher, Viewer]),
        ("regatta.v1.sampler.mine", &[Coordinator]),
        ("_INBOX_coordinator.x", &[]),
        ("$KV.regatta-leader.coordinator", &[Coordinator]),
        ("$O.regatta-snapshots.M.x", &[Coordinator]),
        ("$O.regatta-data.M.x", &[Coordinator, Publisher]),
        ("$O.regatta-models.C.x", &[Coordinator, Publisher]),
        ("$O.regatta-checkpoints.C.x", &[Coordinator, Agent]),
        ("$JS.API.STREAM.CREATE.REGATTA_LOG", &[Coordinator]),
        ("$JS.API.STREAM.UPDATE.REGATTA_LOG", &[Coordinator]),
        ("$JS.API.STREAM.DELETE.REGATTA_LOG", &[Coordinator]),
        ("$JS.API.STREAM.PURGE.REGATTA_LOG", &[Coordinator]),
        ("$JS.API.STREAM.MSG.DELETE.REGATTA_LOG", &[Coordinator]),
        ("$JS.API.CONSUMER.MSG.NEXT.REGATTA_TRIALS.offers-default", &[Coordinator, Agent]),
        ("$JS.ACK.REGATTA_TRIALS.offers-default.1.1.1.1.0", &[Coordinator, Agent]),
        ("$JS.API.CONSUMER.DELETE.REGATTA_TRIALS.offers-default", &[Coordinator]),
        ("$JS.API.CONSUMER.CREATE.REGATTA_TRIALS", &[Coordinator]),
        ("$JS.API.CONSUMER.CREATE.REGATTA_LOG", &[Coordinator, Publisher, Viewer]),
        ("$JS.API.STREAM.MSG.GET.REGATTA_LOG", &[Coordinator, Publisher, Viewer]),
        ("$SYS.REQ.ACCOUNT.PING.CONNZ", &[]),
        ("_INBOX_agent.x", &[]),
        ("anything", &[]),
    ];
    let may_subscribe: &[(&str, &[Role])] = &[
        (">", &[]),
        ("regatta.>", &[]),
        ("_INBOX.>", &[]),
        ("_INBOX_coordinator.>", &[Coordinator]),
        ("_INBOX_agent.>", &[Agent]),
        ("_INBOX_publisher.>", &[Publisher]),
        ("_INBOX_viewer.>", &[Viewer]),
        ("regatta.v1.sampler.mine", &[Sampler]),
        ("regatta.v1.>", &[]),
        ("regatta.v1.api.study.create", &[Coordinator]),
        ("regatta.v1.fleet.*.*", &[Coordinator]),
        ("regatta.v1.stop.s.1", &[Agent]),
        ("regatta.v1.trials.default", &[]),
        ("regatta.v1.log.>", &[]),
        ("$O.regatta-data.>", &[]),
    ];
    for role in Role::ALL {
        let mut client = raw(&cluster, role).await;
        for (subject, allowed) in may_publish {
            let is_refused = client.is_refused_to_publish(subject).await;
            assert_eq!(!is_refused, allowed.contains(&role), "{role} publishes on {subject}");
        }
        for (subject, allowed) in may_subscribe {
            let is_refused = client.is_refused_to_subscribe(subject).await;
            assert_eq!(!is_refused, allowed.contains(&role), "{role} listens on {subject}");
        }
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_that_the_server_knows() {
    let cluster = Cluster::start_secured(&[]).await;
    assert!(RawClient::connect(cluster.port(), None).await.is_none());
    assert!(reach(Server::at(&cluster.url())).await.is_err());
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    assert!(RawClient::connect(cluster.port(), Some(&stranger)).await.is_none());
    let known = seed(&cluster.key(&cluster.tenant, Role::Viewer));
    assert!(RawClient::connect(cluster.port(), Some(&known)).await.is_some());
}

#[tokio::test]
async fn a_study_runs_with_the_key_of_each_part_and_a_viewer_sees_it() {
    let cluster = Cluster::start_secured(&["--pool", "default"]).await;
    let coordinator = cluster.coordinator(&[]);
    let agents = [cluster.agent(&[]), cluster.agent(&[])];
    let mut study = digits_study("secured", 9, 9);
    study["stopper"] = json!({"name": "asha", "eta": 3, "min_resource": 1, "mode": "promote"});
    let id = cluster.start_study(&study).await;
    let history = cluster.until_concluded(&id).await;
    assert_eq!(history.proposed().len(), 9);
    for process in [&coordinator, &agents[0], &agents[1]] {
        assert!(!process.log().contains("Violation"), "the server refused something:\n{}", process.log());
    }
    let model = cluster.folder().join("model.onnx").display().to_string();
    let best = history.0.iter().find_map(|entry| match &entry.record {
        regatta_schemas::log::Record::Finished(_) => entry.trial,
        _ => None,
    });
    let best = best.expect("a trial finished").to_string();
    let id = id.as_str();
    for args in [
        &["study", "list"][..],
        &["study", "show", id],
        &["trial", "list", id],
        &["trial", "export", id, &best, "-o", &model],
        &["logs", id],
        &["fleet"],
    ] {
        let output = cluster.cli_as(Role::Viewer, args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!cluster.cli_as(Role::Viewer, &["study", "delete", id]).await.status.success());
    assert!(cluster.cli_ok(&["study", "list"]).await.contains(id));
    cluster.cli_ok(&["study", "delete", id]).await;
    assert!(!cluster.cli_ok(&["study", "list"]).await.contains(id));
}

#[tokio::test]
async fn tenants_see_nothing_of_each_other() {
    let mut cluster = Cluster::start_secured(&["--tenant", "one=2G", "--tenant", "two=2G"]).await;
    cluster.tenant = tenant("two");
    let _coordinator = cluster.coordinator(&[]);
    let id = cluster.start_study(&digits_study("theirs", 1, 1)).await;
    cluster.tenant = tenant("one");
    // Of the other tenant's stream not even the strongest role has a trace, and nobody there answers.
    let link = cluster.link().await;
    assert!(link.jetstream.get_stream(LOG.name).await.is_err());
    let publisher = cluster.link_as(Role::Publisher).await;
    let asked = publisher.client.request(subjects::api(Endpoint::StudyList), "{}".into()).await;
    assert!(asked.is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders));
    let _coordinator = cluster.coordinator(&[]);
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["study", "list", "--json"]).await).unwrap();
    assert_eq!(listed["studies"], json!([]));
    assert!(!cluster.cli(&["study", "stop", id.as_str()]).await.status.success());
    let objects = regatta_broker::Objects::new(&publisher, DATA_BUCKET);
    let sha256 = sha256_of_digits();
    assert!(matches!(objects.get(&sha256, u64::MAX).await, Err(regatta_broker::BrokerError::NoObject { .. })));
    cluster.tenant = tenant("two");
    let objects = regatta_broker::Objects::new(&cluster.link_as(Role::Publisher).await, DATA_BUCKET);
    assert!(objects.get(&sha256, u64::MAX).await.is_ok());
    assert!(cluster.cli_ok(&["study", "list"]).await.contains(id.as_str()));
}

fn sha256_of_digits() -> String {
    let digits =
        std::fs::read(regatta_tests::repository().join("examples/data/digits.npz")).expect("the file is there");
    regatta_broker::sha256_hex(&digits)
}

#[tokio::test]
async fn what_an_agent_is_not_allowed_to_decide_changes_nothing_by_a_detour() {
    let cluster = Cluster::start_secured(&[]).await;
    let _coordinator = cluster.coordinator(&[]);
    let study: StudyId = cluster.start_study(&digits_study("detour", 2, 2)).await;
    let rogue = cluster.link_as(Role::Agent).await;
    // A decision on the subject of a report.
    let decision = golden("record.study_concluded").to_string();
    for place in ["study", "0"] {
        let message = PublishMessage::build().payload(decision.clone().into());
        let subject = format!("regatta.v1.log.{study}.{place}.measured");
        rogue.jetstream.send_publish(subject, message).await.unwrap().await.unwrap();
    }
    // The server's answer to a question that it may ask, on subjects on which it may say nothing.
    let stored = format!("$O.{CHECKPOINTS_BUCKET}.M.rogue");
    let targets = [
        format!("regatta.v1.log.{study}.study.study_concluded"),
        subjects::offers(&PoolId::default()),
        subjects::stop_study(&study),
    ];
    let link = cluster.link().await;
    for (target, payload) in targets.iter().zip([decision, an_offer(), a_stop()]) {
        let message = PublishMessage::build().payload(payload.into());
        rogue.jetstream.send_publish(stored.clone(), message).await.unwrap().await.unwrap();
        let question = format!("$JS.API.DIRECT.GET.OBJ_{CHECKPOINTS_BUCKET}.{stored}");
        rogue.client.publish_with_reply(question, target.clone(), "".into()).await.unwrap();
        let stream = if target.contains(".log.") {
            LOG.name
        } else if target.contains(".trials.") {
            TRIALS.name
        } else {
            "REGATTA_STOPS"
        };
        until("the server has copied the message", || async {
            let stream = link.jetstream.get_stream(stream).await.ok()?;
            stream.get_last_raw_message_by_subject(target).await.ok()
        })
        .await;
    }
    let agent = cluster.agent(&[]);
    let history = cluster.until_log(&study, "both trials finish", |history| history.count("finished") == 2).await;
    assert_eq!(history.proposed().len(), 2);
    let shown: Value =
        serde_json::from_str(&cluster.cli_ok(&["study", "show", study.as_str(), "--json"]).await).unwrap();
    assert_eq!(shown["trials"]["finished"], 2, "{shown}");
    assert!(!agent.log().contains("study=rogue"), "{}", agent.log());
}

/// An offer that an agent would take, if it came from the coordinator.
fn an_offer() -> String {
    let mut offer = golden("offer");
    offer["study"] = json!("rogue");
    offer.to_string()
}

/// A stop that an agent would obey.
fn a_stop() -> String {
    json!({"type": "stop", "reason": golden("stop")["reason"]}).to_string()
}

fn golden(name: &str) -> Value {
    let path = regatta_tests::repository().join(format!("schemas/golden/{name}.json"));
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("made by the test")
}

#[tokio::test]
async fn a_key_is_replaced_while_everything_runs() {
    let cluster = Cluster::start_secured(&[]).await;
    let mut coordinator = cluster.coordinator(&[]);
    let mut agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("rotated", 2, 2)).await;
    cluster.until_concluded(&id).await;
    let keys = cluster.keys().display().to_string();
    for role in [Role::Agent, Role::Coordinator] {
        let old = seed(&cluster.key(&cluster.tenant, role));
        cluster.auth(&["rotate", &keys, role.name()]);
        let new = seed(&cluster.key(&cluster.tenant, role));
        assert_ne!(old, new);
        cluster.reload_nats();
        until("the new key is known", || RawClient::connect(cluster.port(), Some(&new))).await;
        assert!(RawClient::connect(cluster.port(), Some(&old)).await.is_some(), "the old key is known still");
        cluster.auth(&["rotate", &keys, role.name(), "--retire"]);
        cluster.reload_nats();
        until("the old key is forgotten", || async {
            RawClient::connect(cluster.port(), Some(&old)).await.is_none().then_some(())
        })
        .await;
    }
    let id = cluster.start_study(&digits_study("after", 2, 2)).await;
    cluster.until_concluded(&id).await;
    assert!(coordinator.is_running() && agent.is_running());
}

#[tokio::test]
async fn with_a_certificate_the_server_speaks_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("ca"), authority.certificate.pem()).unwrap();
    authority.sign("server", &path("cert"), &path("key"));
    authority.sign("client", &path("client-cert"), &path("client-key"));
    let mut cluster = Cluster::start_secured(&["--server-cert", &path("cert"), "--server-key", &path("key")]).await;
    assert!(reach(cluster.server(Role::Viewer)).await.is_err(), "a server of an unknown authority");
    cluster.tls_ca = Some(path("ca").into());
    let _coordinator = cluster.coordinator(&[]);
    let _agent = cluster.agent(&[]);
    let id = cluster.start_study(&digits_study("tls", 1, 1)).await;
    cluster.until_concluded(&id).await;

    let options = ["--server-cert", &path("cert"), "--server-key", &path("key"), "--client-ca", &path("ca")];
    let mut mutual = Cluster::start_secured(&options).await;
    mutual.tls_ca = cluster.tls_ca;
    assert!(reach(mutual.server(Role::Viewer)).await.is_err(), "a client without a certificate");
    let (tls_cert, tls_key) = (Some(path("client-cert").into()), Some(path("client-key").into()));
    assert!(reach(Server { tls_cert, tls_key, ..mutual.server(Role::Viewer) }).await.is_ok());
}

/// An authority for one test.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("made by the test");
        let mut params = rcgen::CertificateParams::new([]).expect("made by the test");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("made by the test");
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, certificate_file: &str, key_file: &str) {
        let key = rcgen::KeyPair::generate().expect("made by the test");
        let params =
            rcgen::CertificateParams::new([name.to_owned(), "127.0.0.1".to_owned()]).expect("made by the test");
        std::fs::write(certificate_file, params.signed_by(&key, &self.issuer).expect("made by the test").pem())
            .expect("made by the test");
        std::fs::write(key_file, key.serialize_pem()).expect("made by the test");
    }
}

#[tokio::test]
async fn an_embedded_cluster_lets_nobody_else_in() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = folder.path().join("cluster");
    let study = folder.path().join("study.json");
    std::fs::write(&study, digits_study("embedded", 50, 100_000).to_string()).unwrap();
    let mut command = std::process::Command::new(program("regatta"));
    command.args(["run", "--local", "--agents", "1", "--lanes", "1", "--device", "cpu", "--folder"]);
    command.arg(&cluster).arg(&study);
    let _run = regatta_tests::Process::start(command, &folder.path().join("run.log"));
    let log = cluster.join("agent-0.log");
    until("an agent trains", || async {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("trial accepted")).then_some(())
    })
    .await;
    let port = std::fs::read_dir(&cluster).unwrap().flatten().find_map(|entry| {
        let is_ports = entry.path().extension().is_some_and(|extension| extension == "ports");
        let ports: Value = serde_json::from_slice(&std::fs::read(entry.path()).ok().filter(|_| is_ports)?).ok()?;
        ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()
    });
    assert!(RawClient::connect(port.expect("the server told its port"), None).await.is_none());
}

#[tokio::test]
async fn a_password_in_a_url_is_not_told() {
    let mut command = tokio::process::Command::new(program("regatta"));
    command.env("REGATTA_NATS", "nats://ada:hunter2@127.0.0.1:1,nats://127.0.0.1:x").args(["study", "list"]);
    let failed = command.output().await.unwrap();
    assert!(!failed.status.success());
    let helped = command.arg("--help").output().await.unwrap();
    for output in [failed, helped] {
        let text = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&text).contains("hunter2"));
    }
}
