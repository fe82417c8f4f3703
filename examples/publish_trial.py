#!/usr/bin/env python3
"""Publishes a trial of one's own to Regatta and follows it to its end: plain NATS and JSON (pip install nats-py)."""
import argparse
import asyncio
import hashlib
import json
import pathlib
import sys

import nats
from nats.js.errors import ObjectNotFoundError

DIGITS = pathlib.Path(__file__).parent / "data" / "digits.npz"


def identity(file: pathlib.Path | None) -> dict:
    """What a key's file of `regatta auth` says of us (with keys: pip install nats-py[nkeys])."""
    if not file:
        return {}
    lines = file.read_text().splitlines()
    role = next(line.split()[-1] for line in lines if line.startswith("# role"))
    seed = next(line for line in lines if line.startswith("SU"))
    return {"nkeys_seed_str": seed, "inbox_prefix": f"_INBOX_{role}"}


async def upload(js, file: pathlib.Path) -> dict:
    """Puts the file into the object store under the SHA-256 of its bytes, unless it is there."""
    data = file.read_bytes()
    name = hashlib.sha256(data).hexdigest()
    bucket = await js.object_store("regatta-data")
    try:
        await bucket.get_info(name)
    except ObjectNotFoundError:
        await bucket.put(name, data)
    return {"sha256": name, "bytes": len(data), "file_name": file.name}


def recipe(data: dict) -> dict:
    return {
        "data": {"object": data, "format": "npz", "task": "classification", "target": "y", "normalize": "scale"},
        "model": {"family": "mlp", "hidden": [64], "activation": "relu"},
        "optimizer": {"name": "adam", "learning_rate": 0.003},
        "loss": "cross_entropy", "batch_size": 32,
    }


async def follow(js, study: str, trial: int) -> int:
    """Prints the trial's records, from its first on, until its end. Returns the exit status."""
    records = await js.subscribe(f"regatta.v1.log.{study}.{trial}.>", stream="REGATTA_LOG", ordered_consumer=True)
    async for message in records.messages:
        record = json.loads(message.data)
        if record["type"] == "measured":
            for point in record["points"]:
                print(f"epoch {point['resource']}:", json.dumps(point["metrics"]), flush=True)
        elif record["type"] == "finished":
            print(f"finished after {record['resource']} epochs, {record['elapsed_s']:.2f} s of training")
            return 0
        elif record["type"] in ("stopped", "concluded"):
            print("ended early:", json.dumps(record))
            return 1


async def main(arguments: argparse.Namespace) -> int:
    me = identity(arguments.credentials)
    async with await nats.connect(arguments.nats, max_reconnect_attempts=3, **me) as connection:
        js = connection.jetstream()
        if arguments.study:
            trial = {"study": arguments.study, "params": json.loads(arguments.params)}
        else:
            trial = {"recipe": recipe(await upload(js, DIGITS)), "resource": arguments.epochs}
        answer = await connection.request("regatta.v1.api.trial.submit", json.dumps(trial).encode(), timeout=10)
        reply = json.loads(answer.data)
        if reply["type"] == "rejected":
            faults = [f"\n  {fault['path']}: {fault['problem']}; {fault['help']}" for fault in reply["faults"]]
            print("rejected:", reply["message"], *faults)
            return 2
        print(f"trial {reply['trial']} of study {reply['study']}")
        return await follow(js, reply["study"], reply["trial"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="the NATS server (default: %(default)s)")
    parser.add_argument("--credentials", type=pathlib.Path, help="the publisher's key, where the server wants one")
    parser.add_argument("--study", help="submit into this study's space instead of a bare recipe")
    parser.add_argument("--params", default="{}", help="with --study: the trial's parameters, as JSON")
    parser.add_argument("--epochs", type=int, default=10, help="without --study: how long to train (default: %(default)s)")
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except nats.errors.NoRespondersError:
        sys.exit("no coordinator answers")
