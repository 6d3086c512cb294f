"""How the C library gives freed memory back to the system."""

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's mallopt(3)."""


def keep_freed_memory() -> None:
    """Keep what is freed for the next who asks, instead of giving it back at once.

    Tensors of some MiB come and go with every batch; each time the system must map and clear their
    pages anew, which took a third of a batch of sixty users (docs/log.md). The process stays as
    large as it ever was. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(_TOP_PAD, 64 << 20)
