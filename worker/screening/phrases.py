"""A header's words, compared whole: without case, accents and punctuation, in the scripts of the stations' languages.

Text that is understood in part counts as not understood: a site's own words must not exclude a study.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

#: Letters that Unicode does not take apart into a base letter and an accent.
_BASE_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})

#: Chinese, Japanese and Korean write without spaces: their words are looked for inside a run of letters.
_UNSPACED = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uac00-\ud7af]")

_LETTERS = re.compile(r"[^\W\d_]+")

#: What is not in the vocabulary.
UNKNOWN = "?"

Words = tuple[str, ...]


def folded(text: str) -> str:
    """Lower case without accents: `Hüfte` and `HUFTE` are one word."""
    apart = unicodedata.normalize("NFKD", text).casefold().translate(_BASE_LETTERS)
    return unicodedata.normalize("NFC", "".join(c for c in apart if unicodedata.category(c) != "Mn"))


def words(text: str) -> Words:
    """The runs of letters of a text, folded; digits and punctuation separate them."""
    return tuple(_LETTERS.findall(folded(text)))


def vocabulary(kinds: Mapping[str, str | Iterable[str]]) -> dict[Words, str]:
    """Phrase -> kind, from comma-separated phrases by kind; where two kinds share a phrase the first one holds."""
    found: dict[Words, str] = {}
    for kind, phrases in kinds.items():
        listed = phrases.split(",") if isinstance(phrases, str) else phrases
        for phrase in map(words, listed):
            if phrase:
                found.setdefault(phrase, kind)
    return found


def kinds(text: str, known: Mapping[Words, str]) -> list[str]:
    """The kinds of the phrases that a text consists of, the longest first choice; `UNKNOWN` for each word that is none.

    `LEFT HAND` gives two kinds; `THANDI`, which only holds the letters of a hand, gives `UNKNOWN`.
    """
    parts = tuple(part for word in words(text) for part in _unspaced(word, known))
    longest = max(map(len, known), default=1)
    found, at = [UNKNOWN] * ("?" in text), 0  # `PA?`: who wrote it did not know
    while at < len(parts):
        length = next((n for n in range(longest, 0, -1) if parts[at : at + n] in known), 0)
        found.append(known[parts[at : at + length]] if length else UNKNOWN)
        at += length or 1
    return found


def _unspaced(word: str, known: Mapping[Words, str]) -> Iterator[str]:
    """A word as it is; one of an unspaced script in the longest pieces that the vocabulary knows."""
    if (word,) in known or not _UNSPACED.search(word):
        yield word
        return
    at = 0
    while at < len(word):
        end = next((end for end in range(len(word), at, -1) if (word[at:end],) in known), at + 1)
        yield word[at:end]
        at = end
