"""The scans of a JPEG (ISO 10918-1 B.2.3): what the header of each says, where it ends, where its data begin anew."""

import re
from typing import NamedTuple

from worker.imaging.codec.codestream import Codestream, next_marker

#: SOS and RSTn.
_SOS, _RESTART = 0xDA, re.compile(rb"\xff[\xd0-\xd7]")


class Scan(NamedTuple):
    """One scan."""

    parameters: bytes  #: of SOS: Ns; Cs and Td << 4 | Ta of each component; Ss, Se, Ah << 4 | Al
    end: int  #: offset of the marker that ends it

    @property
    def components(self) -> bytes:
        """The number of each of its components (Cs)."""
        return self.parameters[1:-3:2]

    @property
    def predictor(self) -> int:
        """Of lossless JPEG (Ss; ISO 10918-1, table H.1)."""
        return self.parameters[-3]


def read_scans(data: bytes, stream: Codestream) -> list[Scan]:
    """The scans in their order."""
    at, end = data.rfind(b"\xff\xda", 0, stream.data_at), stream.end or len(data)
    scans = []
    while 0 <= at < end:
        after_header = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        following = next_marker(data, after_header, stream.coding)
        ends_at = end if following is None else following
        if data[at + 1] == _SOS:
            scans.append(Scan(data[at + 4 : after_header], ends_at))
        at = ends_at
    return scans


def restarts(data: bytes, stream: Codestream) -> list[int]:
    """Offsets of the restart markers (ISO 10918-1 E.1.4), in their order."""
    return [found.start() for found in _RESTART.finditer(data, stream.data_at, stream.end or len(data))]
