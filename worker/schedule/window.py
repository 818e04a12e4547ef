"""The hours of a day in which a batch may take new work, in local time."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

DAY_S = 86400.0


@dataclass(frozen=True)
class Window:
    """From `begins` to `ends`, over midnight if `ends` is earlier; the whole day if both are equal."""

    begins: time
    ends: time

    @classmethod
    def parse(cls, words: str) -> "Window":
        """From `22:00-06:00`; raises ValueError."""
        begins, dash, ends = words.partition("-")
        if not dash:
            raise ValueError(f"{words!r} is not a window such as 22:00-06:00")
        return cls(time.fromisoformat(begins.strip()), time.fromisoformat(ends.strip()))

    @property
    def length_s(self) -> float:
        """Seconds that it is open, without a change of daylight saving time."""
        begins, ends = (datetime.combine(datetime.min, at) for at in (self.begins, self.ends))
        return (ends - begins).total_seconds() % DAY_S or DAY_S

    def is_open(self, moment: datetime) -> bool:
        """Whether a local time is in the window."""
        now = moment.time()
        if self.begins < self.ends:
            return self.begins <= now < self.ends
        return now >= self.begins or now < self.ends

    def opens_in_s(self, moment: datetime) -> float:
        """Seconds until it opens; 0 while it is open."""
        if self.is_open(moment):
            return 0.0
        opening = datetime.combine(moment.date(), self.begins, moment.tzinfo)
        if opening <= moment:
            opening += timedelta(days=1)
        return (opening - moment).total_seconds()

    def closes_at(self, moment: datetime) -> datetime:
        """When it closes; if it is closed, when it closes the next time."""
        opened = moment + timedelta(seconds=self.opens_in_s(moment))
        closing = datetime.combine(opened.date(), self.ends, opened.tzinfo)
        return closing if closing > opened else closing + timedelta(days=1)


#: Always open.
ALL_DAY = Window(time(), time())
