"""Photos of several requests in one call of the model. Imports neither TensorFlow nor a web framework."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class OverloadedError(Exception):
    """The queue is full; the photos of this request were not accepted."""


@dataclass(frozen=True)
class BatchLimits:
    """What a batch and the queue hold.

    batch_items: most items in one call. batch_weight: most weight in one call, unless one item alone is heavier.
    queued_items: most items that are accepted and not yet answered. wait_seconds: how long the first item of a batch
    waits for items that are accepted and not yet ready.
    """

    batch_items: int = 32
    batch_weight: int = 50_000_000
    queued_items: int = 256
    wait_seconds: float = 0.005


@dataclass
class _Waiting(Generic[Key, Item]):
    key: Key
    item: Item
    weight: int
    arrived: float
    answer: asyncio.Future[Any] = field(repr=False)


class Batcher(Generic[Key, Item]):
    """Gathers items with one key, in the order in which they came, and hands them to one call at a time.

    All methods are called in one event loop.

    Attributes:
      accepted: items that are accepted and not yet answered.
    """

    def __init__(self, run: Callable[[Key, list[Item]], Awaitable[Sequence[Any]]], limits: BatchLimits):
        """
        Args:
          run: gives a result for each item, in order; a result that is an exception is raised for its item alone.
        """
        self._run = run
        self._limits = limits
        self._waiting: deque[_Waiting[Key, Item]] = deque()
        self._arrived = asyncio.Event()
        self.accepted = 0

    @contextlib.contextmanager
    def accept(self, items: int) -> Iterator[None]:
        """Reserves room for the items of a request until it is answered.

        Raises:
          OverloadedError: there is no room.
        """
        if self.accepted + items > self._limits.queued_items:
            raise OverloadedError
        self.accepted += items
        try:
            yield
        finally:
            self.accepted -= items

    async def answer(self, key: Key, item: Item, weight: int = 0) -> Any:
        """The result for one item.

        Raises:
          Exception: what `run` raised, or gave in place of this item's result.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(key, item, weight, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def work(self) -> None:
        """Answers items until it is cancelled."""
        while True:
            batch = await self._next_batch()
            if not batch:
                continue
            try:
                results = await self._run(batch[0].key, [waiting.item for waiting in batch])
            except Exception as error:
                results = [error] * len(batch)
            for waiting, result in zip(batch, results, strict=True):
                if waiting.answer.done():  # its request gave up
                    continue
                if isinstance(result, Exception):
                    waiting.answer.set_exception(result)
                else:
                    waiting.answer.set_result(result)

    async def _next_batch(self) -> list[_Waiting[Key, Item]]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        loop = asyncio.get_running_loop()
        until = self._waiting[0].arrived + self._limits.wait_seconds
        # Nobody is waited for who has not been accepted: a lone request is answered at once.
        while self._size() == len(self._waiting) < min(self._limits.batch_items, self.accepted):
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), until - loop.time())
            except asyncio.TimeoutError:
                break
        batch = [self._waiting.popleft() for _ in range(self._size())]
        return [waiting for waiting in batch if not waiting.answer.done()]

    def _size(self) -> int:
        """How many of the first items go into one call."""
        first, weight = self._waiting[0], 0
        for i, waiting in enumerate(self._waiting):
            weight += waiting.weight
            if i == self._limits.batch_items or waiting.key != first.key:
                return i
            if i and weight > self._limits.batch_weight:
                return i
        return len(self._waiting)
