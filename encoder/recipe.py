"""How a model is trained: one flat frozen config, stored in the bundle's metrics.json."""

import math
from dataclasses import asdict, dataclass, fields, replace

from protos.errors import InvalidInput

FROM_ZERO = ("seed", "warm_epochs", "coder_steps", "validation_users", "patience", "lora_rank")
"""Other counts are 1 or more."""
SHARES = ("vector_dropout", "target_decay")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults are what MovieLens-100K wants within two minutes on two cores (docs/log.md)."""

    seed: int = 0
    epochs: int = 3
    warm_epochs: int = 8
    """First, epochs in which the light recommender alone learns the next item at every event."""
    learning_rate: float = 2e-3
    tower_rate: float = 3.0
    """Times the learning rate, for the item tower, which steps more rarely."""
    tower_every: int = 4
    """Batches that share one encoding of the items that they are scored against."""
    n_candidates: int = 8192
    """These items: the whole catalogue, or so many drawn from a larger one."""
    weight_decay: float = 0.01
    coder_steps: int = 80
    vector_dropout: float = 0.1
    """Share of items that work from their text alone, anew for each encoding."""
    dmil_weight: float = 0.3
    served_weight: float = 1.0
    next_weight: float = 0.5
    llm_next: bool = False
    """Whether the LLM, too, learns the next item after each item of a window."""
    target_decay: float = 0.8
    n_targets: int = 8
    n_windows: int = 2
    n_samples: int = 4
    rows_a_batch: int = 32
    validation_users: int = 500
    """Whose last event but the test's is held out of training, to choose the best epoch."""
    patience: int = 3
    """Epochs without a better NDCG@10 on them, after which training ends; 0 trains to the end and
    takes the last weights."""
    lora_rank: int = 0
    """Of the adapters by which the LLM's layers learn; 0 trains the layers themselves."""
    bf16: bool = False
    """Multiply matrices in bf16."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # Written so that a NaN is refused too.
            if field.name in SHARES:
                is_allowed, allowed = 0 <= value <= 1, "from 0 to 1"
            elif field.name == "learning_rate":
                is_allowed, allowed = 0 < value < math.inf, "more than 0"
            elif field.type in (int, "int") and field.name not in FROM_ZERO:
                is_allowed, allowed = value >= 1, "1 or more"
            else:
                is_allowed, allowed = 0 <= value < math.inf, "0 or more"
            if not is_allowed:
                raise InvalidInput(f"recipe: {field.name} is {value}, it must be {allowed}")

    def quick(self) -> "Recipe":
        """Return the recipe for a bundle within a minute, good for tests of plumbing only."""
        return replace(
            self,
            epochs=1,
            warm_epochs=1,
            coder_steps=30,
            n_windows=1,
            n_samples=2,
            validation_users=0,
        )

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
