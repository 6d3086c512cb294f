"""`freshet up | down | status | logs`."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from types import FrameType
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from infra.stack.guard import is_alive
from infra.stack.health import Row, status_rows
from infra.stack.launcher import AlreadyUp, Stack
from infra.stack.log_stream import LogStream, last_lines
from infra.stack.plan import parse_names
from infra.stack.services import NAMES
from infra.stack.state import StateFolder
from infra.stack.supervision import GUARD
from protos.errors import InvalidInput, NotReady

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")
# Files under logs/ that are worth following: the parts', and the guard's.
_FOLLOWED = (*NAMES, GUARD)
_PUMP_S = 0.2
_WIDTH = max(len(name) for name in _FOLLOWED)


class TerminalNarrator:
    """Says what is done in lines, and what is under way beside a spinner."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None

    def doing(self, text: str) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def done(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def rest(self) -> None:
        """Take the spinner away."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def up(
    only: Annotated[
        str | None,
        typer.Option(help=f"Start only these, by commas: {', '.join(NAMES)}."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything is healthy.")
    ] = False,
    owner: Annotated[
        int | None,
        typer.Option(metavar="PID", help="With --detach: stop when that process ends."),
    ] = None,
) -> None:
    """Start Kafka, Milvus and Freshet here, and follow their logs until Ctrl-C."""
    wanted = parse_names(only)
    if owner is not None and not (detach and is_alive(owner)):
        raise InvalidInput("--owner names a living process, and goes with --detach")
    narrator = TerminalNarrator(Console())
    stack = Stack(StateFolder.at(), narrator)
    is_started = False
    with _signals_interrupt():
        try:
            outcome = stack.up(wanted)
            if isinstance(outcome, AlreadyUp):
                _say_already_up(stack, wanted, outcome.names)
                return
            is_started = True
            narrator.rest()
            narrator.done(f"everything is up; state folder {stack.state.path}")
            if detach:
                stack.hand_over(owner)
                narrator.done("stop it with: freshet down")
                return
            narrator.done("stop it with Ctrl-C; its logs follow")
            _follow(stack)
        except KeyboardInterrupt:
            _stop_after_interrupt(stack, narrator, is_started)
        finally:
            narrator.rest()


def _stop_after_interrupt(stack: Stack, narrator: TerminalNarrator, is_started: bool) -> None:
    # One Ctrl-C is enough: the stop has time limits of its own.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    narrator.rest()
    narrator.doing("stopping")
    stack.down()
    narrator.rest()
    narrator.done("stopped")
    if not is_started:
        raise typer.Exit(130)


def _say_already_up(stack: Stack, wanted: frozenset[str], names: frozenset[str]) -> None:
    if missing := sorted(wanted - names):
        raise NotReady(
            f"the stack in {stack.state.path} is already up, without {', '.join(missing)}; "
            "to start it with everything: freshet down, then freshet up"
        )
    Console().print(
        f"already up in {stack.state.path}: {', '.join(n for n in NAMES if n in names)}; "
        "see it with: freshet status",
        soft_wrap=True,
        highlight=False,
    )


def _follow(stack: Stack) -> None:
    """Write the logs until the stack is gone; say so, and fail, when that was a crash."""
    pid = stack.supervisor.pid()
    with closing(LogStream(stack.state.logs, _FOLLOWED, _line_writer(Console()))) as logs:
        while pid is not None and is_alive(pid):
            logs.pump()
            time.sleep(_PUMP_S)
        logs.pump()
    if not (stack.state.run / "supervisord.pid").exists():
        Console().print("the stack was stopped")  # in order: by `freshet down`
        return
    stack.down()
    raise NotReady("supervisord was killed; everything is stopped now. Start again: freshet up")


def down(
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Delete all its data too: logs, histories, items, model."),
    ] = False,
) -> None:
    """Stop everything that runs for this state folder."""
    console = Console()
    narrator = TerminalNarrator(console)
    stack = Stack(StateFolder.at(), narrator)
    was_running = stack.is_running()
    try:
        stopped = stack.down()
    finally:
        narrator.rest()
    if stopped:
        narrator.done(f"stopped what a crash had left: {', '.join(stopped)}")
    narrator.done("stopped" if was_running else f"nothing is up in {stack.state.path}")
    if purge:
        _purge(stack.state, narrator)


def _purge(state: StateFolder, narrator: TerminalNarrator) -> None:
    if not state.path.exists():
        narrator.done(f"{state.path} does not exist; nothing to delete")
        return
    if not state.is_ours():
        state.purge()  # says why not
    with state.locked():
        left = state.purge()
    rest = f"; left what is not Freshet's: {', '.join(left)}" if left else ""
    narrator.done(f"emptied {state.path}{rest}")


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show each process: health, address, pid, since when, memory. Exits 1 unless all is well."""
    state = StateFolder.at()
    rows = status_rows(Stack(state, TerminalNarrator(Console(stderr=True))))
    if as_json:
        record = {"state": str(state.path), "parts": [row.as_json() for row in rows]}
        sys.stdout.write(json.dumps(record) + "\n")
    elif rows:
        Console().print(_table(rows))
    else:
        Console().print(f"nothing is up in {state.path}; start it with: freshet up", soft_wrap=True)
    if not rows or not all(row.is_healthy for row in rows):
        raise typer.Exit(1)


def _table(rows: list[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fits 80 columns
    for column in ("name", "state", "health", "address", "pid", "up for"):
        table.add_column(column, no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    for row in rows:
        health = Text("healthy", "green") if row.is_healthy else Text("unhealthy", "bold red")
        pid = str(row.pid) if row.pid is not None else ""
        table.add_row(
            row.name,
            row.state,
            health,
            row.address,
            pid,
            _up_for(row.since_ms, time.time()),
            _megabytes(row.memory_bytes),
        )
    return table


def _up_for(since_ms: int | None, now_s: float) -> str:
    if since_ms is None:
        return ""
    return str(timedelta(seconds=max(0, round(now_s - since_ms / 1000))))


def _megabytes(n_bytes: int | None) -> str:
    return f"{n_bytes / 2**20:,.0f} MB" if n_bytes is not None else ""


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Whose; all of them by default.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    n: Annotated[int, typer.Option("-n", min=0, help="Lines of each log to begin with.")] = 20,
) -> None:
    """Show the logs of the local stack, each line with its process's name."""
    chosen = names or list(_FOLLOWED)
    if unknown := sorted(set(chosen) - set(_FOLLOWED)):
        known = ", ".join(_FOLLOWED)
        raise InvalidInput(f"no log is called {unknown[0]!r}; there are {known}")
    state, write = StateFolder.at(), _line_writer(Console())
    with closing(LogStream(state.logs, chosen, write)) as stream:
        for name in chosen:
            for line in last_lines(state.logs / f"{name}.log", n):
                write(name, line)
        try:
            while follow:
                stream.pump()
                time.sleep(_PUMP_S)
        except KeyboardInterrupt:
            return  # how following ends


def _line_writer(console: Console) -> Callable[[str, str], None]:
    """Return what writes one line of a log with its service's name in front."""

    def write(name: str, line: str) -> None:
        colour = _COLOURS[_FOLLOWED.index(name) % len(_COLOURS)]
        text = Text(f"{name:<{_WIDTH}} | ", style=colour)
        console.print(text.append_text(Text.from_ansi(line)), soft_wrap=True, highlight=False)

    return write


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a closed terminal) end the block as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
