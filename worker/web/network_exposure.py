"""Whether the page may listen where the settings say: passwords and pictures never cross a network in the clear."""

import importlib.util
from pathlib import Path

from worker.errors import BadSetting
from worker.settings import Settings
from worker.web.addresses import addresses, is_loopback, listed

NEEDED = ("argon2", "starlette", "uvicorn")


def is_installed() -> bool:
    """Whether the packages of the extra `web` are there."""
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def check_exposure(settings: Settings) -> str:
    """How the page is reached, in words. Raises BadSetting for settings that would expose it."""
    if not is_installed():
        raise BadSetting("the page needs the extra `web`: `pip install '.[web]'` where the source of this program lies")
    proxies = addresses("web_behind_proxy", settings.web_behind_proxy)
    trusted = addresses("web_trusted_from", settings.web_trusted_from)
    if bool(settings.web_tls_certificate) != bool(settings.web_tls_key):
        raise BadSetting("SCREENING_WEB_TLS_CERTIFICATE and _KEY are given together or not at all")
    for file in filter(None, (settings.web_tls_certificate, settings.web_tls_key)):
        if not Path(file).is_file():
            raise BadSetting(f"the page's TLS file {file} is not there")
    if not (is_loopback(settings.web_host) or settings.web_tls_certificate or proxies):
        raise BadSetting(
            f"SCREENING_WEB_HOST={settings.web_host} would send passwords over the network in the clear: name"
            " SCREENING_WEB_TLS_CERTIFICATE and _KEY, or SCREENING_WEB_BEHIND_PROXY"
        )
    if bool(settings.web_trusted_header) != bool(trusted):
        raise BadSetting(
            "SCREENING_WEB_TRUSTED_HEADER is believed only from named addresses: give SCREENING_WEB_TRUSTED_FROM too"
        )
    if "*" in settings.web_hosts or not listed(settings.web_hosts):
        raise BadSetting("SCREENING_WEB_HOSTS names the hosts of the page one by one, without *")
    how = "behind a proxy" if proxies else "on this machine alone"
    if settings.web_tls_certificate:
        how = "TLS"
    return f"port {settings.web_port} on {settings.web_host}, {how}"


def is_over_tls(settings: Settings) -> bool:
    """Whether browsers reach the page over TLS: its own, or that of the proxy before it."""
    return bool(settings.web_tls_certificate or settings.web_behind_proxy)
