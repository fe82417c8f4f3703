use std::collections::BTreeMap;

use regatta_schemas::log::ReportKey;
use regatta_schemas::reasons::StopReason;
use regatta_schemas::recipe::Recipe;
use regatta_schemas::{Attempt, TrialId};
use serde_json::json;

use super::*;

fn recipe() -> Recipe {
    serde_json::from_value(serde_json::json!({
        "data": {"file": "x.npz", "format": "npz", "task": "classification", "target": "y"},
        "model": {"family": "mlp", "hidden": [4]},
        "loss": "cross_entropy",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "batch_size": 8
    }))
    .unwrap()
}

fn offer(trial: u32, attempt: u32) -> Box<Offer> {
    Box::new(Offer {
        study: study(),
        trial: TrialId(trial),
        attempt: Attempt(attempt),
        term: Term(5),
        params: BTreeMap::new(),
        recipe: recipe(),
        resource: 3,
        until: None,
        seed: 1,
        resume: None,
        objective: None,
        labels: BTreeMap::new(),
    })
}

fn study() -> StudyId {
    StudyId::new("s").unwrap()
}

fn me() -> AgentId {
    AgentId::new("me").unwrap()
}

fn agent(lanes: u32) -> Agent {
    Agent::new(
        Settings {
            agent: me(),
            lanes,
            device: "cpu".into(),
            programs: BTreeSet::from(["train".to_owned()]),
            beat_every: Duration::from_secs(1),
            batch_for: Duration::from_millis(100),
        },
        Now(0),
    )
}

fn point(resource: u32) -> Point {
    Point { step: 0, resource, elapsed_s: 0.0, metrics: BTreeMap::new() }
}

fn stop(attempt: Option<u32>, only: Option<&str>) -> Stop {
    Stop {
        attempt: attempt.map(Attempt),
        agent: only.map(|id| AgentId::new(id).unwrap()),
        term: Term(0),
        keep: false,
        reason: StopReason::Superseded,
    }
}

/// What the machine commands, one word each; beats and their timing have tests of their own.
fn commands(agent: &mut Agent) -> Vec<String> {
    std::iter::from_fn(|| agent.next_command())
        .filter(|command| !matches!(command, Command::Beat(_)))
        .map(|command| match command {
            Command::Pull => "pull".into(),
            Command::Accept { ticket, record, .. } => format!("accept {} {}", ticket.0, key(&record)),
            Command::Return { ticket, why } => format!("return {} for {} ms", ticket.0, why.wait().as_millis()),
            Command::Publish { record, .. } => key(&record),
            Command::Start { lane, offer } => format!("start {} on {}", offer.trial, lane.0),
            Command::Interrupt { lane, keep } => format!("interrupt {}{}", lane.0, if keep { " keep" } else { "" }),
            Command::Clear { lane } => format!("clear {}", lane.0),
            Command::Beat(_) => unreachable!("filtered out"),
            Command::Exit => "exit".into(),
        })
        .collect()
}

fn key(record: &Record) -> String {
    let ReportKey { attempt, sequence, agent, .. } = record.key().expect("an agent writes no other records");
    assert_eq!(*agent, me());
    let more = match record {
        Record::Measured(measured) => format!(" {}", measured.points.len()),
        Record::Released(released) => format!(" {:?}", released.reason),
        _ => String::new(),
    };
    format!("{} {attempt}.{sequence}{more}", record.kind())
}

fn receive(agent: &mut Agent, ticket: u64, trial: u32, attempt: u32) {
    let offer = offer(trial, attempt);
    agent.handle(Now(1), Event::OfferReceived { ticket: Ticket(ticket), offer, deliveries: 1 });
}

fn ended(lane: u32, ending: Ending) -> Event {
    Event::LaneEnded { lane: Lane(lane), ending }
}

fn finished() -> Ending {
    Ending::Finished { resource: 3, elapsed_s: 1.0 }
}

#[test]
fn asks_for_one_offer_at_a_time_and_only_while_a_lane_is_free() {
    let mut agent = agent(2);
    assert_eq!(commands(&mut agent), ["pull"]);
    receive(&mut agent, 7, 0, 1);
    assert_eq!(commands(&mut agent), ["accept 7 accepted 1.0", "start 0 on 0", "pull"]);
    agent.handle(Now(2), Event::PullEnded);
    assert_eq!(commands(&mut agent), ["pull"]);
    receive(&mut agent, 8, 1, 1);
    assert_eq!(commands(&mut agent), ["accept 8 accepted 1.0", "start 1 on 1"]);
    agent.handle(Now(3), ended(0, finished()));
    assert_eq!(commands(&mut agent), ["finished 1.1", "clear 0", "pull"]);
}

#[test]
fn an_offer_without_a_free_lane_goes_back_to_the_queue() {
    let mut agent = agent(1);
    receive(&mut agent, 1, 0, 1);
    commands(&mut agent);
    receive(&mut agent, 2, 1, 1);
    assert_eq!(commands(&mut agent), ["return 2 for 0 ms"]);
}

#[test]
fn a_program_that_is_not_allowed_is_left_to_other_agents_a_few_times() {
    let receive = |program: &str, deliveries: u64| {
        let mut agent = agent(1);
        commands(&mut agent);
        let recipe = serde_json::from_value(json!({"command": {"program": program}})).unwrap();
        let offer = Box::new(Offer { recipe, ..*offer(0, 1) });
        agent.handle(Now(1), Event::OfferReceived { ticket: Ticket(1), offer, deliveries });
        commands(&mut agent)
    };
    let taken = ["accept 1 accepted 1.0", "start 0 on 0"];
    assert_eq!(receive("train", 1), taken);
    assert_eq!(receive("other", 1), ["return 1 for 500 ms", "pull"]);
    assert_eq!(receive("other", FOREIGN_DELIVERIES_MAX - 1), ["return 1 for 500 ms", "pull"]);
    assert_eq!(receive("other", FOREIGN_DELIVERIES_MAX), taken);
}

#[test]
fn an_agent_whose_machine_fails_trials_leaves_the_next_to_others_for_ever_longer() {
    let failed = || Ending::Failed { cause: FailCause::Device, detail: String::new() };
    let mut agent = agent(2);
    receive(&mut agent, 1, 1, 1);
    commands(&mut agent);
    agent.handle(Now(100), ended(0, failed()));
    assert_eq!(commands(&mut agent), ["failed 1.1", "clear 0"]);
    agent.handle(Now(200), Event::OfferReceived { ticket: Ticket(2), offer: offer(2, 1), deliveries: 1 });
    assert_eq!(commands(&mut agent), ["return 2 for 0 ms"], "it was asked for before");
    agent.handle(Now(1_099), Event::TimePassed);
    assert!(commands(&mut agent).is_empty());
    assert_eq!(agent.next_deadline(), Now(1_100));
    agent.handle(Now(1_100), Event::TimePassed);
    assert_eq!(commands(&mut agent), ["pull"]);

    agent.handle(Now(1_200), Event::OfferReceived { ticket: Ticket(3), offer: offer(3, 1), deliveries: 1 });
    commands(&mut agent);
    agent.handle(Now(1_300), ended(0, failed()));
    agent.handle(Now(1_300), Event::PullEnded);
    agent.handle(Now(3_299), Event::TimePassed);
    assert_eq!(commands(&mut agent), ["failed 1.1", "clear 0"], "twice as long");
    agent.handle(Now(3_300), Event::TimePassed);
    assert_eq!(commands(&mut agent), ["pull"]);

    agent.handle(Now(3_400), Event::OfferReceived { ticket: Ticket(4), offer: offer(4, 1), deliveries: 1 });
    agent.handle(Now(3_500), ended(0, finished()));
    agent.handle(Now(3_500), Event::PullEnded);
    assert_eq!(commands(&mut agent).last().unwrap(), "pull", "one that ends well ends the rests");
}

#[test]
fn an_offer_that_comes_twice_is_answered_twice_and_trained_once() {
    let mut agent = agent(2);
    receive(&mut agent, 1, 0, 1);
    commands(&mut agent);
    receive(&mut agent, 2, 0, 1);
    assert_eq!(commands(&mut agent), ["accept 2 accepted 1.0", "pull"]);
    agent.handle(Now(5), ended(0, finished()));
    commands(&mut agent);
    receive(&mut agent, 3, 0, 1);
    assert_eq!(commands(&mut agent), ["accept 3 accepted 1.0", "pull"]);
    receive(&mut agent, 4, 0, 2);
    assert_eq!(commands(&mut agent), ["accept 4 accepted 2.0", "start 0 on 0", "pull"]);
}

#[test]
fn an_attempt_that_the_log_forgot_ends_before_its_namesake_begins() {
    let mut agent = agent(2);
    receive(&mut agent, 1, 0, 1);
    commands(&mut agent);
    let receive_namesake = |agent: &mut Agent, ticket: u64| {
        let offer = Box::new(Offer { term: Term(6), ..*offer(0, 1) });
        agent.handle(Now(2), Event::OfferReceived { ticket: Ticket(ticket), offer, deliveries: 1 });
    };
    receive_namesake(&mut agent, 2);
    assert_eq!(commands(&mut agent), ["interrupt 0", "return 2 for 500 ms", "pull"]);
    receive_namesake(&mut agent, 3);
    assert_eq!(commands(&mut agent), ["return 3 for 500 ms", "pull"]);
    agent.handle(Now(3), ended(0, Ending::Interrupted { resource: 1 }));
    let terms = |agent: &mut Agent| {
        let records = std::iter::from_fn(|| agent.next_command()).filter_map(|command| match command {
            Command::Accept { record, .. } | Command::Publish { record, .. } => record.key().map(|key| key.term),
            _ => None,
        });
        records.collect::<Vec<_>>()
    };
    assert_eq!(terms(&mut agent), [Term(5)], "it is given back in its own term");
    receive_namesake(&mut agent, 4);
    assert_eq!(terms(&mut agent), [Term(6)]);
    let stop = Stop { term: Term(5), ..stop(Some(1), None) };
    agent.handle(Now(4), Event::StopHeard { study: study(), trial: Some(TrialId(0)), stop });
    assert_eq!(commands(&mut agent), Vec::<String>::new(), "the other one was meant");
}

#[test]
fn the_first_point_goes_at_once_and_those_soon_after_share_a_message() {
    let mut agent = agent(1);
    receive(&mut agent, 1, 0, 1);
    commands(&mut agent);
    let measure = |agent: &mut Agent, now: u64, resource: u32| {
        agent.handle(Now(now), Event::LaneMeasured { lane: Lane(0), point: point(resource) });
    };
    measure(&mut agent, 10, 1);
    assert_eq!(commands(&mut agent), ["measured 1.1 1"]);
    measure(&mut agent, 20, 2);
    measure(&mut agent, 30, 3);
    assert_eq!(commands(&mut agent), Vec::<String>::new());
    assert_eq!(agent.next_deadline(), Now(110));
    agent.handle(Now(110), Event::TimePassed);
    assert_eq!(commands(&mut agent), ["measured 1.2 2"]);
}

#[test]
fn a_full_message_does_not_wait() {
    let mut agent = agent(1);
    receive(&mut agent, 1, 0, 1);
    commands(&mut agent);
    for resource in 0..=LIMITS.points_per_message_max {
        let point = point(u32::try_from(resource).unwrap());
        agent.handle(Now(10), Event::LaneMeasured { lane: Lane(0), point });
    }
    assert_eq!(commands(&mut agent), ["measured 1.1 1", "measured 1.2 64"]);
}

#[test]
fn points_go_before_the_end_of_their_trial() {
    let mut agent = agent(1);
    receive(&mut agent, 1, 0, 1);
    for resource in 1..=2 {
        agent.handle(Now(10), Event::LaneMeasured { lane: Lane(0), point: point(resource) });
    }
    commands(&mut agent);
    agent.handle(Now(11), ended(0, finished()));
    assert_eq!(commands(&mut agent), ["measured 1.2 1", "finished 1.3", "clear 0", "pull"]);
}

#[test]
fn a_stop_interrupts_once_and_only_whom_it_means() {
    let rows = [
        ("its trial", Some(0), stop(None, None), true),
        ("all of its study", None, stop(None, None), true),
        ("its attempt", Some(0), stop(Some(2), None), true),
        ("an older attempt", Some(0), stop(Some(1), None), false),
        ("another trial", Some(1), stop(None, None), false),
        ("this agent", Some(0), stop(Some(2), Some("me")), true),
        ("another agent", Some(0), stop(Some(2), Some("you")), false),
    ];
    for (meaning, trial, stop, is_obeyed) in rows {
        let mut agent = agent(1);
        receive(&mut agent, 1, 0, 2);
        commands(&mut agent);
        for _ in 0..2 {
            let (study, trial, stop) = (study(), trial.map(TrialId), stop.clone());
            agent.handle(Now(5), Event::StopHeard { study, trial, stop });
        }
        let expected: &[&str] = if is_obeyed { &["interrupt 0"] } else { &[] };
        assert_eq!(commands(&mut agent), expected, "{meaning}");
    }
}

#[test]
fn a_stop_that_keeps_has_a_checkpoint_made_where_the_recipe_wants_one_at_the_end() {
    for (at_end, expected) in [(true, "interrupt 0 keep"), (false, "interrupt 0")] {
        let mut agent = agent(1);
        let mut offer = offer(0, 1);
        let Recipe::Training(recipe) = &mut offer.recipe else { panic!("a training") };
        recipe.checkpoint.at_end = at_end;
        agent.handle(Now(1), Event::OfferReceived { ticket: Ticket(1), offer, deliveries: 1 });
        commands(&mut agent);
        for keep in [true, false] {
            let stop = Stop { keep, ..stop(None, None) };
            agent.handle(Now(5), Event::StopHeard { study: study(), trial: Some(TrialId(0)), stop });
        }
        assert_eq!(commands(&mut agent), [expected], "the first stop counts");
    }
}

#[test]
fn an_obeyed_stop_releases_the_trial() {
    let mut agent = agent(1);
    receive(&mut agent, 1, 0, 1);
    agent.handle(Now(5), Event::StopHeard { study: study(), trial: None, stop: stop(None, None) });
    commands(&mut agent);
    agent.handle(Now(6), ended(0, Ending::Interrupted { resource: 1 }));
    assert_eq!(commands(&mut agent), ["released 1.1 Stopped", "clear 0", "pull"]);
}

#[test]
fn the_end_waits_for_a_checkpoint_on_its_way() {
    let stored = Checkpoint { object: "o".into(), bytes: 1, step: 1, resource: 1, elapsed_ms: 0 };
    for (outcome, expected) in [
        (
            Event::CheckpointStored { lane: Lane(0), checkpoint: stored },
            vec!["checkpointed 1.1", "finished 1.2", "clear 0", "pull"],
        ),
        (Event::CheckpointLost { lane: Lane(0) }, vec!["finished 1.1", "clear 0", "pull"]),
    ] {
        let mut agent = agent(1);
        receive(&mut agent, 1, 0, 1);
        commands(&mut agent);
        agent.handle(Now(5), Event::CheckpointBegun { lane: Lane(0) });
        agent.handle(Now(6), ended(0, finished()));
        assert_eq!(commands(&mut agent), Vec::<String>::new());
        agent.handle(Now(7), outcome);
        assert_eq!(commands(&mut agent), expected);
    }
}

#[test]
fn draining_keeps_what_runs_takes_nothing_more_and_exits_when_empty() {
    let mut agent = agent(2);
    receive(&mut agent, 1, 0, 1);
    commands(&mut agent);
    agent.handle(Now(5), Event::DrainRequested);
    assert_eq!(commands(&mut agent), ["interrupt 0 keep"]);
    receive(&mut agent, 2, 1, 1);
    assert_eq!(commands(&mut agent), ["return 2 for 0 ms"]);
    agent.handle(Now(6), ended(0, Ending::Interrupted { resource: 2 }));
    assert_eq!(commands(&mut agent), ["released 1.1 Draining", "clear 0", "exit"]);
}

#[test]
fn an_idle_agent_that_drains_exits_at_once() {
    let mut agent = agent(1);
    commands(&mut agent);
    agent.handle(Now(5), Event::DrainRequested);
    assert_eq!(commands(&mut agent), ["exit"]);
}

#[test]
fn beats_every_second_with_the_leases_it_holds() {
    let mut agent = agent(2);
    let beats = |agent: &mut Agent| -> Vec<Beat> {
        std::iter::from_fn(|| agent.next_command())
            .filter_map(|command| match command {
                Command::Beat(beat) => Some(beat),
                _ => None,
            })
            .collect()
    };
    agent.handle(Now(0), Event::TimePassed);
    assert_eq!(beats(&mut agent).len(), 1);
    receive(&mut agent, 1, 4, 2);
    agent.handle(Now(999), Event::TimePassed);
    assert_eq!(beats(&mut agent).len(), 0);
    assert_eq!(agent.next_deadline(), Now(1_000));
    agent.handle(Now(1_000), Event::TimePassed);
    let beat = beats(&mut agent).remove(0);
    assert_eq!(beat.lanes, 2);
    assert_eq!(beat.leases, [Held { study: study(), trial: TrialId(4), attempt: Attempt(2) }]);
}
