"""LoRA (arXiv 2106.09685, by peft): a large LLM learns by small matrices beside its own.

Training holds optimizer states for the adapters only; a bundle has them merged, so serving knows
nothing of them.
"""

from typing import cast

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def add_adapters(llm: nn.Module, rank: int) -> PeftModel:
    """Freeze a transformers model and put adapters into its layers, in place."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS))
    return cast(PeftModel, get_peft_model(llm, config))


def merge_adapters(adapters: PeftModel) -> None:
    """Add them to the weights that they stand beside, and take them out, in place."""
    adapters.merge_and_unload()
