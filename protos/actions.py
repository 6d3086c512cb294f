"""The declared actions (actions.toml): names on the wire, codes in histories."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    code: int
    """u8; stands in histories for ever."""
    weight: float
    """What one event adds to trending."""
    polarity: int
    """1 wanted, -1 unwanted, 0 neither."""
    history: bool
    """False: counted in metrics only."""


@cache
def declared_actions() -> Mapping[str, Action]:
    """Return the actions by name. Codes are unique and below 256."""
    table = tomllib.loads(files("protos").joinpath("actions.toml").read_text())
    actions = {name: Action(name=name, **fields) for name, fields in table.items()}
    codes = [action.code for action in actions.values()]
    assert len(set(codes)) == len(codes), "actions.toml uses a code twice"
    assert all(0 <= code < 256 for code in codes), "actions.toml has a code outside u8"
    return actions


@cache
def actions_by_code() -> Mapping[int, Action]:
    """Return the same actions by the code that stands in histories."""
    return {action.code: action for action in declared_actions().values()}
