"""How long work says how far it is, without knowing who shows it, or whether anybody does."""

from collections.abc import Callable

OnCount = Callable[[int, int], None]
"""(done, of)"""

OnPart = Callable[[str, int, int], None]
"""(what, done, of)"""


def uncounted(done: int, of: int) -> None:
    pass


def unheard(what: str, done: int, of: int) -> None:
    pass


def named(on_part: OnPart, what: str) -> OnCount:
    """Return who hears of one part."""

    def count(done: int, of: int) -> None:
        on_part(what, done, of)

    return count
