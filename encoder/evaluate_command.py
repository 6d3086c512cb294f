"""`freshet evaluate BUNDLE DATA`: how good a model is, as served, beside simple baselines.

torch is loaded only when the command runs (encoder/threads.py says why).
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from encoder.threads import let_idle_threads_sleep


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="The folder of a model bundle.")],
    data: Annotated[str, typer.Argument(help="A known data set (ml-100k, ...) or a path.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data", help="Where known data sets are looked for first.")
    ] = None,
    split: Annotated[
        Literal["leave-one-out", "temporal", "prequential"],
        typer.Option(help="What is held out; the other two want a model trained with --until."),
    ] = "leave-one-out",
    limit: Annotated[
        int, typer.Option(min=1, help="At most so many cases, drawn at random (prequential).")
    ] = 20_000,
    plots: Annotated[
        Path | None, typer.Option(help="A folder for evaluation.png and training.png.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; by default a GPU where there is one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Rank held-out events against the whole catalogue; ours, co-occurrence, popularity."""
    let_idle_threads_sleep()
    from encoder.evaluation_run import Options, evaluate_bundle
    from encoder.protocols import Kind

    evaluate_bundle(bundle, data, data_dir, Options(Kind(split), limit, plots, as_json, device))
