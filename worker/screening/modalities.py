"""Which values of Modality (PS3.3 C.7.3.1.1.1) are projection radiography, and which declare another one."""

#: Projection radiography. RG is film scanned to DICOM. Modality decides, not the SOP Class: secondary captures of
#: radiographs are common.
RADIOGRAPHS = frozenset({"CR", "DX", "RG"})

#: The other defined terms, retired ones too. OT, `other`, is not among them: it says no more than an empty value.
_OTHERS = """
    ANN AR AS ASMT AU BDUS BI BMD CD CF CFM CP CS CT CTPROTOCOL DD DF DG DM DMS DOC DS EC ECG EEG EM EMG EOG EP EPS
    ES FA FID FS GM HC HD IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV
    OPTENF OPV OSS PA PLAN POS PR PT PX REG RESP RF RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT
    RWV SEG SM SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC
"""
OTHERS = frozenset(_OTHERS.split())
