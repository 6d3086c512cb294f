"""The processes of one training run: one, or several under torchrun."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Peers:
    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Self:
        """Meet the other processes that torchrun started, if it did."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        device = local_device(os.environ, torch.cuda.device_count())
        if device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL's own work, barriers too, goes to it
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def is_first(self) -> bool:
        """Whether this process shows, evaluates and writes."""
        return self.rank == 0

    def device(self) -> torch.device:
        return local_device(os.environ, torch.cuda.device_count())

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all processes the mean of their gradients; one that has none counts as zero."""
        if self.count == 1:
            return
        wanted = list(parameters)
        flat = torch.cat([_gradient(one).flatten() for one in wanted])
        dist.all_reduce(flat)
        flat /= self.count
        begin = 0
        for one in wanted:
            one.grad = flat[begin : begin + one.numel()].view_as(one).clone()
            begin += one.numel()

    def sum(self, counts: Tensor) -> Tensor:
        """Return the sum of all processes' counts."""
        if self.count == 1:
            return counts
        total = counts.to(self.device(), copy=True)
        dist.all_reduce(total)
        return total.to(counts.device)

    def agree(self, answer: bool) -> bool:
        """Return the first process's answer."""
        if self.count == 1:
            return answer
        said = torch.tensor([int(answer)], device=self.device())
        dist.broadcast(said, src=0)
        return bool(said.item())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def leave(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()


def local_device(environment: Mapping[str, str], n_gpus: int) -> torch.device:
    """Return a process's device: a GPU of its own, or the CPU where processes outnumber the GPUs.

    Args:
        environment: as torchrun leaves it.
        n_gpus: of this machine.
    """
    if n_gpus < int(environment.get("LOCAL_WORLD_SIZE", "1")):
        return torch.device("cpu")
    return torch.device("cuda", int(environment.get("LOCAL_RANK", "0")))


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
