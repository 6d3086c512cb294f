"""The model's sizes: one flat frozen config, saved as config.json beside the weights.

Letters used in all modules of this package:

    B users or rows   S events of a segment   Q code levels   C centres of a level   D embedding
    K interests       M memory tokens         A blocks read   R recent items         N items
    W targets         H heads                 T tokens        P samples a row   F width of the LLM
"""

from dataclasses import asdict, dataclass, fields

from protos.errors import InvalidInput

TRANSFORMER, HSTU = "transformer", "hstu"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    dim: int = 64  # D
    n_interests: int = 4  # K
    n_levels: int = 4  # Q
    n_centres: int = 256  # C; a code is a byte
    segment_size: int = 128  # S
    n_memory: int = 4  # M
    n_blocks: int = 16  # A; newest closed segments that are read directly
    light_block: str = TRANSFORMER
    """Kind of the light recommender's layers: transformer or hstu."""
    light_layers: int = 2
    light_heads: int = 2
    light_width: int = 64
    recent_size: int = 32  # R
    kept_tokens: int = 1
    """Tokens an item keeps after the shallow layers; 0 keeps all."""
    max_item_tokens: int = 24
    """Longer texts are cut; [ITEM] is always the last token."""
    shallow_layers: int = 1
    middle_layers: int = 1
    deep_layers: int = 1
    temperature: float = 0.07
    dropout: float = 0.3
    tenant: str = "default"
    """Whose catalogue the per-item vectors belong to."""

    def __post_init__(self) -> None:
        sizes = [(f.name, getattr(self, f.name)) for f in fields(self) if f.type in (int, "int")]
        for name, value in sizes:
            least = 0 if name in ("kept_tokens", "n_memory") else 1
            if value < least:
                raise InvalidInput(f"model config: {name} is {value}, it must be {least} or more")
        if self.light_block not in (TRANSFORMER, HSTU):
            raise InvalidInput(
                f"model config: light_block is {self.light_block!r}, not {TRANSFORMER} or {HSTU}"
            )
        if self.n_centres > 256:
            raise InvalidInput(f"model config: n_centres is {self.n_centres}, a code has 8 bits")
        if not 0 <= self.dropout < 1:
            raise InvalidInput(
                f"model config: dropout is {self.dropout}, it must be from 0 to below 1"
            )
        if not self.temperature > 0:
            raise InvalidInput(
                f"model config: temperature is {self.temperature}, it must be more than 0"
            )
        if self.recent_size % 2:
            raise InvalidInput(f"model config: recent_size is {self.recent_size}, it must be even")
        if self.light_width % (2 * self.light_heads):
            raise InvalidInput("model config: light_width must be a multiple of 2 * light_heads")

    @property
    def n_kept(self) -> int:
        return self.kept_tokens or self.max_item_tokens

    @property
    def block_bytes(self) -> int:
        """Keys and values (f16) of the memory tokens of one closed segment, all layers."""
        return self.light_layers * 2 * self.n_memory * self.light_width * 2

    @property
    def block_depth(self) -> int:
        """How many segments before a closed one its memory can depend on: each layer but the first
        reads what the layer below wrote, `n_blocks` further back."""
        return (self.light_layers - 1) * self.n_blocks

    def window_start(self, n_events: int) -> int:
        """Where the window of recent items begins, counted from the first event ever.

        A function of the count alone, so every replica cuts it alike; R/2 to R-1 items, and it
        moves only every R/2 events.
        """
        half = self.recent_size // 2
        return max(0, (n_events // half - 1) * half)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)
