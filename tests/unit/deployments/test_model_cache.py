"""The replica's memory: one load a model, room made by bytes and last use, nothing evicted under a call, never over the budget."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from cluster.catalogue import ModelCard
from cluster.errors import ModelError
from cluster.tasks import Task
from deployments.eviction import earliest
from deployments.model import Call, Output
from deployments.model_cache import SPARED_S, ModelCache, NotReady, Stage
from tests.fakes_source import Clock, Shelf, Weights
from tests.tiny.cards import fake_card

CALL = Call(Task.SUMMARIZATION, ("x",))


def a_cache(budget_bytes: int, shelf: Shelf, clock: Clock | None = None) -> ModelCache:
    return ModelCache(budget_bytes, shelf, clock=clock or Clock())


async def use(cache: ModelCache, card: ModelCard) -> str:
    async with asyncio.timeout(5), cache.lease(card) as model:
        (output,) = await model.run([CALL])
    assert isinstance(output, Output)
    return str(output.value)


async def soon(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - nobody tells a test when
            await asyncio.sleep(0.002)


async def test_calls_that_come_together_share_one_load() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    assert await asyncio.gather(*(use(cache, fake_card("a")) for _ in range(5))) == ["done"] * 5
    assert shelf.loads == ["org/a"]
    assert (cache.loaded, cache.in_flight("org/a")) == (("org/a",), 0)


async def test_the_model_least_lately_used_gives_way_and_the_budget_holds() -> None:
    shelf, clock = Shelf(), Clock()
    cache = a_cache(25, shelf, clock)
    for name in ("a", "b", "a", "c", "a", "b"):
        clock.now_s += 1
        await use(cache, fake_card(name, 10))
        assert cache.used_bytes <= 25
    assert shelf.loads == ["org/a", "org/b", "org/c", "org/b"]
    assert set(cache.loaded) == {"org/a", "org/b"}
    assert shelf.most_bytes <= 25


async def test_one_model_loads_at_a_time_while_the_loaded_go_on_serving() -> None:
    shelf = Shelf()
    cache = a_cache(100, shelf)
    await use(cache, fake_card("a"))
    let_b_load = shelf.hold("load", "b")
    loads = [asyncio.create_task(use(cache, fake_card(name))) for name in ("b", "c", "d")]
    await soon(lambda: shelf.loads == ["org/a", "org/b"])
    assert await use(cache, fake_card("a")) == "done"
    let_b_load()
    await asyncio.gather(*loads)
    assert (sorted(shelf.loads), shelf.most_loading) == (["org/a", "org/b", "org/c", "org/d"], 1)


async def test_a_download_that_hangs_holds_up_no_other_model() -> None:
    shelf = Shelf()
    cache = a_cache(100, shelf)
    let_go = shelf.hold("fetch", "slow")
    lease = cache.lease(fake_card("slow"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), lease:
            pass
    assert lease.stage is Stage.DOWNLOAD
    assert await use(cache, fake_card("a")) == "done"
    let_go()
    await soon(lambda: "org/slow" not in cache.known)
    assert shelf.loads == ["org/a"]  # its files are there now; nobody waits for it, so that it takes no memory


async def test_a_model_with_a_call_in_flight_is_never_evicted_and_the_load_waits_for_it() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    async with AsyncExitStack() as in_use:
        await in_use.enter_async_context(cache.lease(fake_card("a", 10)))
        waiting = asyncio.create_task(use(cache, fake_card("b", 10)))
        await soon(lambda: shelf.fetches == ["org/a", "org/b"])
        await asyncio.sleep(0.02)
        assert (cache.loaded, shelf.loads) == (("org/a",), ["org/a"])
    assert await waiting == "done"
    assert cache.loaded == ("org/b",)
    assert shelf.most_bytes == 10


async def test_a_load_that_waits_for_room_longer_than_its_call_is_given_up() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    async with cache.lease(fake_card("a", 10)):
        lease = cache.lease(fake_card("b", 10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), lease:
                pass
        assert lease.stage is Stage.WAIT
        assert cache.known == ("org/a",)
    await asyncio.sleep(0.02)
    assert shelf.loads == ["org/a"]
    assert await use(cache, fake_card("b", 10)) == "done"


async def test_a_call_that_goes_away_leaves_the_load_to_the_others_who_wait() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    let_go = shelf.hold("load", "a")
    first, second = (asyncio.create_task(use(cache, fake_card("a"))) for _ in range(2))
    await soon(lambda: shelf.loads == ["org/a"])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    let_go()
    assert await second == "done"


async def test_no_more_is_evicted_than_the_new_model_needs() -> None:
    shelf, clock = Shelf(), Clock()
    cache = a_cache(100, shelf, clock)
    for name, size_bytes in (("small", 10), ("large", 80)):
        clock.now_s += 1
        await use(cache, fake_card(name, size_bytes))
    await use(cache, fake_card("new", 60))  # the small one is older, but the large one must go, and that is enough
    assert set(cache.loaded) == {"org/small", "org/new"}


@pytest.mark.parametrize(
    ("sizes", "needed", "places"),
    [
        ([5, 5, 5], 0, []),
        ([5, 5, 5], -3, []),
        ([5, 5, 5], 6, [0, 1]),
        ([1, 9, 5], 8, [1]),
        ([1, 2], 4, None),
        ([], 1, None),
    ],
)
def test_the_earliest_go_and_none_too_many(sizes: list[int], needed: int, places: list[int] | None) -> None:
    assert earliest(sizes, needed) == places


async def test_what_a_model_measures_replaces_its_cards_estimate() -> None:
    cache = a_cache(100, Shelf({"org/a": 30}))
    await use(cache, fake_card("a", 90))
    assert cache.used_bytes == 30


async def test_a_model_larger_than_its_card_says_makes_others_go() -> None:
    shelf, clock = Shelf({"org/b": 70}), Clock()
    cache = a_cache(100, shelf, clock)
    await use(cache, fake_card("a", 50))
    await use(cache, fake_card("b", 50))
    assert (cache.loaded, cache.used_bytes) == (("org/b",), 70)


async def test_a_model_larger_than_its_card_says_goes_itself_while_the_others_are_in_use_and_comes_when_they_are_not() -> None:
    shelf = Shelf({"org/b": 70})
    cache = a_cache(100, shelf)
    async with AsyncExitStack() as in_use:
        await in_use.enter_async_context(cache.lease(fake_card("a", 50)))
        waiting = asyncio.create_task(use(cache, fake_card("b", 50)))
        await soon(lambda: "org/b" in shelf.models and shelf.models["org/b"]() is None)
        await soon(lambda: cache.used_bytes == 50)
        assert cache.loaded == ("org/a",)
    assert await waiting == "done"
    assert (cache.loaded, cache.used_bytes) == (("org/b",), 70)
    assert shelf.loads == ["org/a", "org/b", "org/b"]


async def test_a_model_larger_than_the_budget_is_refused_before_anything_is_fetched() -> None:
    shelf = Shelf()
    cache = a_cache(2_000_000_000, shelf)
    with pytest.raises(NotReady, match=r"^org/a takes 3\.5 GB of memory, more than the 2 GB that a replica of text may use$") as refused:
        await use(cache, fake_card("a", 3_500_000_000))
    assert not refused.value.is_its_fault
    assert shelf.fetches == []


async def test_a_model_that_proves_larger_than_the_budget_is_let_go_and_from_then_on_refused_unloaded() -> None:
    shelf = Shelf({"org/a": 200})
    cache = a_cache(100, shelf)
    for _ in range(2):
        with pytest.raises(NotReady, match="takes"):
            await use(cache, fake_card("a", 50))
    assert shelf.loads == ["org/a"]
    assert (cache.used_bytes, cache.known) == (0, ())
    assert shelf.models["org/a"]() is None


@pytest.mark.parametrize("failure", [ModelError("the file is damaged"), OSError(5, "gone"), MemoryError()])
async def test_a_load_that_fails_tells_the_stage_frees_its_room_and_may_be_tried_again(failure: Exception) -> None:
    shelf = Shelf()
    shelf.fails["org/a"] = failure
    cache = a_cache(10, shelf)
    with pytest.raises(NotReady) as failed:
        await use(cache, fake_card("a"))
    assert (failed.value.stage, failed.value.is_its_fault) == (Stage.LOAD, True)
    assert "\n" not in failed.value.message
    assert (cache.used_bytes, cache.known) == (0, ())
    shelf.fails.clear()
    assert await use(cache, fake_card("a")) == "done"


async def test_an_evicted_model_is_closed_and_nothing_holds_it() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    await use(cache, fake_card("a", 10))
    weights = shelf.models["org/a"]()
    assert weights is not None
    thread = next(iter(weights._thread._threads))
    del weights
    await use(cache, fake_card("b", 10))
    assert not thread.is_alive()
    gc.collect()
    assert shelf.models["org/a"]() is None


async def test_a_model_that_still_computes_for_a_call_that_left_is_freed_only_when_it_has_ended() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    async with cache.lease(fake_card("a", 10)) as model:
        assert isinstance(model, Weights)
        model.may_end.clear()
        let_end = model.may_end.set
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await model.run([CALL])
        assert model.is_computing
        del model
    waiting = asyncio.create_task(use(cache, fake_card("b", 10)))
    await asyncio.sleep(0.05)
    assert (shelf.loads, cache.used_bytes) == (["org/a"], 10)
    let_end()
    assert await waiting == "done"


async def test_a_warm_up_loads_what_fits_and_a_call_finds_it_there() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    cache.warm(fake_card("a"))
    await soon(lambda: cache.loaded == ("org/a",))
    lease = cache.lease(fake_card("a"))
    async with lease:
        assert lease.load_s == 0
    assert shelf.loads == ["org/a"]


async def test_a_warm_up_neither_waits_for_room_nor_evicts_what_was_used_lately() -> None:
    shelf, clock = Shelf(), Clock()
    cache = a_cache(10, shelf, clock)
    async with cache.lease(fake_card("a", 10)):
        cache.warm(fake_card("b", 10))
        await soon(lambda: cache.known == ("org/a",))
    cache.warm(fake_card("b", 10))
    await soon(lambda: cache.known == ("org/a",))
    assert cache.loaded == ("org/a",)
    clock.now_s += SPARED_S
    cache.warm(fake_card("b", 10))
    await soon(lambda: cache.loaded == ("org/b",))


async def test_a_warm_up_of_a_model_that_is_too_large_does_nothing() -> None:
    shelf = Shelf()
    cache = a_cache(10, shelf)
    cache.warm(fake_card("a", 11))
    assert (cache.known, shelf.fetches) == ((), [])


async def test_a_call_takes_its_turn_before_warm_ups_that_came_earlier() -> None:
    shelf = Shelf()
    cache = a_cache(100, shelf)
    let_go = shelf.hold("load", "first")
    cache.warm(fake_card("first"))
    await soon(lambda: shelf.loads == ["org/first"])
    cache.warm(fake_card("guess"))
    await soon(lambda: "org/guess" in shelf.fetches)
    await asyncio.sleep(0.01)
    wanted = asyncio.create_task(use(cache, fake_card("wanted")))
    await soon(lambda: "org/wanted" in shelf.fetches)
    await asyncio.sleep(0.01)
    let_go()
    await wanted
    await soon(lambda: len(cache.loaded) == 3)
    assert shelf.loads == ["org/first", "org/wanted", "org/guess"]


async def test_a_warm_up_that_fails_is_no_ones_error() -> None:
    shelf = Shelf()
    shelf.fails["org/a"] = ModelError("damaged")
    cache = a_cache(10, shelf)
    cache.warm(fake_card("a"))
    await soon(lambda: cache.known == ())
    shelf.fails.clear()
    assert await use(cache, fake_card("a")) == "done"


async def test_everything_idle_can_be_evicted_at_once() -> None:
    shelf = Shelf()
    cache = a_cache(100, shelf)
    for name in ("a", "b"):
        await use(cache, fake_card(name, 10))
    async with cache.lease(fake_card("c", 10)):
        await cache.evict_idle()
        assert (cache.loaded, cache.used_bytes) == (("org/c",), 10)


async def test_many_models_and_many_calls_keep_the_budget_and_all_are_answered() -> None:
    shelf = Shelf()
    cache = a_cache(30, shelf)
    sizes = {"a": 10, "b": 10, "c": 20, "d": 5, "e": 30}
    names = [name for _ in range(12) for name in sizes]
    assert await asyncio.gather(*(use(cache, fake_card(name, sizes[name])) for name in names)) == ["done"] * len(names)
    assert 0 < shelf.most_bytes <= 30
    assert shelf.now_bytes == cache.used_bytes
    assert shelf.most_loading == 1


@pytest.fixture
def nothing_spared() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("nothing_spared")
async def test_what_libraries_hold_is_out_of_the_collectors_sight_once_no_model_is_there() -> None:
    cache = a_cache(20, Shelf())
    async with cache.lease(fake_card("a", 10)):
        await use(cache, fake_card("b", 10))
        await cache.evict_idle()
        await soon(lambda: cache.used_bytes == 10)
        assert gc.get_freeze_count() == 0  # its cycles would never be freed
    await cache.evict_idle()
    await soon(lambda: cache.used_bytes == 0)
    spared = gc.get_freeze_count()
    assert spared > 10_000
    await use(cache, fake_card("a", 10))
    await cache.evict_idle()
    await soon(lambda: cache.used_bytes == 0)
    assert gc.get_freeze_count() <= spared  # no module came
