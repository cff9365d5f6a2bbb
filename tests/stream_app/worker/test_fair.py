"""Who goes next: cheap before costly, each in turn, nobody never."""

from __future__ import annotations

from itertools import pairwise

from stream_app.worker.fair import MAX_IDLE_LANES, FairQueue

CHEAP, WORST = 16_000, 4_000_000


def drained(queue: FairQueue[str]) -> list[str]:
    return [queue.pop().item for _ in range(len(queue))]


def test_a_machine_s_frames_stay_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for number, cost in enumerate([WORST, CHEAP, WORST, CHEAP]):
        queue.push("pump", str(number), cost)
    assert drained(queue) == ["0", "1", "2", "3"]


def test_machines_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("a", "a", CHEAP)
    for _ in range(5):
        queue.push("b", "b", CHEAP)
    assert drained(queue)[:10].count("b") == 5


def test_the_share_is_by_cost_and_not_by_frames() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(100):
        queue.push("dear", "dear", 10 * CHEAP)
        queue.push("cheap", "cheap", CHEAP)
    assert 85 <= drained(queue)[:100].count("cheap") <= 95


def test_a_costly_frame_that_was_there_first_lets_cheap_ones_pass() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("evil", "evil", WORST)
    for number in range(16):
        queue.push(number, "good", CHEAP)
    assert drained(queue)[-1] == "evil"


def test_a_costly_frame_is_served_in_the_end_although_others_never_stop() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("evil", "evil", WORST)
    served = []
    while len(served) < 1000 and "evil" not in served:
        queue.push("good", "good", CHEAP)
        served.append(queue.pop().item)
    assert served[-1] == "evil"
    assert len(served) >= WORST // CHEAP


def test_new_names_share_what_one_machine_has() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(200):
        queue.push_new(f"made-up-{number}", "new", CHEAP)
    for _ in range(20):
        queue.push("pump-1", "pump-1", CHEAP)
        queue.push("pump-2", "pump-2", CHEAP)
    assert 18 <= drained(queue)[:60].count("new") <= 22


def test_a_new_machine_does_not_wait_for_the_costly_frames_of_other_new_names() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(50):
        queue.push_new(f"made-up-{number}", "evil", WORST)
    queue.push_new("pump-9", "good", CHEAP)
    assert queue.peek().item == "good"
    assert drained(queue).count("evil") == 50


def test_who_waited_for_nobody_owes_nothing() -> None:
    """An outage's backlog, worked off while nobody else was there, does not count against its machine later."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(1000):
        queue.push("a", "a", CHEAP)
    drained(queue)
    for _ in range(10):
        queue.push("b", "b", CHEAP)
        queue.push("a", "a", CHEAP)
    assert all(set(pair) == {"a", "b"} for pair in list(pairwise(drained(queue)))[::2])


def test_what_is_remembered_of_names_is_bounded() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("waits", "waits", 10**12)
    for number in range(3 * MAX_IDLE_LANES):
        queue.push(number, "x", CHEAP)
        queue.pop()
    assert len(queue._lanes) <= MAX_IDLE_LANES + 2
    assert drained(queue) == ["waits"]
    assert not queue._lanes
    assert queue.cost == 0
