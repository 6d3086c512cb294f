"""The work of `freshet train`: read, train, evaluate, write, and show all of it."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
import transformers
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from encoder import digests
from encoder.bundle import refuse_foreign_folder, save_bundle
from encoder.evaluate import evaluate_all
from encoder.evaluation_run import figures_table
from encoder.history_store import Histories, read_histories
from encoder.peers import Peers
from encoder.progress import OnPart, named
from encoder.protocols import Kind, Protocol, judge
from encoder.run_file import Run
from encoder.run_folder import RunFolder
from encoder.splits import moment_of
from encoder.start import Texts
from encoder.threads import use_threads
from encoder.train import Trained, Watch, train
from encoder.trainer import Step
from encoder.wins import COARSE, REFINED, remarks
from infra.bench import commit, machine
from infra.datasets import open_dataset
from infra.settings import SharedSettings


def train_to_bundle(run: Run, data_dir: Path | None, *, is_quick: bool) -> None:
    """Train on a data set, evaluate as served, and write the bundle; progress on standard error.

    Killed and called again, it goes on where it was.
    """
    started = time.monotonic()
    peers = Peers.join()
    console = Console(stderr=True, quiet=not peers.is_first)
    use_threads(peers.count)
    out = run.out or SharedSettings().state / "bundle"
    folder = RunFolder(out)
    if peers.is_first:
        refuse_foreign_folder(out)
        folder.claim(run.to_dict())
    peers.wait()
    dataset = open_dataset(run.data, data_dir)
    with Screen(console) as screen:
        items, histories = read_histories(dataset, folder=folder.path, on_part=screen.part)
        texts = Texts.of(items)
        if peers.is_first:
            folder.claim_inputs(_digests(texts, histories, run.llm, screen.part))
    moment_ms = None if run.until is None else moment_of(histories, run.until)
    kind = Kind.LEAVE_ONE_OUT if moment_ms is None else Kind.TEMPORAL
    protocol = judge(kind, histories, moment_ms)
    notes = (*dataset.report.remarks(), *texts.remarks(), *histories.kept.remarks())
    for remark in notes:
        console.print(f"note: {escape(remark)}", highlight=False)
    console.print(
        f"{dataset.name}: {len(texts.item_ids):,} items, {len(protocol.known):,} users, "
        f"{sum(map(len, protocol.known)):,} events to learn from"
    )
    with Screen(console) as screen:
        trained = train(
            texts,
            protocol.known,
            run.model,
            run.recipe,
            folder,
            checkpoint=run.llm,
            peers=peers,
            watch=Watch(screen.coder, screen.step, screen.validated, screen.part),
        )
        if peers.is_first:
            found = evaluate_all(trained.bundle, protocol, screen.part, str(peers.device()))
            figures = {name: one.figures for name, one in found.items()}
    if peers.is_first:
        metrics = _metrics(run, dataset.name, protocol, moment_ms, trained, figures, is_quick)
        version = save_bundle(replace(trained.bundle, metrics=metrics), out)
        folder.finish()
        console.print(figures_table(figures))
        for remark in remarks(trained.win_shares):
            console.print(remark, highlight=False)
        for stage, one in trained.throughputs.items():
            console.print(f"{stage}: {one}")
        console.print(f"model {version} in {out}, {time.monotonic() - started:.0f} s in all")
    peers.leave()


def _digests(
    texts: Texts, histories: Histories, llm: Path | None, on_part: OnPart
) -> dict[str, str]:
    found = {
        "the catalogue": texts.digest(),
        "the events": histories.digest(texts.item_ids),
    }
    if llm is not None:
        heard = named(on_part, "checkpoint, MB")
        found["the LLM's checkpoint"] = digests.of_checkpoint(llm, heard)
    return found


_LEARNED_FROM = {
    Kind.LEAVE_ONE_OUT: "all events but each user's last",
    Kind.TEMPORAL: "all events before a moment",
}


def _metrics(
    run: Run,
    data: str,
    protocol: Protocol,
    moment_ms: int | None,
    trained: Trained,
    figures: dict[str, dict[str, float]],
    is_quick: bool,
) -> dict[str, object]:
    story = trained.story
    held = f", without the last of these of {story.n_held} validation users" if story.n_held else ""
    return {
        "figures": figures,
        "protocol": protocol.text,
        "n_users": len(protocol.split),
        "trained_on": f"{_LEARNED_FROM[protocol.kind]}{held}",
        "trained_until_ms": moment_ms,
        "data": data,
        "quick": is_quick,
        "run": run.to_dict(),
        "win_shares": trained.win_shares.get(REFINED, []),
        "coarse_win_shares": trained.win_shares.get(COARSE, []),
        "validations": [
            {"epoch": epoch, "ndcg@10": round(value, 5)} for epoch, value in story.validations
        ],
        "train_seconds": round(story.seconds, 1),
        "throughput": {stage: one.to_dict() for stage, one in trained.throughputs.items()},
        "machine": machine(),
        "commit": commit(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


class Screen:
    """One progress bar a stage, with its losses. A context manager."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<21}"),
            BarColumn(bar_width=8),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[losses]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def coder(self, done: int, of: int, loss: float) -> None:
        self._show("items", done, of, f"1 - cos {loss:.2f}")

    def step(self, step: Step) -> None:
        losses = " ".join(f"{name} {loss:.2f}" for name, loss in step.losses.items())
        self._show(step.stage, step.done, step.of, losses)

    def validated(self, step: Step, value: float) -> None:
        self._bars.console.print(f"epoch {step.epoch + 1}: validation NDCG@10 {value:.4f}")

    def part(self, what: str, done: int, of: int) -> None:
        self._show(what, done, of, "")

    def _show(self, what: str, done: int, of: int, losses: str) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, losses="")
        elif self._bars.tasks[self._tasks[what]].finished:  # it comes again: another validation
            self._bars.reset(self._tasks[what])
        self._bars.update(self._tasks[what], completed=done, total=of, losses=losses)
