"""`freshet evaluate BUNDLE DATA`: how good a model is, as served, beside simple baselines.

torch is loaded only when the command runs (encoder/threads.py says why).
"""

from pathlib import Path
from typing import Annotated

import typer

from encoder.threads import let_idle_threads_sleep


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="The folder of a model bundle.")],
    data: Annotated[str, typer.Argument(help="A known data set (ml-100k, ...) or a path.")],
    data_dir: Annotated[
        Path | None, typer.Option("--data", help="Where known data sets are looked for first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead.")] = False,
) -> None:
    """Rank each user's last event against the whole catalogue; ours, co-occurrence, popularity."""
    let_idle_threads_sleep()
    from encoder.evaluation_run import evaluate_bundle

    evaluate_bundle(bundle, data, data_dir, as_json=as_json)
