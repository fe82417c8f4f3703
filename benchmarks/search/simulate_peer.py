"""One search by another library in virtual time: simulate_peer.py METHOD TASK LANES SEED SECONDS prints a JSON line."""
import json
import sys
import time

from lanes import simulate
from methods import peer
from objective import Objective


def main():
    method, task = sys.argv[1:3]
    lanes, seed, seconds = int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    began = time.process_time()
    with Objective(task) as objective:
        found = simulate(peer(method, seed), objective.curve, lanes, seconds)
    cpu_s = round(time.process_time() - began, 2)
    print(json.dumps({"study": method, "seed": seed, "lanes": lanes, **found, "cpu_s": cpu_s}))


main()
