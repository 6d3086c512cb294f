"""What a run leaves behind while it trains: `<bundle>.run/`, beside the bundle it will become.

    run.json       what decides the result; another run does not continue this one
    inputs.json    digests of what it reads, from which start/ was made
    start/         a bundle: what training starts from
    checkpoint.pt  the newest whole state
    best.pt        the weights that did best on the validation split
    log.csv        a line every few steps, and one for each validation
    tensorboard/   the same, as TensorBoard reads it

A killed run is continued by the same command. Files are written beside their place and renamed, so
none is ever half there. A run that ends keeps log.csv and tensorboard/ only.

Only a folder that holds nothing else is ever emptied.
"""

import json
import os
import shutil
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import torch

from encoder.bundle import Bundle, load_bundle, save_bundle
from infra.stack.state import write_atomically
from protos.errors import InvalidInput, NotReady

OURS = (
    *("run.json", "inputs.json", "start", "checkpoint.pt", "best.pt", "log.csv", "tensorboard"),
    *("run.json.*.part", "inputs.json.*.part", ".start*", ".checkpoint.pt", ".best.pt"),
)
"""Patterns of the names that stand in a run folder, whole or half written."""


class RunFolder:
    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.run")

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def claim(self, decides: Mapping[str, object]) -> None:
        """Make the folder this run's, or continue it.

        Args:
            decides: JSON; what the result depends on.

        Raises InvalidInput when another run that has not ended stands there, or something that is
        no run.
        """
        said = json.dumps(decides, indent=1, sort_keys=True)
        file = self.path / "run.json"
        if file.exists() and file.read_text() != said:
            raise InvalidInput(
                f"{self.path} holds another run that has not ended; run its command again to "
                "continue it, remove the folder to give it up, or choose another --out"
            )
        if not file.exists():
            self._refuse_foreign()
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            write_atomically(file, said)

    def claim_inputs(self, inputs: Mapping[str, str]) -> None:
        """Take note of what the run reads. Call it after `claim`, before there is a start.

        Args:
            inputs: digests, by what they are of in words: "the catalogue".

        Raises InvalidInput when the run began with others.
        """
        file = self.path / "inputs.json"
        began = json.loads(file.read_text()) if self.has_start and file.exists() else dict(inputs)
        changed = [name for name in inputs if began.get(name) != inputs[name]]
        if changed:
            raise InvalidInput(
                f"{' and '.join(changed)} changed since the run in {self.path} began; remove that "
                "folder to begin anew, or choose another --out"
            )
        write_atomically(file, json.dumps(dict(inputs), indent=1))

    def _refuse_foreign(self) -> None:
        if not self.path.exists():
            return
        held = sorted(one.name for one in self.path.iterdir()) if self.path.is_dir() else [""]
        strange = [name for name in held if not any(fnmatchcase(name, one) for one in OURS)]
        if strange:
            raise InvalidInput(
                f"{self.path / strange[0]} is not of a run, so {self.path} is not emptied for one; "
                "move it away, or choose another --out"
            )

    @property
    def has_start(self) -> bool:
        return (self.path / "start").exists()

    def load_start(self) -> Bundle:
        return load_bundle(self.path / "start")

    def save_start(self, bundle: Bundle) -> None:
        save_bundle(bundle, self.path / "start")

    def load(self, name: str, device: torch.device) -> dict[str, Any] | None:
        """Return a saved state (checkpoint, best), None when there is none yet."""
        file = self.path / f"{name}.pt"
        if not file.exists():
            return None
        try:
            return cast(dict[str, Any], torch.load(file, map_location=device, weights_only=True))
        except Exception as error:
            raise NotReady(f"{file} is damaged ({error}); remove it to begin anew") from error

    def save(self, name: str, state: Mapping[str, object]) -> None:
        fresh = self.path / f".{name}.pt"
        with fresh.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path / f"{name}.pt")

    def finish(self) -> None:
        """Keep only what people read afterwards."""
        for name in ("checkpoint.pt", "best.pt", "inputs.json", "run.json"):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / "start", ignore_errors=True)
