"""supervisord as the long-lived launcher: its configuration, and a client for its socket.

supervisord starts nothing by itself: the launcher decides the order by health, and asks through
XML-RPC. From then on it watches: what dies is started again at once if it ran for START_SECONDS,
else after 1, 2, 3 ... seconds. It stops in the reverse order of the table.
"""

import http.client
import os
import pwd
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import psutil

from infra.stack.leftovers import MARKER
from infra.stack.services import Service
from infra.stack.state import StateFolder
from protos.errors import NotReady

GUARD = "guard"
START_SECONDS = 10
_RETRIES = 20
_CALL_S = 5.0
_STARTUP_S = 30.0

_FRAME = """\
; Written by `freshet up` for this run; changes are lost at the next.
[supervisord]
nodaemon = true
silent = true
logfile = {run}/supervisord.log
logfile_maxbytes = 1MB
logfile_backups = 1
pidfile = {run}/supervisord.pid
childlogdir = {state}/logs
minfds = 1024
{user}
[unix_http_server]
file = %(ENV_FRESHET_SUPERVISOR_SOCKET)s
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

_PROGRAM = """
[program:{name}]
command = {command}
{directory}priority = {priority}
autostart = {autostart}
autorestart = true
startsecs = {startsecs}
startretries = {retries}
stopsignal = {stop_signal}
stopwaitsecs = {stop_s}
stopasgroup = true
killasgroup = true
redirect_stderr = true
stdout_logfile = {state}/logs/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 1
"""

# Paths reach the file as references to the environment: the format has no way to quote them.
_STATE = "%(ENV_FRESHET_STATE)s"


def render_config(services: Sequence[Service], state: StateFolder) -> str:
    """Return supervisord's configuration for these services and the guard."""
    user = f"user = {pwd.getpwuid(0).pw_name}\n" if os.geteuid() == 0 else ""
    parts = [_FRAME.format(run=f"{_STATE}/run", state=_STATE, user=user), _guard_program()]
    for priority, service in enumerate(services, start=100):
        parts.append(_program(service, priority, state))
    return "".join(parts)


def _program(service: Service, priority: int, state: StateFolder) -> str:
    directory = service.directory and service.directory.relative_to(state.path)
    return _PROGRAM.format(
        name=service.name,
        command=quoted(service.command, service.environment),
        directory=f"directory = {_STATE}/{directory}\n" if directory else "",
        priority=priority,
        autostart="false",
        startsecs=START_SECONDS,
        retries=_RETRIES,
        stop_signal=service.stop_signal,
        stop_s=service.stop_s,
        state=_STATE,
    )


def _guard_program() -> str:
    return _PROGRAM.format(
        name=GUARD,
        command=quoted((sys.executable, "-m", "infra.stack.guard"), {}),
        directory="",
        priority=1,  # stopped last
        autostart="true",
        startsecs=0,
        retries=_RETRIES,
        stop_signal="TERM",
        stop_s=5,
        state=_STATE,
    )


def quoted(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return one line that supervisord's parser (comments, %-expansion, shlex) reads as this.

    The environment goes through env(1), as the parser's own `environment` cannot hold quotes.
    """
    words = [f"{name}={value}" for name, value in environment.items()]
    prefix = ["/usr/bin/env", *words] if words else []
    line = shlex.join([*prefix, *command]).replace("%", "%%")
    assert "\n" not in line, "the format has no way to write a line break"
    # What follows a blank and ; or # would be a comment, inside quotes too.
    for sign in ";#":
        line = line.replace(f" {sign}", f" '\"{sign}\"'")
    return line


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What supervisord knows of one service."""

    name: str
    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED or FATAL."""
    pid: int
    """0 when there is none."""
    since_ms: int


class Supervisor:
    """The supervisord of one state folder, whether it runs or not."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, services: Sequence[Service], environment: Mapping[str, str]) -> None:
        """Start supervisord, in a session of its own so that Ctrl-C does not reach it.

        Raises:
            NotReady: it did not come up.
        """
        state = self._state
        config = state.run / "supervisord.conf"
        config.write_text(render_config(services, state))
        added = {
            "FRESHET_STATE": str(state.path),
            "FRESHET_SUPERVISOR_SOCKET": str(state.socket),
            MARKER: state.state_id,
        }
        with (state.run / "supervisord.out").open("w") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
                env={**os.environ, **environment, **added},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _STARTUP_S
        while self.pid() is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (state.run / "supervisord.out").read_text().strip().splitlines()[:3]
                raise NotReady(f"supervisord did not start: {' '.join(said) or 'no answer'}")
            time.sleep(0.05)

    def pid(self) -> int | None:
        """Return supervisord's process id, None when it does not run or does not answer."""
        try:
            return int(self._call("getPID"))
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return None

    def start(self, name: str) -> None:
        """Ask for a service to be started; returns before it is."""
        self._call("startProcess", name, False)

    def services(self) -> dict[str, ServiceState]:
        """Return what is known of each service; empty when supervisord does not answer."""
        try:
            known = self._call("getAllProcessInfo")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return {}
        return {
            row["name"]: ServiceState(
                row["name"], row["statename"], row["pid"], row["start"] * 1000
            )
            for row in known
        }

    def shut_down(self, timeout_s: float, together: Sequence[str] = ()) -> bool:
        """Stop every service in reverse order, then supervisord; return whether it is gone.

        Args:
            together: services to tell at once, before the others hear of it.
        """
        pid = self.pid()
        if pid is None:
            return True
        try:
            process = psutil.Process(pid)
            for name in together:
                with suppress(xmlrpc.client.Fault):  # it does not run
                    self._call("stopProcess", name, False)
            self._call("shutdown")
            process.wait(timeout_s)
        except (OSError, http.client.HTTPException, xmlrpc.client.Error, psutil.TimeoutExpired):
            return False
        except psutil.NoSuchProcess:
            pass
        return True

    def reap(self) -> None:
        """Wait for a supervisord that this object launched and that has been stopped."""
        if self._process is not None:
            self._process.wait(_STARTUP_S)
            self._process = None

    # The types of XML-RPC answers are the server's word; the callers name them.
    def _call(self, method: str, *arguments: str | bool) -> Any:
        transport = _UnixTransport(self._state.socket)
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
            return cast(Any, getattr(server.supervisor, method)(*arguments))


class _UnixTransport(xmlrpc.client.Transport):
    """supervisor has one too, but without a time limit: a stopped supervisord would hold us."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _UnixConnection(self._path)
        self._connection = host, connection  # what `close` closes
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_CALL_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CALL_S)
        try:
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


def require_supervisor() -> None:
    """Raise NotReady when supervisor is not installed."""
    if find_spec("supervisor") is None:
        raise NotReady("supervisor is not installed; run: pip install 'freshet[stack]'")
