"""What names this program in DICOM, and how its own result objects are recognised when they come back."""

from pydicom.uid import SecondaryCaptureImageStorage

from worker.imaging.instance import Instance
from worker.imaging.raster import derived_uid
from worker.ledger.dispatch.dispatches import NAMESPACE

#: Manufacturer of every object that this program makes.
MANUFACTURER = "chest-screening"

#: Model name of the same.
MODEL_NAME = "chest-screening pneumonia"

#: PS3.7 D.3.3.2. Without a release in them: the same object received twice must give the same file.
IMPLEMENTATION_CLASS_UID = derived_uid(NAMESPACE, "implementation")
IMPLEMENTATION_VERSION_NAME = "CHESTSCREENING"


def is_own_result(header: Instance) -> bool:
    """Whether an object is an overlay of a chest-screening, this one or another: the only object of ours that the
    receiver accepts. A radiograph is none whatever its manufacturer: it would be answered and not kept.
    """
    is_ours = header.manufacturer == MANUFACTURER and header.sop_instance_uid.startswith("2.25.")
    return is_ours and header.sop_class_uid == SecondaryCaptureImageStorage
