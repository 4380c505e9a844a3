"""Bytes of a text file → text, whatever its encoding; an inferred encoding is noted."""

from __future__ import annotations

import codecs
import unicodedata
from dataclasses import dataclass
from itertools import islice

from yuegguf.errors import RequestError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FALLBACKS = ["cp949", "gb18030", "cp932", "big5", "euc_jp", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254"]
"""Encodings besides UTF-8, by preference among equally likely ones."""
_NAMES = {"gb18030": "GBK", "cp932": "Shift-JIS", "cp949": "EUC-KR", "big5": "Big5", "euc_jp": "EUC-JP"}
_FREQUENT_LEADS = {
    "gb18030": range(0xB0, 0xD8),
    "big5": range(0xA4, 0xC7),
    "cp932": range(0x82, 0x98),
    "euc_jp": range(0xA4, 0xD0),
    "cp949": range(0xB0, 0xC9),
}
"""First bytes of the kana, Han or Hangul signs that each character set holds for their frequency."""


@dataclass(frozen=True)
class DecodedText:
    """The text of a file, and a notice where its encoding was not stated."""

    text: str
    notice: str = ""


def decode_text(data: bytes, noun: str, name: str) -> DecodedText:
    """Text of `data`, in UTF-8, by its byte-order mark, or by the likeliest encoding.

    Raises RequestError where it is no text; `noun` and `name` say of which file.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return DecodedText(data.decode(encoding))
            except UnicodeDecodeError as error:
                raise _no_text(noun, name) from error
    plain = _decoded(data, "utf-8")
    inferred = _unmarked_utf16(data) if plain is not None and "\0" in plain else None
    if inferred is None and plain is not None:
        return DecodedText(plain)
    inferred = inferred or _inferred_encoding(data)
    if inferred is None:
        raise _no_text(noun, name)
    shown = _NAMES.get(inferred, inferred.upper())
    return DecodedText(
        data.decode(inferred), f"{name} is not UTF-8; it is read as {shown}, which may be wrong"
    )


def _inferred_encoding(data: bytes) -> str | None:
    """The likeliest encoding of bytes that are not UTF-8; None for bytes of no text."""
    if any(byte < 32 and byte not in b"\t\n\r\x0b\x0c" for byte in data):
        return _unmarked_utf16(data)
    from charset_normalizer import from_bytes  # slow to import, and seldom needed

    matches = from_bytes(data, cp_isolation=_FALLBACKS, threshold=0.6)
    coherence = {name: match.coherence for match in matches for name in match.could_be_from_charset}
    candidates = [encoding for encoding in _FALLBACKS if encoding in coherence]
    return max(candidates, key=lambda name: (_plausibility(data, name), coherence[name]), default=None)


def _plausibility(data: bytes, encoding: str) -> float:
    """Share of the signs above ASCII that are frequent in texts of this encoding; below 0 for odd ones."""
    text = data.decode(encoding)
    places = islice((at for at, sign in enumerate(text) if sign > "\x7f"), 2_000)  # more decide nothing
    marks = [_sign_score(text, at, encoding) for at in places]
    return sum(marks) / max(1, len(marks))


def _sign_score(text: str, at: int, encoding: str) -> float:
    """1 for a frequent sign of the encoding's script, 0 for a neutral one, -1 for an odd one."""
    sign = text[at]
    kind = unicodedata.category(sign)
    if kind in ("Co", "Cn") or "\uff61" <= sign <= "\uff9f":  # half-width kana
        return -1
    if leads := _FREQUENT_LEADS.get(encoding):
        if not kind.startswith("L"):
            return 0
        code = sign.encode(encoding)
        foreign = encoding == "gb18030" and "\u3041" <= sign <= "\u30ff"
        return 1 if len(code) == 2 and code[0] in leads and code[1] > 0x3F and not foreign else -1
    if not kind.startswith("L"):
        return -1 if kind in ("So", "No", "Sc", "Sk", "Sm") else 0
    before, after = text[max(0, at - 1) : at], text[at + 1 : at + 2]
    if "LATIN" in unicodedata.name(sign, ""):  # accented letters seldom stand side by side
        return -1 if all(other > "\x7f" and other.isalpha() for other in (before, after)) else 1
    mixed = any(other.isascii() and other.isalpha() for other in (before, after))
    return -1 if mixed or (kind == "Lu" and before.isalpha()) else 1


def _unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 by the zero bytes that half of its Latin signs have; else None."""
    for encoding, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        text = _decoded(data, encoding)
        if text is not None and len(zeros) > 1 and zeros.count(0) * 3 >= len(zeros) and "\0" not in text:
            return encoding
    return None


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _no_text(noun: str, name: str) -> RequestError:
    return RequestError(f"{name} is not text in any encoding known here", f"save the {noun} as UTF-8")
