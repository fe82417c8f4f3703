"""One search by another library in virtual time: prints a JSON line."""
import argparse
import json
import time

from lanes import simulate
from methods import library, peer
from objective import Objective


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method")
    parser.add_argument("task")
    parser.add_argument("lanes", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--as-published", action="store_true", help="without quicker.py")
    asked = parser.parse_args()
    began = time.process_time()
    with Objective(asked.task) as objective:
        scheduler = peer(asked.method, asked.seed, asked.as_published)
        found = simulate(scheduler, objective.curve, asked.lanes, asked.seconds)
    cpu_s = round(time.process_time() - began, 2)
    what = {"study": asked.method, "library": library(asked.method), "seed": asked.seed, "lanes": asked.lanes}
    print(json.dumps({**what, **found, "cpu_s": cpu_s}))


main()
