"""Lists of names and addresses in settings, and the address from which a request came."""

import ipaddress
from collections.abc import Mapping

from worker.errors import BadSetting


def listed(setting: str) -> tuple[str, ...]:
    """The parts of a comma-separated setting, in lower case."""
    return tuple(part.strip().lower() for part in setting.split(",") if part.strip())


def addresses(name: str, setting: str) -> frozenset[str]:
    """The addresses of a setting; raises BadSetting for what is no address."""
    try:
        return frozenset(str(ipaddress.ip_address(part)) for part in listed(setting))
    except ValueError as error:
        raise BadSetting(f"SCREENING_{name.upper()} names addresses, separated by commas ({error})") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def client(peer: str, headers: Mapping[str, str], proxies: frozenset[str]) -> str:
    """The address of the client: the peer, or what a named proxy says; of its list only the last entry is its own."""
    if peer not in proxies:
        return peer
    last = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        return str(ipaddress.ip_address(last))
    except ValueError:
        return peer
