"""Process that times workloads with the implementation on its import path: `python -m benchmarks.worker`.

Each input line is a JSON request, {"name": …, "rounds": …}. Each output line is a reply: {"minimum": seconds}, or
{"missing": reason} if the implementation does not support the workload.
"""

import json
import os
import sys
from typing import Any

import torch

from benchmarks.timing import Run, once
from benchmarks.workloads import find


def reply(request: dict[str, Any], built: dict[str, Run]) -> dict[str, Any]:
    """Reply to one request; the last workload stays built for the next request."""
    name = request["name"]
    if name not in built:
        built.clear()
        torch._dynamo.reset()
        try:
            built[name] = find(name).build()
            built[name]()
        # Older implementations fail in many ways: a missing name, an unknown option, another shape.
        except Exception as error:
            built.clear()
            return {"missing": f"{type(error).__name__}: {error}"}
    return {"minimum": min(once(built[name]) for _ in range(request["rounds"]))}


def main() -> None:
    """Reply to requests until the input ends; output of libraries goes to standard error."""
    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    built: dict[str, Run] = {}
    for line in sys.stdin:
        print(json.dumps(reply(json.loads(line), built)), file=replies)


if __name__ == "__main__":
    main()
