"""What names this program in DICOM, and how its own result objects are recognised when they come back."""

from worker.imaging.instance import Instance
from worker.imaging.raster import derived_uid
from worker.ledger.dispatches import NAMESPACE

#: Manufacturer of every object that this program makes.
MANUFACTURER = "chest-screening"

#: Model name of the same.
MODEL_NAME = "chest-screening pneumonia"

#: PS3.7 D.3.3.2. Without a release in them: the same object received twice must give the same file.
IMPLEMENTATION_CLASS_UID = derived_uid(NAMESPACE, "implementation")
IMPLEMENTATION_VERSION_NAME = "CHESTSCREENING"


def is_own_result(header: Instance) -> bool:
    """Whether an object was made by a chest-screening, this one or another."""
    return header.manufacturer == MANUFACTURER
