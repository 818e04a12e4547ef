"""TLS of a receiver and of a sender: the non-downgrading BCP 195 profile (PS3.15 B.9) from files."""

import ssl

from worker.errors import BadSetting
from worker.settings import Settings

#: Forward secrecy and authenticated encryption alone; TLS 1.3 has its own list.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """The receiver's context; None: no TLS. With SCREENING_RECEIVE_TLS_CLIENTS each client needs a certificate.

    Raises BadSetting.
    """
    certificate, key = settings.receive_tls_certificate, settings.receive_tls_key
    if not certificate:
        if key or settings.receive_tls_clients:
            raise BadSetting("SCREENING_RECEIVE_TLS_CERTIFICATE is missing: TLS needs it")
        return None
    context = _bcp195(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key or None)
        if settings.receive_tls_clients:
            context.load_verify_locations(settings.receive_tls_clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"a TLS file of the receiver cannot be used ({error}): see SCREENING_RECEIVE_TLS_*") from error
    return context


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """The sender's context; None: no TLS. Raises BadSetting."""
    if not settings.send_tls_ca:
        if settings.send_tls_certificate:
            raise BadSetting("SCREENING_SEND_TLS_CA is missing: TLS needs it to know the archive")
        return None
    context = _bcp195(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(settings.send_tls_ca)
        if settings.send_tls_certificate:
            context.load_cert_chain(settings.send_tls_certificate)
    except (OSError, ssl.SSLError) as error:
        raise BadSetting(f"a TLS file of the sender cannot be used ({error}): see SCREENING_SEND_TLS_*") from error
    return context


def _bcp195(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    return context
