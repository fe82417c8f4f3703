#!/usr/bin/env python3
"""Trains trials of a study in a loop of one's own: asks for one, trains it, tells what came of it.

Plain NATS and JSON (pip install nats-py). Here the "training" is a formula; put yours in the place of `train`.

    regatta run --detach examples/own_loop.yaml        # prints the study's id
    python3 examples/own_loop.py STUDY
"""
import argparse
import asyncio
import json
import math
import pathlib
import sys

import nats

LEASE_S = 60  # we report at least so often


def identity(file: pathlib.Path | None) -> dict:
    """What a key's file of `regatta auth` says of us (with keys: pip install nats-py[nkeys])."""
    if not file:
        return {}
    lines = file.read_text().splitlines()
    role = next(line.split()[-1] for line in lines if line.startswith("# role"))
    seed = next(line for line in lines if line.startswith("SU"))
    return {"nkeys_seed_str": seed, "inbox_prefix": f"_INBOX_{role}"}


class Rejected(Exception):
    def __init__(self, reply: dict):
        super().__init__(reply["message"])
        self.code = reply["code"]


async def ask(connection, endpoint: str, **request) -> dict:
    answer = await connection.request(f"regatta.v1.api.{endpoint}", json.dumps(request).encode(), timeout=10)
    reply = json.loads(answer.data)
    if reply["type"] == "rejected":
        raise Rejected(reply)
    return reply


def train(params: dict, resource: int):
    """Yields the epochs done and the metrics, an epoch at a time."""
    for epoch in range(1, resource + 1):
        quality = math.exp(-((math.log10(params["rate"]) + 2) ** 2)) * (1 - params["drop"] / 2)
        yield epoch, {"accuracy": quality * (1 - math.exp(-epoch / 3))}


async def train_one(connection, trial: dict):
    held = {key: trial[key] for key in ("study", "trial", "attempt", "term") if key in trial}
    for epoch, metrics in train(trial["params"], trial["resource"]):
        point = {"resource": epoch, "metrics": metrics}
        end = {"end": "done"} if epoch == trial["resource"] else {}
        answer = await ask(connection, "trial.observe", **held, points=[point], **end)
        if "stop" in answer:
            print(f"trial {trial['trial']}: stopped after {epoch} epochs:", json.dumps(answer["stop"]), flush=True)
            return
    print(f"trial {trial['trial']}: {metrics['accuracy']:.4f} after {epoch} epochs", flush=True)


async def main(arguments: argparse.Namespace) -> int:
    me = identity(arguments.credentials)
    async with await nats.connect(arguments.nats, max_reconnect_attempts=3, **me) as connection:
        while True:
            try:
                trial = await ask(connection, "trial.suggest", study=arguments.study, lease_s=LEASE_S)
                await train_one(connection, trial)
            except Rejected as rejected:
                if rejected.code != "not_ready":
                    print(rejected)
                    return 0 if rejected.code == "conflict" else 2
                await asyncio.sleep(1)  # others have all that there is to train


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="the study's id")
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="the NATS server (default: %(default)s)")
    parser.add_argument("--credentials", type=pathlib.Path, help="the publisher's key, where the server wants one")
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except nats.errors.NoRespondersError:
        sys.exit("no coordinator answers")
