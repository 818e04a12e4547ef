"""The shares of an inbox are divided fairly among its watchers, and nobody takes what another holds."""

import random
from collections import Counter

import pytest

from worker.intake.inbox_division import share_of
from worker.ledger.intake.inbox_shares import SHARES, split


class Inbox:
    """The rows of an inbox, and the watchers that follow them one after another."""

    def __init__(self) -> None:
        self.held: dict[int, str | None] = dict.fromkeys(range(SHARES))
        self.watchers: list[str] = []

    def join(self, *names: str) -> None:
        self.watchers += names

    def lose(self, name: str) -> None:
        """Its lease lapses."""
        self.watchers.remove(name)
        self.held = {share: None if holder == name else holder for share, holder in self.held.items()}

    def follow(self, name: str) -> None:
        move = split(self.held, self.watchers, name)
        assert all(self.held[share] is None for share in move.take), "another watcher holds it"
        assert all(self.held[share] == name for share in move.give), "it is not his to give"
        self.held |= dict.fromkeys(move.take, name) | dict.fromkeys(move.give)

    def settle(self, rng: random.Random) -> list[int]:
        """Everybody follows twice, in any order; how many shares each one holds, the fewest first."""
        for _ in range(2):
            for name in rng.sample(self.watchers, len(self.watchers)):
                self.follow(name)
        counted = Counter(self.held.values())
        assert None not in counted, "a share that nobody holds"
        return sorted(counted[name] for name in self.watchers)


def test_one_watcher_takes_everything_at_once() -> None:
    inbox = Inbox()
    inbox.join("a")
    inbox.follow("a")
    assert set(inbox.held.values()) == {"a"}


@pytest.mark.parametrize(
    ("watchers", "shares"), [(2, [8, 8]), (3, [5, 5, 6]), (5, [3, 3, 3, 3, 4]), (20, [0] * 4 + [1] * 16)]
)
def test_everybody_comes_to_an_equal_part_whoever_asks_first(watchers: int, shares: list[int]) -> None:
    for seed in range(20):
        inbox = Inbox()
        inbox.join(*(f"w{number}" for number in range(watchers)))
        assert inbox.settle(random.Random(seed)) == shares


def test_watchers_that_come_and_go_leave_no_share_behind() -> None:
    rng = random.Random(7)
    inbox = Inbox()
    inbox.join("w0")
    for number in range(1, 200):
        if len(inbox.watchers) > 1 and rng.random() < 0.5:
            inbox.lose(rng.choice(inbox.watchers))
        else:
            inbox.join(f"w{number}")
        counts = inbox.settle(rng)
        assert max(counts) - min(counts) <= 1


def test_the_others_keep_what_they_hold_when_one_is_gone() -> None:
    inbox, rng = Inbox(), random.Random(3)
    inbox.join("a", "b", "c", "d")
    inbox.settle(rng)
    before = dict(inbox.held)
    inbox.lose("b")
    inbox.settle(rng)
    assert [share for share, holder in before.items() if holder != "b" and inbox.held[share] != holder] == []


def test_folders_spread_over_the_shares_and_keep_theirs() -> None:
    folders = [f"2026/11/{day:02d}/{room}" for day in range(1, 31) for room in ("ward", "stat", "er/1")]
    counted = Counter(map(share_of, folders))
    assert set(counted) == set(range(SHARES))
    assert max(counted.values()) < 4 * len(folders) / SHARES
    assert (share_of(""), share_of("stat"), share_of("ward 3")) == (2, 8, 5), "watchers of two releases must agree"
