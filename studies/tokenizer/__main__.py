"""Measure one variant of a preset: python -m studies.tokenizer NAME --data DIR --held-out DIR --set KEY=VALUE …"""

import argparse
import json
import tempfile
from pathlib import Path

from studies.tokenizer.training import Budget, held_out_video, linear_psnr, train

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Add the curve of a variant to a results file; a curve of the same name and seed is replaced."""
    options = _parser().parse_args()
    seeded = [*options.set, f"seed={options.seed}"]
    video = held_out_video(options.held_out, options.clips)
    with tempfile.TemporaryDirectory() as run:
        budget = Budget(options.seconds, options.every, options.enough)
        measured = train(options.preset, options.data, video, seeded, Path(run), budget)
    file = RESULTS / f"{options.task}.json"
    results = json.loads(file.read_text()) if file.exists() else {"pca": None, "curves": []}
    if results["pca"] is None:
        results["pca"] = round(linear_psnr(options.data, video, options.values), 1)
    key = {"name": options.name, "seed": options.seed}
    results["curves"] = [curve for curve in results["curves"] if {**curve, **key} != curve]
    results["curves"].append({**key, "preset": options.preset, "settings": options.set, "points": measured.points})
    rows = ",\n".join(json.dumps(row) for row in results["curves"])
    file.write_text(f'{{"pca": {results["pca"]}, "curves": [\n{rows}\n]}}\n')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies.tokenizer", description=__doc__)
    parser.add_argument("name", help="name of the variant in the results")
    parser.add_argument("--data", required=True, help="recorded play to train on")
    parser.add_argument("--held-out", required=True, help="recorded play to measure on")
    parser.add_argument("--set", action="append", default=[], help="setting of the variant, as for dreamer4-train")
    parser.add_argument("--preset", default="grid-cpu", help="preset or TOML document (default %(default)s)")
    parser.add_argument("--task", default="moving-goal", help="name of the results file (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches (default %(default)s)")
    parser.add_argument("--clips", type=int, default=16, help="held-out clips of 8 frames (default %(default)s)")
    parser.add_argument("--values", type=int, default=256, help="values per frame of PCA (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=150, help="processor seconds (default %(default)s)")
    parser.add_argument("--every", type=int, default=25, help="steps between measurements (default %(default)s)")
    parser.add_argument("--enough", type=float, default=55, help="PSNR at which to stop (default %(default)s)")
    return parser


if __name__ == "__main__":
    main()
