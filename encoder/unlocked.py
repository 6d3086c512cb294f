"""Builds and loads unlocked.cpp: models that run while other threads of Python do.

With PyTorch's own binding a worker's event loop stood still for half of the time under load. It is
built once for a machine and a version of torch, in a quarter of a minute.
"""

import importlib.util
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler
from torch.utils.cpp_extension import include_paths, library_paths

from protos.errors import NotReady

Run = Callable[[list[Tensor]], list[Tensor]]

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O1", "-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden")
LIBRARIES = ("torch_python", "torch", "torch_cpu", "c10")


def loaded(package: Path, folder: Path) -> Run:
    """Return what runs a compiled model: all inputs in, all outputs out.

    Args:
        package: a file of AOTInductor's.
        folder: where the built extension is kept.

    Raises NotReady where it cannot be built.
    """
    library = folder / f"unlocked-{_digest()}.so"
    if not library.exists():
        _build(library)
    spec = importlib.util.spec_from_file_location("unlocked", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Run = module.Loader(str(package)).run
    return run


def cpp_compiler() -> str:
    """Return the C++ compiler. Raises NotReady where there is none."""
    try:
        return str(get_cpp_compiler())
    except InvalidCxxCompiler as error:
        raise NotReady(
            "there is no C++ compiler to compile the model with; install g++, or unset "
            "FRESHET_ENCODER_COMPILE"
        ) from error


def _build(library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{path}" for path in (*include_paths(), sysconfig.get_paths()["include"])]
    links = [*(f"-L{path}" for path in library_paths()), *(f"-l{name}" for name in LIBRARIES)]
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        built = f"{scratch}/{library.name}"
        command = [cpp_compiler(), *FLAGS, str(SOURCE), "-o", built, *includes, *links]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            said = errors[0] if errors else f"it ended with {done.returncode}"
            raise NotReady(
                f"the C++ compiler did not build {SOURCE.name}: {said}; it needs the headers of "
                "Python, or unset FRESHET_ENCODER_COMPILE"
            )
        os.replace(built, library)  # never half a file under its name


def _digest() -> str:
    """Return a name for all that the built code depends on."""
    told = (SOURCE.read_bytes(), torch.__version__, sysconfig.get_config_var("SOABI"), FLAGS)
    return sha256(repr(told).encode()).hexdigest()[:16]
