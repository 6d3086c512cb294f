"""`freshet bench NAME`: benchmarks that judge the project (design section 8).

Each package registers its own (entry points, group freshet.benchmarks). A benchmark starts what it
needs, shows progress on standard error, and the last line on standard output is one JSON object,
whether or not it met its bar.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from protos.errors import InvalidInput

BENCHMARKS = "freshet.benchmarks"


@dataclass(frozen=True, slots=True)
class Result:
    """What a benchmark found. `bar` names figures with a sentence such as "< 60"; None when it has
    no bar."""

    figures: Mapping[str, Any]
    against: Mapping[str, Any] = field(default_factory=dict)
    """Measured beside it, in the same run."""
    bar: Mapping[str, str] = field(default_factory=dict)
    ok: bool = True


Benchmark = Callable[[bool], Result]
"""(quick) -> Result"""


def bench(
    name: Annotated[str | None, typer.Argument(help="Which one; without it, the list.")] = None,
    quick: Annotated[bool, typer.Option(help="Under two minutes; says so in the result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The list as JSON.")] = False,
) -> None:
    """Run a benchmark and print its result as one JSON line."""
    known = {entry.name: entry for entry in entry_points(group=BENCHMARKS)}
    if name is None:
        _list(sorted(known), as_json)
        return
    if name not in known:
        raise InvalidInput(f"no benchmark {name!r}; known: {', '.join(sorted(known)) or 'none'}")
    run: Benchmark = known[name].load()
    start = time.monotonic()
    result = run(quick)
    report = {"name": name, **asdict(result), "quick": quick, "machine": machine()}
    report |= {"commit": commit(), "seconds": round(time.monotonic() - start, 1)}
    typer.echo(json.dumps(report))


def _list(names: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(names))
        return
    table = Table("benchmark", "run it")
    for name in names:
        table.add_row(name, f"freshet bench {name} --quick")
    Console().print(table)


def machine() -> str:
    """Describe this machine in words, without naming it."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{os.cpu_count()} cores of {model}, {memory_gib:.0f} GiB, {platform.system()}"


def commit() -> str:
    """Return the checked-out commit, with "+" when the tree differs from it; "" outside a
    checkout."""
    here = Path(__file__).parent
    head = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
        cwd=here, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return head.stdout.strip()
