"""One file a training run: what to learn from, the model's sizes, the recipe.

    data = "ml-1m"
    out = "bundles/ml-1m"

    [model]              # encoder/config.py
    n_interests = 4

    [recipe]             # encoder/recipe.py
    epochs = 20

Paths are relative to the file. What it leaves out is as the two modules say. A name that is not
known is an error.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from encoder.config import ModelConfig
from encoder.recipe import Recipe
from infra.settings import hint
from protos.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    data: str = "ml-100k"
    """A known data set, or the path of one."""
    out: Path | None = None
    """The bundle. Default <state>/bundle."""
    until: float | None = None
    """Share of all events, in the order of their times, that may be learned from; None: all but
    each user's last event."""
    llm: Path | None = None
    """A local checkpoint of the Llama, Qwen or Mistral kind; None: a small LLM, at random."""
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.until is not None and not 0 < self.until < 1:
            raise InvalidInput(f"until is {self.until}, it must lie between 0 and 1")
        wanted = 2 * self.model.n_interests
        if self.recipe.n_targets < wanted:
            raise InvalidInput(
                f"n_targets is {self.recipe.n_targets}, it must be 2 * n_interests or more; "
                f"set n_targets = {wanted} under [recipe], or lower n_interests"
            )
        if self.recipe.lora_rank and self.llm is None:
            raise InvalidInput(
                f"lora_rank is {self.recipe.lora_rank}, but there is no llm for adapters to stand "
                "in; set llm to a checkpoint's folder, or leave lora_rank out"
            )

    def to_dict(self) -> dict[str, object]:
        """Return what decides the result."""
        return {
            "data": self.data,
            "until": self.until,
            "llm": None if self.llm is None else self.llm.name,
            "model": self.model.to_dict(),
            "recipe": self.recipe.to_dict(),
        }


def read_run(path: Path) -> Run:
    """Raises InvalidInput when it cannot be read, or says what is not known."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} is no run file: {error}") from error
    table["model"] = _made(ModelConfig, table.get("model", {}), f"{path} [model]")
    table["recipe"] = _made(Recipe, table.get("recipe", {}), f"{path} [recipe]")
    run = _made(Run, table, str(path))
    beside = {name: getattr(run, name) for name in ("out", "llm")}
    return dataclasses.replace(run, **{k: v and path.parent / v for k, v in beside.items()})


def _made(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    if not isinstance(table, Mapping):
        raise InvalidInput(f"{where} must be a table")
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in table:
        if name not in known:
            raise InvalidInput(f"{where}: {name} is not known; {hint(name, known)}")
    try:
        return TypeAdapter(kind).validate_python(table, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidInput(f"{where}: {name}: {first['msg']}") from error
