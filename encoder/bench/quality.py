"""`freshet bench quality`: MovieLens-1M, leave-one-out over the whole catalogue, as served.

Trains what ml-1m.toml beside it describes, for hours on two cores; killed and called again, it
goes on. A bundle that was made by the same run is judged as it is.
"""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from encoder.bundle import Bundle, load_bundle
from encoder.evaluate import evaluate_all
from encoder.history_store import read_histories
from encoder.protocols import Kind, judge
from encoder.run_file import Run, read_run
from encoder.threads import use_threads
from encoder.training_run import train_to_bundle
from infra.bench import Result
from infra.datasets import open_dataset
from infra.settings import SharedSettings

RUN = Path(__file__).with_name("ml-1m.toml")
QUICK_DATA = "ml-100k"
HR_BAR, NDCG_BAR = 0.30, 0.17

console = Console(stderr=True)


def quality(quick: bool) -> Result:
    """Train where needed, and judge; bars by design section 8."""
    use_threads()
    run = _run(quick)
    ours, n_users = _figures(run, quick)
    against = {name: ours[name] for name in ("coarse", "cooccurrence", "popularity")}
    if not quick:
        against["one interest"] = _figures(_with_one_interest(run), quick)[0]["refined"]
    refined = ours["refined"]
    return Result(
        figures={"hr10": refined["hr@10"], "ndcg10": refined["ndcg@10"], "n_users": n_users},
        against=against,
        bar={"hr10": f">= {HR_BAR}", "ndcg10": f">= {NDCG_BAR}"},
        ok=refined["hr@10"] >= HR_BAR and refined["ndcg@10"] >= NDCG_BAR,
    )


def _run(quick: bool) -> Run:
    run = read_run(RUN)
    folder = SharedSettings().state / "bench" / "quality"
    if quick:
        return replace(run, data=QUICK_DATA, recipe=run.recipe.quick(), out=folder / "quick")
    return replace(run, out=folder / RUN.stem)


def _with_one_interest(run: Run) -> Run:
    assert run.out is not None
    model = replace(run.model, n_interests=1)
    return replace(run, model=model, out=run.out.with_name(f"{run.out.name}-k1"))


def _figures(run: Run, quick: bool) -> tuple[dict[str, dict[str, float]], int]:
    bundle = _bundle(run, quick)
    _, histories = read_histories(open_dataset(run.data), bundle.catalogue.item_ids)
    protocol = judge(Kind.LEAVE_ONE_OUT, histories, None)
    with console.status("judging what is served"):
        found = evaluate_all(bundle, protocol, lambda name, done, of: None)
    chosen = ("hr@10", "ndcg@10")
    figures = {name: {key: one.figures[key] for key in chosen} for name, one in found.items()}
    return figures, len(protocol.split)


def _bundle(run: Run, quick: bool) -> Bundle:
    assert run.out is not None
    if run.out.exists():
        bundle = load_bundle(run.out)
        if bundle.metrics["run"] == run.to_dict():
            return bundle
    train_to_bundle(run, None, is_quick=quick)
    return load_bundle(run.out)
