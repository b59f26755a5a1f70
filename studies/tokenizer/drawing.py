"""Plot the curves of a results file as SVG: python -m studies.tokenizer.drawing."""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "tokenizer"  # makes the file reproducible
from matplotlib import pyplot  # noqa: E402

RESULTS = Path(__file__).parent / "results"


def draw(file: Path) -> None:
    """Write the plot next to the results.

    Args:
        file: results that `studies.tokenizer` wrote.
    """
    results = json.loads(file.read_text())
    curves, pca = results["curves"], results["pca"]
    best = max(point[2] for curve in curves for point in curve["points"])
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for panel, column, label in zip(panels, (0, 1), ("steps", "processor seconds"), strict=True):
        for curve in curves:
            x, y = ([point[index] for point in curve["points"]] for index in (column, 2))
            panel.plot(x, y, label=f"{curve['name']}, seed {curve['seed']}", linewidth=1)
        panel.set_xlabel(label)
        if pca < 2 * best:  # the line of a task that is exactly linear would flatten the curves
            panel.axhline(pca, color="grey", linestyle="--", linewidth=1, label=f"PCA, {pca} dB")
    panels[0].set_ylabel("PSNR on held-out frames, dB")
    panels[0].legend(fontsize=7)
    figure.savefig(file.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    for path in sorted(RESULTS.glob("*.json")):
        draw(path)
