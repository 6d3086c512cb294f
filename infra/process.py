"""What every process of ours does around its own work.

    def main() -> None:
        with process("encoder", EncoderSettings) as (shared, settings):
            asyncio.run(serve(shared, settings))

and, as the first thing that `serve` does: `stop = catch_signals()`; as the last: `await stop`.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from infra.garbage import freeze_survivors
from infra.logs import configure_logs
from infra.settings import SharedSettings, describe, refuse_unknown_environment
from protos.errors import FreshetError

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=BaseSettings)


@contextmanager
def process(name: str, settings: type[S]) -> Iterator[tuple[SharedSettings, S]]:
    """Read the settings of a process, set up its logs, keep its collections of garbage short.

    An error raised on purpose ends it with exit code 1 and one line that says what to do; whatever
    else escapes keeps its traceback.
    """
    end_freezing = freeze_survivors()
    try:
        refuse_unknown_environment(settings)
        shared, own = SharedSettings(), settings()
        configure_logs(name, log_format=shared.log_format, level=shared.log_level)
        yield shared, own
    except FreshetError as error:
        log.error("cannot_go_on", reason=error.reason(), message=str(error))
        sys.exit(1)
    except ValidationError as error:
        log.error("cannot_read_settings", message=describe(error))
        sys.exit(1)
    finally:
        end_freezing()


def catch_signals() -> "asyncio.Future[str]":
    """From now on SIGTERM and SIGINT do not kill; the first one completes the future.

    Called before anything says that the process is ready: who hears that may stop it at once.
    """
    loop = asyncio.get_running_loop()
    caught: asyncio.Future[str] = loop.create_future()

    def catch(number: signal.Signals) -> None:
        log.info("stopping", signal=number.name)
        if not caught.done():
            caught.set_result(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, catch, number)
    return caught
