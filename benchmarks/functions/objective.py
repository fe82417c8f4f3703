"""Answers learning curves line by line, as `regatta simulate --objective` asks for them."""
import json
import sys

from problems import ALL

for line in sys.stdin:
    asked = json.loads(line)
    values, elapsed = ALL[asked["problem"]].curve(asked["params"])
    print(json.dumps({"loss": values, "elapsed_s": elapsed}), flush=True)
