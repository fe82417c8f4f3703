#!/usr/bin/env python3
"""A sampler of one's own: at random first, then mutations of the best. Plain NATS and JSON (pip install nats-py).

Start it, and run a study that names it:

    sampler: { name: external, service: mutate, fallback: sobol }
"""
import argparse
import asyncio
import json
import math
import pathlib
import random

import nats


def identity(file: pathlib.Path | None) -> dict:
    """What a key's file of `regatta auth` says of us (with keys: pip install nats-py[nkeys])."""
    if not file:
        return {}
    lines = file.read_text().splitlines()
    role = next(line.split()[-1] for line in lines if line.startswith("# role"))
    seed = next(line for line in lines if line.startswith("SU"))
    return {"nkeys_seed_str": seed, "inbox_prefix": f"_INBOX_{role}"}


class Study:
    """What is known of a study: each trial as it was told last, and what earlier trials measured."""

    def __init__(self):
        self.known = 0
        self.earlier = []
        self.trials = {}

    def take_in(self, ask: dict) -> bool:
        """Learns what the question tells. False: something was told before we were there."""
        if ask["since"] == 0:
            self.trials.clear()
            self.earlier = ask.get("earlier", [])
        elif ask["since"] != self.known:
            return False
        self.trials.update((trial["trial"], trial) for trial in ask["trials"])
        self.known = ask["until"]
        return True

    def best(self, objective: dict, count: int) -> list[dict]:
        """The parameters of the best trials, by their best value so far."""
        metric, sign = objective["metric"], -1 if objective["goal"] == "maximize" else 1
        scored = [(sign * one["metrics"][metric], -1, one["params"]) for one in self.earlier]
        for trial in self.trials.values():
            values = [sign * point["metrics"][metric] for point in trial["points"] if metric in point["metrics"]]
            if values and trial.get("outcome") != "failed":
                scored.append((min(values), trial["trial"], trial["params"]))
        return [params for _, _, params in sorted(scored, key=lambda one: one[:2])[:count]]


def draw(domain: dict, rng: random.Random):
    """A value of the domain, by its own scale."""
    kind = domain["type"]
    if kind == "bool":
        return rng.random() < 0.5
    if kind in ("categorical", "ordinal"):
        return rng.choice(domain["choices"])
    low, high = domain["low"], domain["high"]
    if domain.get("log"):
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        value = rng.uniform(low, high)
    return fit(domain, value)


def fit(domain: dict, value: float):
    """The nearest value that the domain has."""
    low, high, step = domain["low"], domain["high"], domain.get("step")
    if step:
        most = math.floor((high - low) / step + 1e-9)
        return min(low + min(max(round((value - low) / step), 0), most) * step, high)
    value = min(max(value, low), high)
    return round(value) if domain["type"] == "int" else value


def near(domain: dict, value, rng: random.Random):
    """A value beside this one: a tenth of the range away, or another choice."""
    if domain["type"] not in ("float", "int"):
        return draw(domain, rng)
    low, high = domain["low"], domain["high"]
    if domain.get("log"):
        return fit(domain, value * math.exp(rng.gauss(0, 0.1 * math.log(high / low))))
    return fit(domain, value + rng.gauss(0, 0.1 * (high - low)))


def configure(space: dict, value_of) -> dict:
    """A value for each parameter that exists: those under which others exist come first."""
    params, left = {}, dict(space)
    while left:
        ready = [name for name in left if not any(parent in left for parent in left[name].get("when", {}))]
        for name in ready:
            domain = left.pop(name)
            conditions = domain.get("when", {}).items()
            allowed = [(parent, one if isinstance(one, list) else [one]) for parent, one in conditions]
            if all(parent in params and params[parent] in values for parent, values in allowed):
                params[name] = value_of(name, domain)
    return params


def propose(study: Study, ask: dict, start: int) -> dict:
    rng = random.Random(f"{ask['seed']} {ask['index']}")
    best = study.best(ask["objective"], count=5)
    if ask["index"] < start or not best:
        return configure(ask["space"], lambda _, domain: draw(domain, rng))
    parent = rng.choice(best)
    share = max(1.5 / max(len(parent), 1), 0.2)

    def value_of(name, domain):
        if name not in parent:
            return draw(domain, rng)
        return near(domain, parent[name], rng) if rng.random() < share else parent[name]

    return configure(ask["space"], value_of)


def answer(studies: dict, ask: dict, start: int) -> dict:
    study = studies.setdefault(ask["study"], Study())
    if not study.take_in(ask):
        return {"since": study.known}
    if ask["more"]:
        return {}
    return {"params": propose(study, ask, start)}


async def main(arguments: argparse.Namespace):
    me, studies = identity(arguments.credentials), {}
    async with await nats.connect(arguments.nats, max_reconnect_attempts=-1, **me) as connection:
        subject = f"regatta.v1.sampler.{arguments.service}"
        questions = await connection.subscribe(subject)
        print(f"serving {subject}", flush=True)
        async for question in questions.messages:
            ask = json.loads(question.data)
            reply = answer(studies, ask, arguments.start)
            print(f"{ask['study']} {ask['index']}:", json.dumps(reply), flush=True)
            await question.respond(json.dumps(reply).encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="the NATS server (default: %(default)s)")
    parser.add_argument("--credentials", type=pathlib.Path, help="the sampler's key, where the server wants one")
    parser.add_argument("--service", default="mutate", help="the name that studies know it by (default: %(default)s)")
    parser.add_argument("--start", type=int, default=10, help="configurations drawn at random (default: %(default)s)")
    asyncio.run(main(parser.parse_args()))
