"""Makes the object that is due, from the ledger, the store and the header of a source object."""

from dataclasses import dataclass
from importlib.metadata import version
from uuid import uuid4

from pydicom.dataset import Dataset

from schema.database import Database
from schema.vocabulary import DispatchKind, Verdict
from worker.dicom.send.capture import capture
from worker.dicom.send.key_object import rejection
from worker.dicom.send.report import Device, reference, report
from worker.dicom.send.source import source_header
from worker.errors import Rejected, SourceChanged
from worker.ledger.dispatch import dispatches
from worker.ledger.dispatch.dispatches import Due
from worker.ledger.dispatch.result_facts import Facts, facts
from worker.settings import Settings
from worker.store import OVERLAYS, Store
from worker.store.fetch import fetch

#: Name in the store of the UID that this installation has as a device.
DEVICE_UID = "device_uid"


@dataclass(frozen=True)
class Composer:
    """Makes the objects of one installation."""

    settings: Settings
    database: Database
    store: Store
    device: Device

    @classmethod
    def of(cls, settings: Settings, database: Database, store: Store) -> "Composer":
        """The device UID is made at the first use and kept in the store. Raises StorageUnavailable."""
        uid = store.keep_once(DEVICE_UID, f"2.25.{uuid4().int}".encode()).decode()
        return cls(settings, database, store, Device(uid, version("chest-screening")))

    def compose(self, due: Due) -> Dataset | None:
        """The object; None when there is nothing to do. Raises Interrupted, and Rejected when its source is gone."""
        found = facts(self.database, due)
        if not found.images:
            raise SourceChanged("no image of its result can be named in a report")
        header = self._header(found)
        before = dispatches.earlier(self.database, due)
        if due.kind is DispatchKind.RETRACTION:
            named = [reference(header, earlier) for earlier in before]
            return rejection(found, named, self.device, due.sop_instance_uid) if named else None
        if due.kind is DispatchKind.OVERLAY:
            return self._capture(found, header, due)
        predecessors = [reference(header, earlier) for earlier in before if earlier.kind is DispatchKind.REPORT]
        return report(found, header, self.device, due.sop_instance_uid, self.settings.report_class, predecessors)

    def _capture(self, found: Facts, header: Dataset, due: Due) -> Dataset | None:
        """The overlay of the deciding image, which shows its probability; None without a clear verdict or overlay."""
        is_clear = found.verdict in (Verdict.FLAGGED, Verdict.NOT_FLAGGED)
        image = found.images[found.deciding] if is_clear and found.deciding is not None else None
        if image is None or image.overlay_digest is None:
            return None
        overlay = self.store.get(OVERLAYS, image.overlay_digest)
        return capture(found, header, image, overlay, self.device, due.sop_instance_uid)

    def _header(self, found: Facts) -> Dataset:
        """Patient and study of the deciding image, else of the first whose object can be read."""
        error: Rejected | None = None
        first = found.images[found.deciding] if found.deciding is not None else found.images[0]
        for image in (first, *found.images):
            try:
                return source_header(fetch(self.store, image.digest, image.left_at, image.crc), found.study_uid)
            except Rejected as rejected:
                error = rejected
        assert error is not None
        raise error
