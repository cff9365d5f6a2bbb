"""Whose turn it is: computation shared fairly between machines, by what their frames cost.

Fair queueing by virtual time. Each machine has a lane. A frame's place is its lane's start plus its cost, and the
lowest place is served: of two machines that both wait, the one that would have been served less goes first, so a costly
frame lets many cheap ones pass, but not for ever: virtual time follows the starts of what is served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

MAX_IDLE_LANES = 10_000
_NEW = object()  # whose lane is that of all who have none

T = TypeVar("T")


class Turn(NamedTuple, Generic[T]):
    """What waits, and what it costs."""

    item: T
    cost: int


class FairQueue(Generic[T]):
    """A queue of lanes; within a lane first in, first out. One lane may be a queue of lanes itself.

    Lanes whose owners have not earned one (:meth:`push_new`) wait in a queue of their own, which has the share of a
    single lane: whoever makes up a new name for each frame gets no more than one machine that keeps its name, and yet
    those among them whose frames are cheap go first.
    """

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Lane[T]] = {}
        self._heads: list[tuple[int, int, _Lane[T]]] = []
        self._numbers = count()
        self._now = 0
        self._waiting = 0
        self._idle = 0
        self._new: FairQueue[T] | None = None
        self.cost = 0

    def __len__(self) -> int:
        return self._waiting

    def push(self, owner: Hashable, item: T, cost: int) -> None:
        """Let ``item`` wait in its owner's lane."""
        self._lane(owner).add(Turn(item, cost))
        self._pushed(owner, cost)

    def push_new(self, owner: Hashable, item: T, cost: int) -> None:
        """Let ``item`` of an owner without a lane wait among all such."""
        if self._new is None:
            self._new = FairQueue()
            self._lanes[_NEW] = _Lane(self._now, self._new)
            self._idle += 1
        self._new.push(owner, item, cost)
        self._pushed(_NEW, cost)

    def peek(self) -> Turn[T]:
        """Return what :meth:`pop` would.

        Raises:
            IndexError: Nothing waits.
        """
        return self._next().head()

    def pop(self) -> Turn[T]:
        """Take what is next.

        Raises:
            IndexError: Nothing waits.
        """
        lane = self._next()
        heappop(self._heads)
        turn = lane.take()
        self._waiting -= 1
        self.cost -= turn.cost
        self._now = max(self._now, lane.start)
        lane.start += turn.cost
        if lane.size():
            self._stand(lane)
        else:
            self._idle += 1
            self._forget()
        return turn

    def _lane(self, owner: Hashable) -> _Lane[T]:
        lane = self._lanes.get(owner)
        if lane is None:
            lane = self._lanes[owner] = _Lane(self._now, deque())
            self._idle += 1
        return lane

    def _pushed(self, owner: Hashable, cost: int) -> None:
        lane = self._lanes[owner]
        self._waiting += 1
        self.cost += cost
        if lane.size() == 1:
            self._idle -= 1
            lane.start = max(lane.start, self._now)
        elif not isinstance(lane.waiting, FairQueue):
            return  # its head is what it was
        self._stand(lane)

    def _stand(self, lane: _Lane[T]) -> None:
        lane.entry = next(self._numbers)
        heappush(self._heads, (lane.start + lane.head().cost, lane.entry, lane))

    def _next(self) -> _Lane[T]:
        while self._heads:
            _, entry, lane = self._heads[0]
            if lane.entry == entry and lane.size():
                return lane
            heappop(self._heads)  # its head has changed since
        raise IndexError("nothing waits")

    def _forget(self) -> None:
        """Forget lanes of no more consequence: those that time has overtaken, and all once nobody waits."""
        if self._waiting and self._idle <= MAX_IDLE_LANES:
            return
        kept = {owner: lane for owner, lane in self._lanes.items() if lane.size()}
        if self._waiting:
            late = sorted(
                ((o, lane) for o, lane in self._lanes.items() if not lane.size() and lane.start > self._now),
                key=lambda entry: -entry[1].start,
            )
            kept |= dict(late[: MAX_IDLE_LANES // 2])
        if _NEW not in kept:
            self._new = None
        self._lanes = kept
        self._idle = sum(not lane.size() for lane in kept.values())


class _Lane(Generic[T]):
    """What waits for one owner; ``start`` is the virtual time up to which it has been served."""

    __slots__ = ("entry", "start", "waiting")

    def __init__(self, start: int, waiting: deque[Turn[T]] | FairQueue[T]) -> None:
        self.start = start
        self.waiting = waiting
        self.entry = -1

    def size(self) -> int:
        return len(self.waiting)

    def add(self, turn: Turn[T]) -> None:
        assert isinstance(self.waiting, deque)
        self.waiting.append(turn)

    def head(self) -> Turn[T]:
        return self.waiting.peek() if isinstance(self.waiting, FairQueue) else self.waiting[0]

    def take(self) -> Turn[T]:
        return self.waiting.pop() if isinstance(self.waiting, FairQueue) else self.waiting.popleft()
