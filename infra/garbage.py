"""How long Python's collector of cycles stops a process.

A full collection looks at every container there is, and meanwhile nothing moves: 90 to 230 ms in a
process that holds some tens of thousands of items and users (docs/log.md). Hardly anything of that
is garbage: what leaves a cache is freed by its count of references. So what survives a collection
is frozen, and the next one looks at what came since. Once an hour it looks at all, for cycles in
what was frozen.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

FREEZE_EVERY_S = 10.0
"""At most: what is under way at that moment is frozen too, and may leave cycles behind."""
THAW_EVERY_S = 3600.0


def freeze_survivors(*, clock: Callable[[], float] = time.monotonic) -> Callable[[], None]:
    """Freeze what survives full collections from now on; return what ends that."""
    thawed_s, frozen_s = clock(), clock() - FREEZE_EVERY_S

    def watch(phase: str, info: dict[str, Any]) -> None:
        nonlocal thawed_s, frozen_s
        if info["generation"] < 2:
            return
        now_s = clock()
        if phase == "start" and now_s - thawed_s >= THAW_EVERY_S:
            thawed_s = now_s
            gc.unfreeze()
        if phase == "stop" and now_s - frozen_s >= FREEZE_EVERY_S:
            frozen_s = now_s
            gc.freeze()

    gc.callbacks.append(watch)
    return lambda: gc.callbacks.remove(watch)
