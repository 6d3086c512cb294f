"""What a run says of itself: a CSV file and TensorBoard, appended to by a run that was resumed.

Losses are means since the line before, win shares those of an epoch. A resumed run repeats the
lines since its checkpoint.
"""

import csv
import time
from collections import defaultdict
from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from encoder.run_folder import RunFolder
from encoder.trainer import Step

EVERY_STEPS = 20
COLUMNS = ("at_s", "stage", "epoch", "step", "name", "value")


class TrainingLog:
    def __init__(self, folder: RunFolder) -> None:
        self._file = folder.log.open("a", newline="")
        self._rows = csv.writer(self._file)
        if folder.log.stat().st_size == 0:
            self._rows.writerow(COLUMNS)
        self._board = SummaryWriter(str(folder.tensorboard))
        self._start = time.time()
        self._sums: dict[str, float] = defaultdict(float)
        self._n_steps = self._n_events = 0
        self._seconds = 0.0

    def close(self) -> None:
        self._file.close()
        self._board.close()

    def step(self, step: Step) -> None:
        for name, loss in step.losses.items():
            self._sums[name] += loss
        self._n_steps += 1
        self._n_events += step.n_events
        self._seconds += step.seconds
        if self._n_steps >= EVERY_STEPS or step.ends_epoch:
            means = {f"loss/{name}": total / self._n_steps for name, total in self._sums.items()}
            self.write(step, means | {"events_per_s": self._n_events / max(1e-9, self._seconds)})
            self._sums.clear()
            self._n_steps = self._n_events = 0
            self._seconds = 0.0
        for name, shares in step.win_shares.items():
            self.write(step, {f"win_share/{name}/{n}": won for n, won in enumerate(shares)})

    def write(self, step: Step, values: Mapping[str, float]) -> None:
        """Write values as of a step."""
        at_s = round(time.time() - self._start, 1)
        for name, value in values.items():
            self._rows.writerow([at_s, step.stage, step.epoch, step.n_done, name, f"{value:.6g}"])
            self._board.add_scalar(name, value, step.n_done)
        self._file.flush()
