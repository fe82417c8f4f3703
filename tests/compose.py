"""Strikes the containers of compose.yaml at random, from a seed, while a study runs; then looks whether anything is amiss.

Started by scripts/test-compose, which brings the containers up: two coordinators, three agents, one broker.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

TRIALS = int(os.environ["TRIALS"])
EPOCHS = 81
FAULTS = int(os.environ.get("FAULTS", "12"))
LEASE_S = 5
LINE = ["docker", "compose", "run", "--rm", "--no-TTY"]


def docker(*words):
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"test-compose: docker {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.split()


def containers(service):
    return docker("compose", "ps", "--quiet", service)


def revive(container, after_s=0.0):
    time.sleep(after_s)
    docker("start", container)


def killed(container):
    docker("kill", "--signal", "KILL", container)
    revive(container, 0.5)


def drained(container):
    docker("stop", "--timeout", "60", container)
    revive(container)


def paused(container):
    docker("pause", container)
    time.sleep(2 * LEASE_S)
    docker("unpause", container)


def cut_off(container):
    network = os.environ["COMPOSE_PROJECT_NAME"] + "_default"
    docker("network", "disconnect", network, container)
    time.sleep(2 * LEASE_S)
    docker("network", "connect", network, container)


# Every one of these once, and then by chance. The last word: whether the agent's trial has to go on elsewhere.
STRIKES = [
    ("agent", killed, True),
    ("agent", paused, True),
    ("agent", cut_off, True),
    ("agent", drained, False),
    ("coordinator", killed, False),
    ("coordinator", paused, False),
    ("coordinator", cut_off, False),
    ("nats", killed, False),
]


def strike(rng, run):
    """Strikes until the number of faults is reached, or the study ends; what was done, by its name."""
    first = rng.sample(STRIKES, len(STRIKES))
    done, moves = Counter(), 0
    for number in range(FAULTS):
        service, fault, ends_leases = first[number] if number < len(first) else rng.choice(STRIKES)
        time.sleep(rng.uniform(1, 4))
        if run.poll() is not None:
            break
        struck = rng.choice(containers(service))
        print(f"test-compose: {service} {struck[:12]} {fault.__name__}", flush=True)
        fault(struck)
        done[f"{service} {fault.__name__}"] += 1
        moves += ends_leases
    return done, moves


def asked(*words):
    """What the command line answers, as JSON."""
    answer = subprocess.run([*LINE, "regatta", *words], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        sys.exit(f"test-compose: regatta {' '.join(words)}: {answer.stderr.strip()}")
    return json.loads(answer.stdout)


def count(path, kind):
    with open(path) as lines:
        return sum(f'"type":"{kind}"' in line for line in lines)


def look(records, moves):
    """Everything that must hold of a study of which nothing was lost and nothing counted twice."""
    *entries, summary = records
    study = summary["study"]
    assert summary["status"] == "concluded", summary
    counts = summary["trials"]
    assert counts["finished"] == summary["trials_max"] == TRIALS, f"trials are missing: {counts}"

    offers = Counter((entry["trial"], entry["attempt"], entry.get("term")) for entry in entries if entry["type"] == "offered")
    assert max(offers.values()) == 1, "an attempt was offered twice"
    ends = Counter(entry["trial"] for entry in entries if entry["type"] == "finished")
    assert sorted(ends) == list(range(len(ends))) and len(ends) == TRIALS, "a trial has no end"

    exported = asked("export", study, "--format", "json")
    for trial in exported["trials"]:
        epochs = [point["resource"] for point in trial["points"]]
        assert epochs == list(range(1, EPOCHS + 1)), f"trial {trial['trial']} has the epochs {epochs}"

    # The coordinators' own account, and that of whoever reads the log.
    [listed] = [other for other in asked("study", "list", "--json")["studies"] if other["study"] == study]
    read = asked("study", "show", study, "--json")
    for key in ["status", "trials", "best", "resource_spent"]:
        assert listed[key] == read[key] == summary[key], (key, listed[key], read[key], summary[key])

    lost = [entry["trial"] for entry in entries if entry["type"] == "offered" and entry["reason"]["cause"] == "lease_lost"]
    assert moves == 0 or lost, "no trial of an agent that was struck was offered again"
    return lost


def main():
    seed = int(os.environ.get("REGATTA_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"test-compose: seed {seed}; REGATTA_SEED={seed} scripts/test-compose strikes in the same order", flush=True)
    folder = sys.argv[1]
    path = os.path.join(folder, "records")
    begin = [*LINE, "--volume", f"{folder}/study:/regatta/study:ro", "regatta"]
    with open(path, "w") as out:
        run = subprocess.Popen(
            [*begin, "run", "study/digits.yaml", "--stopper", "none", "--json"], stdin=subprocess.DEVNULL, stdout=out
        )
    while count(path, "finished") < 5:
        if run.poll() is not None:
            sys.exit("test-compose: the study ended before its fifth trial")
        time.sleep(0.2)
    done, moves = strike(random.Random(seed), run)
    if run.wait() != 0:
        sys.exit("test-compose: `regatta run` failed")
    with open(path) as lines:
        lost = look([json.loads(line) for line in lines], moves)
    for fault, times in sorted(done.items()):
        print(f"test-compose: {times} x {fault}")
    print(f"test-compose: ok; {TRIALS} trials, each finished once with all its epochs; offered again: {lost}")


main()
