"""The patient's age at the study, in years: Patient's Age, else the two dates. Knows the header alone."""

import re
import unicodedata
from datetime import date

from worker.imaging.header import Header
from worker.imaging.instance import VALUES_APART

#: Years per unit of an Age String (PS3.5 6.2, AS).
_YEARS_PER = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}

#: Words that stations write in place of a unit, folded: no case, no accents. A letter that means months in one language
#: and minutes or years in another is not here.
_UNITS = {
    "D": "d day days jour jours tag tage dia dias giorno giorni dag dagen gun 日 天 일",
    "W": "w wk wks week weeks semaine semaines woche wochen semana semanas settimana settimane weken hafta 週 周 주",
    "M": (
        "m mo mos mon month months mois monat monate mes meses mese mesi maand maanden ay ヶ月 か月 个月 個月 개월 мес"
    ),
    "Y": (
        "y yr yrs yo year years an ans annee annees jahr jahre j ano anos anno anni jaar yas yıl yil лет год года"
        " г 歳 才 岁 歲 세"
    ),
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words.split()}

#: How notes name the dates.
_NAMES = {"StudyDate": "study_date", "PatientBirthDate": "birth_date"}

#: Nobody is older. Stations write 999Y where they know nothing.
_OLDEST_YEARS = 123.0

#: Births that stations write where they know none.
_NO_BIRTHS = (date(1800, 1, 1), date(1900, 1, 1))

#: Dates before this year are none: programs write 1 January of the year 1 where they know none.
_FIRST_YEAR = 1800

_NUMBER_WITH_UNIT = re.compile(r"([0-9]{1,3}(?:[.,][0-9]{1,2})?)[\W_]*([^\W\d_]+)(?:\s+old)?[\W_]*")
_NUMBERS_WITH_UNITS = re.compile(f"(?:{_NUMBER_WITH_UNIT.pattern})+".replace("([", "(?:["))


def age_years(header: Header, study_date: date | None) -> float | None:
    """Patient's Age, else study date minus birth date, else an age in other words, as `45 YEARS`.

    `81` has no unit and counts as malformed, because it may be months.
    """
    text = (header.words("PatientAge") or "").split(VALUES_APART)[0].strip()
    match = re.fullmatch(r"([0-9]{1,3})([DWMY])", text.upper())
    said = int(match[1]) * _YEARS_PER[match[2]] if match else None
    if match and said == 0.0:
        return _of_zero(header, study_date, match[2])
    if said is not None and said <= _OLDEST_YEARS:
        return said
    if text:
        header.malformed("age")
    by_dates = _between(header, study_date)
    return _in_words(text) if by_dates is None else by_dates


def _of_zero(header: Header, study_date: date | None, unit: str) -> float | None:
    """The age by the dates, where Patient's Age is zero. Without them `000Y` is unknown: stations write it that did not
    count."""
    by_dates = _between(header, study_date)
    if by_dates is not None:
        return by_dates
    if unit == "Y":
        header.malformed("age")
        return None
    return 0.0


def _in_words(text: str) -> float | None:
    """The age of `45 YEARS`, `4,5 ans`, `3 years 2 months`, `４歳`; None when it says something else."""
    letters = unicodedata.normalize("NFKD", text).casefold()
    folded = unicodedata.normalize("NFKC", "".join(c for c in letters if not "\u0300" <= c <= "\u036f"))
    if not _NUMBERS_WITH_UNITS.fullmatch(folded):
        return None
    years, units = 0.0, set()
    for number, word in _NUMBER_WITH_UNIT.findall(folded):
        unit = _UNIT_OF.get(word)
        if unit is None:
            return None
        units.add(unit)
        years += float(number.replace(",", ".")) * _YEARS_PER[unit]
    if years > _OLDEST_YEARS or (years == 0.0 and "Y" in units):
        return None
    return years


def _between(header: Header, study_date: date | None) -> float | None:
    """Study date minus birth date."""
    birth = date_of(header, "PatientBirthDate")
    if birth is None or study_date is None:
        return None
    if birth > study_date or birth in _NO_BIRTHS:
        header.malformed("birth_date")
        return None
    had_birthday = (study_date.month, study_date.day) >= (birth.month, birth.day)
    completed = study_date.year - birth.year - (not had_birthday)
    last = _birthday(birth, birth.year + completed)
    years = completed + (study_date - last).days / 366
    if years > _OLDEST_YEARS:
        header.malformed("birth_date")
        return None
    return years


def _birthday(birth: date, year: int) -> date:
    try:
        return birth.replace(year=year)
    except ValueError:  # 29 February
        return date(year, 3, 1)


def date_of(header: Header, keyword: str) -> date | None:
    """A DA value, YYYYMMDD, or the YYYY.MM.DD of ACR-NEMA (PS3.5 6.2)."""
    text = header.text(keyword)
    if text is None:
        return None
    digits = text.replace(".", "")
    try:
        if not re.fullmatch(r"[0-9]{8}", digits) or int(digits[:4]) < _FIRST_YEAR:
            raise ValueError
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        header.malformed(_NAMES[keyword])
        return None
