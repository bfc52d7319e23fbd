"""Many callers, common batches: own answers; a full queue says so, and a stop finishes what it took."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait

import numpy as np
import pytest

from gammascope.detection.opinions import Detectors
from gammascope.errors import RecipeError, UndecodableImageError
from gammascope.server.batching import Engine
from gammascope.server.limits import limits_of
from gammascope.server.problems import Problem
from gammascope.server.store import Results, opened
from gammascope.server.telemetry import Figures


def engine_of(pipeline, *limits) -> Engine:
    detectors = Detectors(("only",), (pipeline,))
    results = Results(opened("memory"), detectors.key, 100, 1.0)
    return Engine(detectors, results, limits_of(limits), Figures())


@pytest.fixture
def distinct(photos) -> list[bytes]:
    """Thirty small pictures with different answers."""
    from io import BytesIO

    import PIL.Image

    made = []
    for step in range(6):
        for photo in photos.values():
            data = BytesIO()
            tile = np.ascontiguousarray(
                photo[10 * step : 10 * step + 40 + step, 7 * step : 7 * step + 56]
            )
            PIL.Image.fromarray(tile).save(data, "PNG")
            made.append(data.getvalue())
    return made


def test_pictures_of_several_callers_share_a_batch(gated, pictures):
    engine = engine_of(gated)
    contents = [pictures[name] for name in sorted(pictures) if name.endswith("png")]
    futures = [engine.submit([content])[0] for content in contents]
    while gated.waiting + len(engine._ready) < len(contents):  # the first are taken at once
        threading.Event().wait(0.01)
    gated.gate.set()
    wait(futures, 20)
    engine.close()
    assert sum(gated.batches) == len(contents)
    assert len(gated.batches) <= 2


def test_batches_end_at_views_and_pixels(gated, pictures):
    for limit in ("batch_views=2", "batch_pixels=8192"):
        engine = engine_of(gated, limit)
        gated.batches.clear()
        gated.gate.clear()
        small = [content for name, content in pictures.items() if name.endswith("png")]
        futures = engine.submit(small)
        while engine._decoding or len(engine._ready) < 3:
            threading.Event().wait(0.01)
        gated.gate.set()
        wait(futures, 20)
        engine.close()
        assert max(gated.batches) == 2, "64 x 64 pixels and one view each"


def test_nobody_gets_the_answer_of_somebody_else(embedded, distinct):
    expected = [embedded.report(content).to_json() for content in distinct]
    assert len({row["probability"] for row in expected}) > 25
    engine = engine_of(embedded, "results_kept=1")
    turns = list(range(len(distinct))) * 2

    def ask(index: int):
        return index, engine.submit([distinct[index]])[0].result(30)

    with ThreadPoolExecutor(12) as callers:
        for index, row in callers.map(ask, turns):
            assert row["probability"] == pytest.approx(expected[index]["probability"], abs=2e-5)
            assert (row["width"], row["height"]) == (
                expected[index]["width"],
                expected[index]["height"],
            )
    engine.close()


def test_a_full_queue_refuses_all_or_nothing_and_says_when(gated, pictures):
    engine = engine_of(gated, "queue_files=3", "files=3")
    first = engine.submit([pictures["cat.png"], pictures["rocket.png"]])
    with pytest.raises(Problem) as refused:
        engine.submit([pictures["coffee.png"], pictures["cat.jpg"]])
    assert refused.value.kind == "queue-full"
    assert refused.value.retry_after >= 1
    assert "2 of at most 3 files are waiting" in refused.value.detail
    assert engine.accepted == 2
    more = engine.submit([pictures["coffee.png"]])
    with pytest.raises(Problem):
        engine.refuse_if_full()
    gated.gate.set()
    wait([*first, *more], 20)
    engine.close()
    assert engine.accepted == 0


def test_a_stop_finishes_what_was_accepted_and_takes_no_more(gated, pictures):
    engine = engine_of(gated)
    futures = engine.submit([pictures[name] for name in ("cat.png", "cat.jpg", "rocket.jpg")])
    stopping = threading.Thread(target=engine.close)
    stopping.start()
    while not engine._closing:
        threading.Event().wait(0.01)
    with pytest.raises(Problem) as refused:
        engine.submit([pictures["coffee.png"]])
    assert refused.value.kind == "shutting-down"
    assert not any(future.done() for future in futures)
    gated.gate.set()
    stopping.join(20)
    assert [future.result(0)["height"] for future in futures] == [64, 90, 90]


def test_what_was_given_up_before_it_was_decoded_leaves_the_queue(gated, pictures):
    engine = engine_of(gated, "decoders=1", "decoded_bytes=1")
    busy = engine.submit([pictures["cat.png"], pictures["rocket.png"]])
    given_up = engine.submit([pictures["coffee.png"]])[0]
    assert given_up.cancel()
    assert engine.accepted == 2
    gated.gate.set()
    wait(busy, 20)
    engine.close()
    with pytest.raises(CancelledError):
        given_up.result(0)
    assert sum(gated.batches) == 2


def test_the_content_of_what_was_given_up_is_released_at_once(gated, pictures):
    """Its caller has given the memory back already, and others fill it."""
    released = []

    class Content(bytes):
        def __del__(self) -> None:
            released.append(len(self))

    engine = engine_of(gated, "decoders=1", "decoded_bytes=1")
    busy = engine.submit([pictures["cat.png"], pictures["rocket.png"]])
    while not gated.waiting:  # from now on the only decoder waits for the network
        threading.Event().wait(0.01)
    in_hand, queued = engine.submit([Content(b"first"), Content(b"second")])
    busy[1].cancel()
    assert queued.cancel()
    assert released == [6]
    assert in_hand.cancel()
    assert released == [6, 5]
    gated.gate.set()
    wait(busy, 20)
    engine.close()


def test_what_cannot_be_decoded_raises_for_its_own_file_only(embedded, pictures):
    engine = engine_of(embedded)
    good, bad = engine.submit([pictures["cat.png"], b"\xff\xd8\xff broken"])
    assert good.result(20)["width"] == 64
    with pytest.raises(UndecodableImageError):
        bad.result(20)
    engine.close()


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["fils=3"], "mean 'files'?"),
        (["files=0"], "expected 1 or more"),
        (["files=100"], "would never fit into the queue"),
        (["files=many"], "valid integer"),
        (["answer_seconds=inf"], "expected 1 or more"),
        (["a.b=1"], "without a dot"),
        (["nonsense"], "expected name=value, as in --limit files=4"),
    ],
)
def test_impossible_limits_are_told(assignments, message):
    with pytest.raises(RecipeError, match=message.replace("?", r"\?")):
        limits_of(assignments)
