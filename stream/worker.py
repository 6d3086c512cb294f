"""The stream worker: `python -m stream.worker`.

Folds rec.events into histories, keeps them exact through any crash, and has the encoder turn what
moved into new interests; see stream/app.py for the parts.

Ready: the metrics endpoint (FRESHET_STREAM_METRICS_PORT) answers from the moment that the worker
has joined its group, recovered its state, and is about to read events; so `GET /metrics` answering
200 means ready. During a later rebalance it goes on answering, with freshet_stream_ready 0.

Exit: 0 after SIGTERM or SIGINT, with all that was folded checkpointed. Anything that could lose an
event (a checkpoint that failed, a follower that ended) ends the process at once with 70, and
whoever supervises it starts it again: the log has what was not durable.
"""

import asyncio
import os
import sys
from collections.abc import Callable

import faust
import structlog

from infra.kafka_topics import Topics, ensure_topics
from infra.metrics import serve_metrics
from infra.process import process
from infra.settings import SharedSettings
from stream.app import StreamService
from stream.metrics import WorkerMetrics
from stream.settings import StreamSettings, worker_folder

log = structlog.get_logger(__name__)

EX_SOFTWARE = 70


def run(shared: SharedSettings, settings: StreamSettings) -> None:
    """Serve until a signal. Raises SystemExit with the exit code."""
    topics = Topics(shared.topic_prefix)
    ensure_topics(shared.kafka_bootstrap, topics, n_partitions=shared.n_partitions)
    worker_folder(shared.state, settings.instance).mkdir(parents=True, exist_ok=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    service = StreamService(
        shared,
        settings,
        metrics=WorkerMetrics(),
        on_ready=_serve_metrics_once(settings.metrics_port),
        on_failure=_die,
    )
    worker = faust.Worker(
        service.app,
        service,
        loop=loop,
        quiet=True,
        override_logging=False,
        redirect_stdouts=False,
    )
    worker.spinner = None  # it draws on terminals only, but hides the cursor of any
    worker.execute_from_commandline()


def _serve_metrics_once(port: int) -> Callable[[], None]:
    served = False

    def serve() -> None:
        nonlocal served
        if not served:
            served = True
            serve_metrics(port)
            log.info("worker_ready")

    return serve


def _die(error: BaseException) -> None:
    """End the process now: no shutdown hook may commit what is not durable."""
    sys.stderr.flush()
    os._exit(EX_SOFTWARE)


def main() -> None:
    with process("stream.worker", StreamSettings) as (shared, settings):
        run(shared, settings)


if __name__ == "__main__":
    main()
