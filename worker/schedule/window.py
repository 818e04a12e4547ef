"""The hours of a day in which a batch may take new work, by the clock on the wall."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta

DAY_S = 86400.0


@dataclass(frozen=True)
class Window:
    """From `begins` to `ends`, over midnight where `ends` is the earlier; the whole day where both are one."""

    begins: time
    ends: time

    @classmethod
    def parse(cls, words: str) -> "Window":
        """From `22:00-06:00`; raises ValueError."""
        begins, dash, ends = words.partition("-")
        if not dash:
            raise ValueError(f"{words!r} is no window such as 22:00-06:00")
        return cls(time.fromisoformat(begins.strip()), time.fromisoformat(ends.strip()))

    @property
    def length_s(self) -> float:
        """How long it is open, by a clock that nobody sets."""
        begins, ends = (datetime.combine(datetime.min, at) for at in (self.begins, self.ends))
        return (ends - begins).total_seconds() % DAY_S or DAY_S

    def is_open(self, moment: datetime) -> bool:
        """Whether a moment of the local clock lies in it."""
        now = moment.time()
        if self.begins < self.ends:
            return self.begins <= now < self.ends
        return now >= self.begins or now < self.ends

    def opens_in_s(self, moment: datetime) -> float:
        """How long until it opens; 0 while it is open."""
        if self.is_open(moment):
            return 0.0
        opening = datetime.combine(moment.date(), self.begins, moment.tzinfo)
        if opening <= moment:
            opening += timedelta(days=1)
        return (opening - moment).total_seconds()

    def closes_at(self, moment: datetime) -> datetime:
        """When it closes; or, if it is closed, when it will have been open."""
        opened = moment + timedelta(seconds=self.opens_in_s(moment))
        closing = datetime.combine(opened.date(), self.ends, opened.tzinfo)
        return closing if closing > opened else closing + timedelta(days=1)


#: Always open.
ALL_DAY = Window(time(), time())
