"""A pass compiled ahead of time for this machine (torch.export, AOTInductor), kept on disk.

Compiling takes most of a minute and a C++ compiler. It is done once for a model, a device, a
machine and this code; what comes of it loads in milliseconds and holds the model's weights.
"""

import os
import platform
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path

import structlog
import torch
import transformers
from torch import Tensor, nn
from torch.export import Dim, ShapesCollection
from torch.utils._pytree import tree_map_only

from encoder.unlocked import Run, cpp_compiler, loaded

FEW = 4
"""Rows of an example."""
N_KEPT = 12
"""Files in a folder: four passes of each of the newest models."""

log = structlog.get_logger(__name__)


def compiled(module: nn.Module, example: Sequence[object], folder: Path, model_version: str) -> Run:
    """Return the module, compiled; from the folder, if it is there. It takes all tensors of the
    inputs, in their order (`flat`), and returns those of the output.

    Args:
        module: takes and returns tensors, and dataclasses of them known to torch.export.
        example: inputs. The first dimension of each tensor may differ later, of each in its own
            way; all else stays. A compiler takes one row for another graph's, but what it makes
            for more computes one as well; no row, it does not.
        model_version: names the weights.

    Raises NotReady where there is no C++ compiler.
    """
    path = folder / f"{type(module).__name__}-{_digest(example, model_version)}.pt2"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        log.info("compiling", what=type(module).__name__, path=str(path))
        _compile(module, example, path)
        log.info("compiled", what=type(module).__name__, seconds=round(time.monotonic() - start))
        _drop_oldest(folder)
    return loaded(path, folder)


def flat(inputs: Iterable[object]) -> list[Tensor]:
    """Return the tensors of inputs: of dataclasses, those of their fields."""
    found: list[Tensor] = []
    for one in inputs:
        if isinstance(one, Tensor):
            found.append(one)
        elif is_dataclass(one):
            found += flat([getattr(one, field.name) for field in fields(one)])
    return found


def _compile(module: nn.Module, example: Sequence[object], path: Path) -> None:
    cpp_compiler()
    inputs = tree_map_only(Tensor, _few, tuple(example))
    shapes = ShapesCollection()
    for tensor in flat(inputs):
        shapes[tensor] = {0: Dim.DYNAMIC}
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch, torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
        built = f"{scratch}/{path.name}"
        torch._inductor.aoti_compile_and_package(program, package_path=built)
        os.replace(built, path)  # never half a file under its name


def _few(tensor: Tensor) -> Tensor:
    """Return some rows: a pool of slots has half a gigabyte, and nothing is read but shapes."""
    return tensor[torch.arange(FEW, device=tensor.device) % len(tensor)]


def _digest(example: Sequence[object], model_version: str) -> str:
    """Return a name for all that the compiled code depends on."""
    shapes = [(tuple(one.shape[1:]), one.dtype, one.device) for one in flat(example)]
    told = (model_version, shapes, torch.__version__, transformers.__version__)
    machine = (platform.node(), torch.backends.cpu.get_cpu_capability())
    digest = sha256(repr((told, machine)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _drop_oldest(folder: Path) -> None:
    """Keep what was made last."""
    files = sorted(folder.glob("*.pt2"), key=lambda file: file.stat().st_mtime)
    for file in files[:-N_KEPT]:
        file.unlink(missing_ok=True)
