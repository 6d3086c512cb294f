"""Tensors on their way to the device that computes."""

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device. To a GPU it goes by pinned memory: nobody waits for
    the copy, and what is computed later on its stream finds it there."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
