"""Another library's search on Regatta's agents: peer_lanes.py METHOD SEED SECONDS LANES < RECIPE prints a JSON line.

The library proposes and stops; its trials are submitted as recipes whose values are filled in, and trained by the agents
that train Regatta's own searches. It is told each epoch's value as it is measured.
"""
import asyncio
import json
import os
import sys
import time
from collections import defaultdict

import nats
from methods import peer
from space import EPOCHS
from study import METRIC


def filled_in(template, params: dict):
    """The recipe with values in the place of `$name`."""
    match template:
        case dict():
            return {key: filled_in(value, params) for key, value in template.items()}
        case list():
            return [filled_in(value, params) for value in template]
        case str() if template.startswith("$"):
            return params[template[1:]]
    return template


class Lanes:
    def __init__(self, connection, recipe: dict, scheduler, seconds: float):
        self.connection, self.recipe, self.scheduler = connection, recipe, scheduler
        self.began = time.monotonic()
        self.ends_at = self.began + seconds
        self.curve, self.trials, self.epochs = [], 0, 0
        # What each study's log says, from its first record on.
        self.records = defaultdict(asyncio.Queue)

    async def hear(self, message):
        self.records[message.subject.split(".")[3]].put_nowait(json.loads(message.data))

    async def ask(self, endpoint: str, **request) -> dict:
        payload = json.dumps(request).encode()
        reply = json.loads((await self.connection.request(f"regatta.v1.api.{endpoint}", payload, timeout=30)).data)
        if reply["type"] == "rejected":
            raise RuntimeError(f"{endpoint}: {reply['message']} {reply.get('faults')}")
        return reply

    async def run(self, lanes: int):
        await self.connection.subscribe("regatta.v1.log.>", cb=self.hear)
        await asyncio.gather(*(self.lane() for _ in range(lanes)))

    async def lane(self):
        while (left := self.ends_at - time.monotonic()) > 0:
            start = self.scheduler.ask()
            if start.epochs_done:
                raise RuntimeError("a trial that goes on from its checkpoint cannot be submitted")
            recipe = filled_in(self.recipe, start.params)
            study = (await self.ask("trial.submit", recipe=recipe, resource=EPOCHS))["study"]
            self.trials += 1
            try:
                await asyncio.wait_for(self.follow(study, start.trial), left)
            except TimeoutError:
                await self.ask("study.stop", study=study)

    async def follow(self, study: str, trial: int):
        goes_on = True
        while (record := await self.records[study].get())["type"] != "study_concluded":
            for point in record.get("points", []) if goes_on else []:
                goes_on = self.report(trial, point)
                if not goes_on and point["resource"] < EPOCHS:
                    await self.ask("study.stop", study=study)

    def report(self, theirs: int, point: dict) -> bool:
        value, epoch = point["metrics"][METRIC], point["resource"]
        self.epochs += 1
        if not self.curve or value > self.curve[-1][1]:
            self.curve.append([round(time.monotonic() - self.began, 3), value])
        return self.scheduler.report(theirs, epoch, value)


async def main():
    method, seed, seconds, lanes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    scheduler, recipe = peer(method, seed, as_published=True), json.load(sys.stdin)
    async with await nats.connect(os.environ["REGATTA_NATS"]) as connection:
        race = Lanes(connection, recipe, scheduler, seconds)
        await race.run(lanes)
    print(json.dumps({"method": method, "seed": seed, "curve": race.curve, "trials": race.trials, "epochs": race.epochs}))


asyncio.run(main())
