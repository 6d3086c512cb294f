"""A training run: start, steps, validation, checkpoints, and the bundle that comes out.

    histories --hold_out--> Trainer --every step--> log, screen
                               |--every minute--> checkpoint
                               |--every epoch---> validate: best weights; patience over? stop
                               '--end-----------> best weights --> bundle

Only the first of several processes validates, writes and shows; all of them stop together.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from encoder.bundle import Bundle
from encoder.config import ModelConfig
from encoder.histories import History
from encoder.peers import Peers
from encoder.progress import OnPart, named, unheard
from encoder.recipe import Recipe
from encoder.run_folder import RunFolder
from encoder.splits import Split
from encoder.start import OnStep, Texts, checked, starting_bundle, tokens_of
from encoder.throughput import MatmulCounter, Throughput, matmul_flops
from encoder.trainer import ALL, Step, Trainer
from encoder.training_log import TrainingLog
from encoder.validation import METRIC, Held, hold_out, validate
from encoder.wins import WinShares

CHECKPOINT_S = 60.0
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told; by default nobody."""

    on_coder: OnStep = lambda done, of, loss: None
    on_step: Callable[[Step], None] = lambda step: None
    on_validated: Callable[[Step, float], None] = lambda step, value: None
    on_part: OnPart = unheard


@dataclass(slots=True)
class Story:
    """How a run went; part of its checkpoint."""

    validations: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, NDCG@10)"""
    seconds: float = 0.0
    """Of steps: without validation, start and checkpoints."""
    n_held: int = 0
    """Users whose last event was held out for validation."""

    @property
    def best(self) -> float:
        return max((value for _, value in self.validations), default=-math.inf)

    def is_over(self, patience: int) -> bool:
        """Whether `patience` epochs brought nothing better."""
        values = [value for _, value in self.validations]
        return bool(patience and values) and len(values) - values.index(max(values)) > patience


@dataclass(frozen=True, slots=True)
class Trained:
    bundle: Bundle
    """Without metrics."""
    win_shares: WinShares
    """Of the epoch that left these weights."""
    story: Story
    throughputs: Mapping[str, Throughput]
    """By stage, since the run was last taken up."""


def train(
    texts: Texts,
    histories: Sequence[History],
    config: ModelConfig,
    recipe: Recipe,
    folder: RunFolder,
    *,
    checkpoint: Path | None = None,
    peers: Peers | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Train a model, or continue a run that was interrupted.

    The same arguments give the same bundle on the same machine, interrupted or not.

    Args:
        texts: the catalogue; ids are unique.
        histories: what may be learned from; what is to be predicted later is not in them.
        folder: claimed by this run.
        checkpoint: of the LLM to start from; None for a small one.

    Raises InvalidInput for an empty catalogue or when no user has two events.
    """
    peers, watch = peers or Peers(), watch or Watch()
    held = hold_out(checked(texts, histories), recipe.validation_users, recipe.seed)
    if peers.is_first and not folder.has_start:
        folder.save_start(
            starting_bundle(
                texts,
                held.histories,
                config,
                recipe,
                watch.on_coder,
                checkpoint,
                device=peers.device(),
                on_part=watch.on_part,
            )
        )
    peers.wait()
    start = folder.load_start()
    device = peers.device()
    start.coder.to(device)
    autocast = torch.bfloat16 if recipe.bf16 else None
    trainer = Trainer(
        start,
        tokens_of(start),
        held.histories,
        recipe,
        peers=peers,
        device=device,
        autocast=autocast,
    )
    story = Story()
    # Onto the CPU, where optimizers count their steps and wins are counted; weights go on from it.
    if (state := folder.load("checkpoint", CPU)) is not None:
        trainer.load_state_dict(state["trainer"])
        story = Story(**state["story"])
    story.n_held = len(held.split or ())
    peak = matmul_flops(device, autocast or torch.float32)
    throughputs: dict[str, Throughput] = defaultdict(lambda: Throughput(peak, recipe.tower_every))
    if not story.is_over(recipe.patience):
        _Session(trainer, held, recipe, folder, story, peers, watch, throughputs).run()
    shares = trainer.win_shares
    if recipe.patience and (best := folder.load("best", CPU)) is not None:
        trainer.load_weights(best["model"])
        shares = best["win_shares"]
    trainer.merge()
    bundle = trainer.bundle(trainer.encoded(named(watch.on_part, "encode items")))
    bundle.coder.cpu()
    bundle.model.cpu()
    return Trained(bundle, shares, story, throughputs)


@dataclass(frozen=True, slots=True)
class _Session:
    """One process's part of a run, from where the trainer stands to the end."""

    trainer: Trainer
    held: Held
    recipe: Recipe
    folder: RunFolder
    story: Story
    peers: Peers
    watch: Watch
    throughputs: Mapping[str, Throughput]
    """By stage."""

    def run(self) -> None:
        with ExitStack() as stack:
            log: TrainingLog | None = None
            if self.peers.is_first:
                log = stack.enter_context(closing(TrainingLog(self.folder)))
            saved_at = time.monotonic()
            for step in self._steps():
                self.story.seconds += step.seconds
                if log is not None:
                    log.step(step)
                    self.watch.on_step(step)
                if step.ends_epoch and step.stage == ALL and self.held.split is not None:
                    if log is not None:
                        self._validate(step, self.held.split, log)
                    if self.peers.agree(self.story.is_over(self.recipe.patience)):
                        return
                is_due = step.ends_epoch or time.monotonic() - saved_at > CHECKPOINT_S
                if log is not None and is_due and self.trainer.is_settled:
                    self._save()
                    saved_at = time.monotonic()

    def _steps(self) -> Iterator[Step]:
        """Take the trainer's steps, and measure how fast they are."""
        steps = self.trainer.run()
        while True:
            throughput = self.throughputs[self.trainer.stage]
            counter = MatmulCounter() if self.trainer.is_in_first_round else None
            with counter or nullcontext():
                step = next(steps, None)
            if step is None:
                return
            flops = None if counter is None else counter.get_total_flops()
            throughput.add(step.n_events, step.seconds, flops)
            yield step

    def _validate(self, step: Step, split: Split, log: TrainingLog) -> None:
        found = validate(self.trainer, split, self.watch.on_part)
        value = found[METRIC]
        if value > self.story.best:
            best = {"model": self.trainer.weights(), "win_shares": step.win_shares}
            self.folder.save("best", best)
        self.story.validations.append((step.epoch, value))
        log.write(step, {f"validation/{name}": number for name, number in found.items()})
        self.watch.on_validated(step, value)

    def _save(self) -> None:
        state = {"trainer": self.trainer.state_dict(), "story": asdict(self.story)}
        self.folder.save("checkpoint", state)
