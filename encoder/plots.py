"""Pictures of an evaluation, of a training run and of a comparison."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoder.evaluate import Details
from encoder.ranking import CUTS

SIZE, DPI = (11.0, 7.5), 130


def plot_evaluation(found: Mapping[str, Details], path: Path) -> Path:
    """Draw the recommenders side by side; return the path of the PNG."""
    figure = Figure(SIZE, dpi=DPI, layout="constrained")
    at_cuts, beyond, by_length, by_popularity = figure.subplots(2, 2).flat
    for name, one in found.items():
        at_cuts.plot(CUTS, [one.figures[f"hr@{cut}"] for cut in CUTS], marker="o", label=name)
    at_cuts.set(title="Hit rate", xlabel="length of the list", xscale="log")
    at_cuts.set_xticks(CUTS, [str(cut) for cut in CUTS])
    at_cuts.legend(frameon=False)
    shares = ("coverage@10", "diversity@10")
    _bars(beyond, {n: {key: one.beyond[key] for key in shares} for n, one in found.items()})
    beyond.set(title="Beyond accuracy")
    by = "HR@10 by events of the"
    for axes, title, groups in (
        (by_length, f"{by} history", {name: one.by_length for name, one in found.items()}),
        (by_popularity, f"{by} target", {name: one.by_popularity for name, one in found.items()}),
    ):
        heights = {
            name: {
                f"{group}\n({values['n_cases']:.0f})": values["hr@10"]
                for group, values in of_group.items()
            }
            for name, of_group in groups.items()
        }
        _bars(axes, heights)
        axes.set(title=title)
    return _saved(figure, path)


def plot_training(log: Path, path: Path) -> Path:
    """Draw losses and validation over steps from a run's log.csv; return the path of the PNG."""
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    with log.open(newline="") as file:
        for row in csv.DictReader(file):  # a resumed run repeats steps: the newest line counts
            curves[row["name"]][int(row["step"])] = float(row["value"])
    figure = Figure((SIZE[0], SIZE[1] / 2), dpi=DPI, layout="constrained")
    losses, validation = figure.subplots(1, 2)
    for name, curve in curves.items():
        kind, _, short = name.partition("/")
        if kind == "loss":
            losses.plot(*zip(*sorted(curve.items()), strict=True), label=short)
        elif short in ("hr@10", "ndcg@10"):
            validation.plot(*zip(*sorted(curve.items()), strict=True), marker="o", label=short)
    losses.set(title="Loss", xlabel="step")
    validation.set(title="Validation", xlabel="step")
    for axes in (losses, validation):
        if axes.lines:
            axes.legend(frameon=False)
    return _saved(figure, path)


def plot_differences(
    differences: Mapping[str, Mapping[str, Sequence[float]]], to: str, path: Path
) -> Path:
    """Draw how far others are from one, a panel a metric; return the path of the PNG.

    Args:
        differences: by metric and name, the lower end, the mean, and the upper end.
        to: who the one is.
    """
    names = list(next(iter(differences.values())))
    figure = Figure((SIZE[0], 1.2 + 0.3 * len(names)), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(differences), sharey=True, squeeze=False)[0]
    for axes, (metric, of_metric) in zip(panels, differences.items(), strict=True):
        lows, means, highs = zip(*of_metric.values(), strict=True)
        below = [mean - low for mean, low in zip(means, lows, strict=True)]
        above = [high - mean for mean, high in zip(means, highs, strict=True)]
        axes.errorbar(means, range(len(names)), xerr=[below, above], fmt="o", capsize=3)
        axes.axvline(0, color="grey", linewidth=1)
        axes.set(title=f"{metric.upper()}, difference to {to}")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    return _saved(figure, path)


def _bars(axes: Axes, heights: Mapping[str, Mapping[str, float]]) -> None:
    """Draw groups of bars, one bar a recommender."""
    width = 0.8 / len(heights)
    for place, (name, of_group) in enumerate(heights.items()):
        left = place * width - 0.4 + width / 2
        axes.bar(
            [left + n for n in range(len(of_group))], list(of_group.values()), width, label=name
        )
    groups = list(next(iter(heights.values())))
    axes.set_xticks(range(len(groups)), groups)


def _saved(figure: Figure, path: Path) -> Path:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.savefig(path)
    return path
