"""Work shared out among processes that know nothing of each other, such as the tasks of an array.

What a shard makes depends on its number alone, never on what is there already, so shards that run at
the same time never make the same thing. Each looks for what is missing in its own share only.
"""

import logging
import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import BeforeValidator

T, R = TypeVar("T"), TypeVar("R")
log = logging.getLogger(__name__)
ALL = "1/1"
"""The shard that is everything."""


def checked(text: object) -> str:
    """`2/4`: the second of four."""
    found = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", str(text))
    if not found or int(found[1]) > int(found[2]):
        raise ValueError(f"'{text}' is no shard; the second of four is 2/4, and 4/4 the last")
    return str(text)


Shard = Annotated[str, BeforeValidator(checked)]
"""Which share of the work a process does; a setting."""


def share(items: list[T], shard: str) -> list[T]:
    """Every fourth item for a part of four: all shards together are all items, each of them once.

    Shares differ by one item at most, and like items that stand together are spread over them.
    """
    number, of = map(int, shard.split("/"))
    return items[number - 1 :: of]


def tell(shard: str, missing: int, total: int, things: str) -> None:
    """Say, where a shard is done before the others, that it is no error that things are missing."""
    if missing:
        log.info(
            "shard %s is done; %d of %d %s are still for other shards to make",
            *(shard, missing, total, things),
        )


def sum_up(made: Callable[[], list[T]], write: Callable[[list[T]], R]) -> R:
    """Write what sums up all that is made; again, as long as other shards made more meanwhile."""
    now = made()
    while True:
        before, result = now, write(now)
        now = made()
        if now == before:
            return result
