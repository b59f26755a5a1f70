"""Times workloads on request, with the implementation that its process finds: `python -m benchmarks.worker`.

One line of JSON in, {"name": …, "rounds": …}; one out, {"minimum": seconds} or {"missing": why}, where this
implementation cannot do what is asked.
"""

import json
import os
import sys
from typing import Any

import torch

from benchmarks.timing import Run, once
from benchmarks.workloads import find


def answer(request: dict[str, Any], built: dict[str, Run]) -> dict[str, Any]:
    """The reply to one request; what was asked for last stays built."""
    name = request["name"]
    if name not in built:
        built.clear()
        torch._dynamo.reset()
        try:
            built[name] = find(name).build()
            built[name]()
        # Whatever an older implementation lacks shows in its own way: a name, an option, a shape.
        except Exception as error:
            built.clear()
            return {"missing": f"{type(error).__name__}: {error}"}
    return {"minimum": min(once(built[name]) for _ in range(request["rounds"]))}


def main() -> None:
    """Answer until the input ends; what libraries print does not mix with the replies."""
    torch.set_num_threads(1)
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    built: dict[str, Run] = {}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), built)), file=replies)


if __name__ == "__main__":
    main()
