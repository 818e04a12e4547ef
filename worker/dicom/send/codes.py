"""The codes of the report, of DCM (PS3.16) and SNOMED CT alone, and the sentences that go with them.

Outside the context groups of PS3.16 that the template names: see deploy/CONFORMANCE.md, with the reasons. A test holds
each code against pydicom's dictionary of PS3.16.
"""

from pydicom.sr.coding import Code

ENGLISH = Code("en-US", "RFC5646", "English (United States)")
DEVICE = Code("121007", "DCM", "Device")
CHEST_XRAY = Code("399208008", "SCT", "Plain chest X-ray")
#: For a study without a chest radiograph, whatever it holds (CID 100).
IMAGING = Code("363679005", "SCT", "Imaging procedure")
CLINICAL_FINDING = Code("404684003", "SCT", "Clinical finding")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
LUNG = Code("39607008", "SCT", "Lung")
PROBABILITY = Code("122157", "DCM", "Probability")
OPERATING_POINT = Code("111071", "DCM", "CAD Operating Point")
NO_UNITS = Code("1", "UCUM", "no units")
FINDING = Code("121071", "DCM", "Finding")
SUSPECTED = Code("415684004", "SCT", "Suspected")
COMMENT = Code("121106", "DCM", "Comment")
REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")

FLAGGED_COMMENT = "at or above the operating point; not a diagnosis"
NOT_FLAGGED_COMMENT = "below the operating point; this does not say that pneumonia is absent"
INELIGIBLE_COMMENT = "no chest radiograph to screen in this study; an earlier result does not hold any more"
RESEARCH = "RESEARCH USE ONLY"
