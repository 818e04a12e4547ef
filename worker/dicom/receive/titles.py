"""Application Entity titles: which ones we answer to, and which callers may send. Pure."""

import ipaddress
import re
from dataclasses import dataclass

from worker.errors import BadSetting
from worker.settings import Settings

#: PS3.5 6.2: 1 to 16 characters of the default repertoire without backslash and control characters. Here also without
#: `@` and `,`, which separate titles in the settings, and without spaces at the ends, which do not count.
TITLE = re.compile(r"(?! )[ !-+\--?A-\[\]-~]{1,16}(?<! )")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Caller:
    """Somebody who may send: a calling title, and the addresses it may come from (None: any)."""

    title: str
    network: Network | None


@dataclass(frozen=True)
class Titles:
    """The titles of this receiver and its callers."""

    own: str
    stat: str  #: studies sent to this title are STAT; empty: none
    callers: tuple[Caller, ...]

    @classmethod
    def of(cls, settings: Settings) -> "Titles":
        """The titles in the settings; raises BadSetting."""
        callers = tuple(_caller(entry.strip()) for entry in settings.receive_from.split(",") if entry.strip())
        for name, title in (("SCREENING_AE_TITLE", settings.ae_title), ("SCREENING_AE_STAT", settings.ae_stat)):
            if title and not TITLE.fullmatch(title):
                raise BadSetting(f"{name} is no AE title: 1 to 16 ASCII characters without backslash, comma and @")
        if settings.ae_stat == settings.ae_title:
            raise BadSetting("SCREENING_AE_STAT and SCREENING_AE_TITLE are the same: every study would be STAT")
        return cls(settings.ae_title, settings.ae_stat, callers)

    def admits(self, calling: str, address: str) -> bool:
        """Whether this caller may send from this address."""
        there = plain_address(address)
        return any(
            caller.title == calling and (caller.network is None or there in caller.network) for caller in self.callers
        )

    def admits_address(self, address: str) -> bool:
        """Whether any caller may come from this address. If not, a connection is closed before it is answered."""
        there = plain_address(address)
        return any(caller.network is None or there in caller.network for caller in self.callers)

    def answers_to(self, called: str) -> bool:
        """Whether a called title is ours."""
        return called == self.own or (bool(self.stat) and called == self.stat)


def plain_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; an IPv4 one that arrived on an IPv6 socket is IPv4 again."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def _caller(entry: str) -> Caller:
    title, at, address = entry.partition("@")
    if not TITLE.fullmatch(title):
        raise BadSetting(f"SCREENING_RECEIVE_FROM: {title!r} is no AE title: write AETITLE or AETITLE@ADDRESS")
    if not at:
        return Caller(title, None)
    try:
        return Caller(title, ipaddress.ip_network(address))
    except ValueError as error:
        raise BadSetting(
            f"SCREENING_RECEIVE_FROM: {address!r} is no address and no network such as 10.1.0.0/16"
        ) from error
