"""What a peer puts on the wire, byte by byte, and the certificates of peers with TLS."""

import ssl
import struct
from collections.abc import Mapping
from pathlib import Path

from tests.phantoms import DX_FOR_PRESENTATION
from tests.receiver import OURS, pdu


def p_data(context: int, header: int, body: bytes) -> bytes:
    """A P-DATA-TF with one fragment (PS3.8 9.3.5); `header`: 1 for a command, 2 for the last."""
    return pdu(4, struct.pack(">LBB", len(body) + 2, context, header) + body)


def command_set(sop_instance_uid: str) -> bytes:
    """A C-STORE-RQ (PS3.7 9.3.1), implicit little endian."""
    body = _element(0x0002, DX_FOR_PRESENTATION.encode()) + _element(0x0100, b"\x01\0") + _element(0x0110, b"\x07\0")
    body += _element(0x0700, b"\0\0") + _element(0x0800, b"\0\0") + _element(0x1000, sop_instance_uid.encode())
    return _with_length(body)


def echo_request() -> bytes:
    """A C-ECHO-RQ (PS3.7 9.3.5), implicit little endian."""
    body = _element(0x0002, b"1.2.840.10008.1.1") + _element(0x0100, b"\x30\0") + _element(0x0110, b"\x07\0")
    return _with_length(body + _element(0x0800, b"\x01\x01"))


def association_request(
    calling: str,
    protocol_version: int = 1,
    contexts: Mapping[int, tuple[str, str]] | None = None,
    longest_pdu: int = 16_384,
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2); `contexts`: abstract and transfer syntax by their ID."""
    titles = OURS.encode().ljust(16) + calling.encode().ljust(16)
    items = _item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, (abstract, transfer) in (contexts or {}).items():
        syntaxes = _item(0x30, abstract.encode()) + _item(0x40, transfer.encode())
        items += _item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + syntaxes)
    about = _item(0x51, struct.pack(">L", longest_pdu)) + _item(0x52, b"1.2.3.4")
    return pdu(1, struct.pack(">HH", protocol_version, 0) + titles + b"\0" * 32 + items + _item(0x50, about))


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def _with_length(body: bytes) -> bytes:
    return _element(0, struct.pack("<L", len(body))) + body


def client_context(ca: Path, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """A client that trusts this certificate, and shows its own where given."""
    context = ssl.create_default_context(cafile=str(ca))
    if own is not None:
        context.load_cert_chain(*own)
    return context
