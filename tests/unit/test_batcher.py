"""The micro-batcher: what it gathers, what it keeps apart, and what it refuses."""

import asyncio

import pytest

from deploy.serve.batcher import Batcher, BatchLimits, OverloadedError


class Calls:
    """A model that doubles numbers, slowly, and keeps what it was asked."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.asked: list[tuple[str, list[int]]] = []

    async def run(self, key: str, items: list[int]) -> list:
        self.asked.append((key, items))
        await asyncio.sleep(self.seconds)
        if key == "broken":
            raise RuntimeError("broken")
        return [ValueError(item) if item < 0 else 2 * item for item in items]


def answers(calls: Calls, asked: list[tuple], limits: BatchLimits) -> list:
    """What each of `asked`, (key, item[, weight]), gets; all are accepted first."""

    async def main() -> list:
        batcher = Batcher(calls.run, limits)
        worker = asyncio.create_task(batcher.work())
        with batcher.accept(len(asked)):
            found = await asyncio.gather(*(batcher.answer(*one) for one in asked), return_exceptions=True)
        worker.cancel()
        assert batcher.accepted == 0
        return found

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_items_are_answered_in_one_call():
    calls = Calls()
    assert answers(calls, [("a", i) for i in range(5)], BatchLimits()) == [0, 2, 4, 6, 8]
    assert calls.asked == [("a", [0, 1, 2, 3, 4])]


def test_a_batch_is_never_larger_than_allowed():
    calls = Calls()
    assert answers(calls, [("a", i) for i in range(7)], BatchLimits(batch_items=3)) == [2 * i for i in range(7)]
    assert [len(items) for _, items in calls.asked] == [3, 3, 1]


def test_items_with_other_keys_are_asked_apart_and_in_order():
    calls = Calls()
    assert answers(calls, [("a", 1), ("a", 2), ("b", 3), ("a", 4)], BatchLimits()) == [2, 4, 6, 8]
    assert calls.asked == [("a", [1, 2]), ("b", [3]), ("a", [4])]


def test_heavy_items_are_asked_apart_and_one_that_is_too_heavy_alone():
    calls = Calls()
    asked = [("a", 1, 4), ("a", 2, 4), ("a", 3, 4), ("a", 4, 100), ("a", 5, 1)]
    assert answers(calls, asked, BatchLimits(batch_weight=10)) == [2, 4, 6, 8, 10]
    assert calls.asked == [("a", [1, 2]), ("a", [3]), ("a", [4]), ("a", [5])]


def test_a_bad_item_costs_the_others_nothing():
    good, bad, other = answers(Calls(), [("a", 1), ("a", -1), ("a", 3)], BatchLimits())
    assert (good, other) == (2, 6)
    assert isinstance(bad, ValueError)


def test_a_broken_call_is_told_to_all_and_the_next_is_answered():
    first, second, third = answers(Calls(), [("broken", 1), ("broken", 2), ("a", 3)], BatchLimits())
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert third == 6


def test_a_lone_item_waits_for_nobody():
    async def main() -> float:
        batcher = Batcher(Calls().run, BatchLimits(wait_seconds=5))
        worker = asyncio.create_task(batcher.work())
        start = asyncio.get_running_loop().time()
        with batcher.accept(1):
            assert await batcher.answer("a", 1) == 2
        worker.cancel()
        return asyncio.get_running_loop().time() - start

    assert asyncio.run(main()) < 1


@pytest.mark.parametrize(("seconds", "calls_made"), [(0.02, [[1, 2]]), (1.0, [[1], [2]])])
def test_what_is_accepted_is_waited_for_but_not_long(seconds, calls_made):
    calls = Calls()

    async def main() -> None:
        batcher = Batcher(calls.run, BatchLimits(wait_seconds=0.4))
        worker = asyncio.create_task(batcher.work())

        async def late() -> None:
            await asyncio.sleep(seconds)
            assert await batcher.answer("a", 2) == 4

        with batcher.accept(2):
            await asyncio.gather(batcher.answer("a", 1), late())
        worker.cancel()

    asyncio.run(main())
    assert [items for _, items in calls.asked] == calls_made


def test_more_than_the_queue_holds_is_refused_until_there_is_room():
    async def main() -> None:
        batcher = Batcher(Calls().run, BatchLimits(queued_items=3))
        with batcher.accept(2):
            with pytest.raises(OverloadedError), batcher.accept(2):
                pass
            with batcher.accept(1):
                assert batcher.accepted == 3
        with batcher.accept(3):
            pass

    asyncio.run(main())


def test_who_gave_up_is_not_asked_about():
    calls = Calls(seconds=0.1)

    async def main() -> None:
        batcher = Batcher(calls.run, BatchLimits(batch_items=1))
        worker = asyncio.create_task(batcher.work())
        with batcher.accept(3):
            asked = [asyncio.create_task(batcher.answer("a", i)) for i in range(3)]
            await asyncio.sleep(0.02)
            asked[1].cancel()
            assert [await asked[0], await asked[2]] == [0, 4]
        worker.cancel()

    asyncio.run(main())
    assert calls.asked == [("a", [0]), ("a", [2])]
