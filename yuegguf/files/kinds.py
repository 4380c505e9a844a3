"""Files in the place of others, known by their first bytes: pointers, web pages, archives, messages.

A reader that finds a file damaged or of another format asks here what it is, so that the error names it
with the command that gets the real file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.hub_cache import cached_file, lost_target
from yuegguf.files.reading import open_plain_file
from yuegguf.files.sizes import size_text

HEAD_BYTES = 512
"""Bytes from which a kind is known."""
SHOWN = 40
"""Characters of a text that are shown."""
MAX_SAFETENSORS_HEADER = 1 << 28
"""Maximum bytes of a safetensors header."""
_POINTER = re.compile(rb"version https://git-lfs.*?(?:\nsize (\d{1,15})\s|$)", re.DOTALL)
_PUBLISHED = re.compile(r"YuE-s[12]-\S+|xcodec_mini_infer|YuE-upsampler")
"""Names of the repositories of YuE v1, all of m-a-p."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file that no reader expects in the place of its own."""

    name: str
    """Name for messages, with its article."""
    advice: Callable[[Path], str] | None = None
    """Makes the sentence of what to do from the file's path; None where the reader knows better."""
    form: str = ""
    """Format: zip, torch, safetensors, npy, gguf, json, text, zeros, pointer or archive."""


def _lfs_pull(path: Path) -> str:
    """Command for a file of a clone; the download where there is none."""
    folder = path.absolute().parent
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            name = path.absolute().relative_to(parent).as_posix()
            return f"get it with: {_line('git', '-C', parent, 'lfs', 'pull', '--include', name)}"
    return _download_again(path) or "in a clone of its repository run: git lfs pull"


def _download(path: Path) -> str:
    general = "download the file itself: on Hugging Face its address has /resolve/ instead of /blob/"
    return _download_again(path) or general


def _download_again(path: Path) -> str:
    command = download_command(path)
    return f"get it with: {command}" if command else ""


def _weights(suffix: str) -> Callable[[Path], str]:
    """Advice for weights of another format in the place of a GGUF, or under a wrong suffix."""

    def advice(path: Path) -> str:
        if path.suffix == ".gguf":
            return f"make a GGUF of its folder: {_line('yuegguf', 'convert', path.parent)}"
        return f"rename it: {_line('mv', path, path.with_suffix(suffix))}"

    return advice


def _archive(name: str, *command: str) -> FileKind:
    """An archive whose command gets FILE and FOLDER; a command without FOLDER writes to its output."""

    def advice(path: Path) -> str:
        words = {"FILE": path, "FOLDER": path.parent}
        line = _line(*(words.get(word, word) for word in command))
        new = "" if "FOLDER" in command else f" > {_line(path.with_name(f'unpacked-{path.name}'))}"
        return f"unpack it: {line}{new}"

    return FileKind(name, advice, "archive")


EMPTY = FileKind("an empty file", _download_again)
ZEROS = FileKind("a file of zeros, as a download leaves that never ended", _download_again, "zeros")
PAGE = FileKind("a web page", _download)
ZIP = replace(_archive("a zip archive", "unzip", "FILE", "-d", "FOLDER"), form="zip")
TORCH = FileKind("a PyTorch checkpoint", _weights(".bin"), "torch")
_MAGIC: tuple[tuple[int, bytes, FileKind], ...] = (
    (0, b"<!doctype html", PAGE),
    (0, b"<html", PAGE),
    (0, b"<head", PAGE),
    (0, b"<?xml", FileKind("an XML text, as servers send for an error", _download)),
    (0, b"\x1f\x8b", _archive("a gzip archive", "gzip", "-dc", "FILE")),
    (0, b"bzh", _archive("a bzip2 archive", "bzip2", "-dc", "FILE")),
    (0, b"\xfd7zxz\0", _archive("an xz archive", "xz", "-dc", "FILE")),
    (0, b"\x28\xb5\x2f\xfd", _archive("a zstd archive", "zstd", "-dc", "FILE")),
    (257, b"ustar", _archive("a tar archive", "tar", "-xf", "FILE", "-C", "FOLDER")),
    (0, b"7z\xbc\xaf\x27\x1c", _archive("a 7z archive", "7z", "x", "-so", "FILE")),
    (0, b"rar!", _archive("a rar archive", "unrar", "p", "-inul", "FILE")),
    (0, b"pk\x03\x04", ZIP),
    (0, b"pk\x05\x06", FileKind("an empty zip archive")),
    (0, b"%pdf", FileKind("a PDF")),
    (0, b"gguf", FileKind("a GGUF file", form="gguf")),
    (0, b"\x93numpy", FileKind("an .npy array", form="npy")),
)  # fmt: skip
"""Position, first bytes in lower case, kind."""


def kind_of(head: bytes, usual: Collection[str] = ()) -> FileKind | None:
    """The kind of a file with these first HEAD_BYTES; None for any other.

    `usual` are the forms that a reader reads itself.
    """
    found = _kind(head)
    return None if found is None or found.form in usual else found


def _kind(head: bytes) -> FileKind | None:
    if not head:
        return EMPTY
    pointer = _POINTER.match(head)
    if pointer:
        size = f" to {size_text(int(pointer[1]))}" if pointer[1] else ""
        return FileKind(f"a git-lfs pointer{size}, not the file itself", _lfs_pull, "pointer")
    if b"data.pkl" in head[:128] and head.startswith(b"PK\x03\x04"):
        return TORCH
    text = _bare(head)
    for place, magic, kind in _MAGIC:
        if head[place:].lower().startswith(magic) or (magic.startswith(b"<") and text.startswith(magic)):
            return kind
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < MAX_SAFETENSORS_HEADER:
        return FileKind("a safetensors file", _weights(".safetensors"), "safetensors")
    if len(head) == HEAD_BYTES and not head.strip(b"\0"):
        return ZEROS
    return _text(head)


def _bare(head: bytes) -> bytes:
    """A text in lower case without the space, the byte order mark and the comments before it."""
    text = head.removeprefix(b"\xef\xbb\xbf").strip().lower()
    while text.startswith(b"<!--"):
        text = text.partition(b"-->")[2].strip()
    return text


def _text(head: bytes) -> FileKind | None:
    """The kind of a short message such as "Entry not found"; None for anything else."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    words = " ".join(text.split())
    if not words or not words.isprintable():
        return None
    shown = words if len(words) <= SHOWN else f"{words[:SHOWN]}…"
    form = "json" if words[0] in "{[" else "text"
    return FileKind(f"a text ({shown})", _download_again, form)


def check_text(path: Path, head: bytes) -> None:
    """Refuse what stands in the place of a text with these first HEAD_BYTES, such as a pointer or an archive.

    Raises DamagedFile, which calls it what it is. An empty file is left to the reader.
    """
    kind = kind_of(head, ("text", "json"))
    if kind is not None and kind is not EMPTY:
        advice = kind.advice(path) if kind.advice else ""
        raise DamagedFile(f"{path} is {kind.name}", advice or "pass a text file")


def kind_of_file(path: Path, usual: Collection[str] = ()) -> FileKind | None:
    """The kind of a file by its first bytes; see `kind_of`. Raises OSError."""
    with open_plain_file(path) as file:
        return kind_of(file.read(HEAD_BYTES), usual)


def explain_damage(path: Path, error: DamagedFile, usual: Collection[str] = ()) -> DamagedFile:
    """The error that calls a file what it is, with the command that gets the real one; else `error`."""
    try:
        kind = kind_of_file(path, usual)
    except OSError:
        return error
    if kind is None:
        return error
    advice = kind.advice(path) if kind.advice else ""
    return DamagedFile(f"{path} is {kind.name}", advice or error.hint)


def explain_absence(path: Path, error: ModelNotFound) -> ModelNotFound:
    """The error that names the lost target of a link, with the command that gets it; else `error`."""
    target = lost_link(path)
    if not target:
        return error
    return ModelNotFound(f"{path} is {target}", _download_again(path) or "copy the file itself there")


def lost_link(path: Path) -> str:
    """Description of a link that leads to nothing; empty for any other path."""
    target = lost_target(path)
    if target is None:
        return ""
    parts = sum(part.stat().st_size for part in target.parent.glob(f"{target.name}*.incomplete"))
    state = f"of which only {size_text(parts)} arrived" if parts else "which is not there"
    return f"a link to {target}, {state}"


def download_command(*paths: Path) -> str:
    """Command that downloads files of one folder; empty where their path names no published repository."""
    found = [place for path in paths if (place := _repository(path))]
    return _line("hf", "download", found[0][0], *(each[1] for each in found), *found[0][2]) if found else ""


def repository_command(folder: Path) -> str:
    """Command that downloads all of the repository of a folder; empty where its path names none."""
    found = _repository(folder / "all")
    return _line("hf", "download", found[0], *found[2]) if found else ""


def _repository(path: Path) -> tuple[str, str, tuple[str | Path, ...]] | None:
    """Repository, name in it, and target of a file whose path names its repository; else None."""
    cached = cached_file(path)
    if cached:
        return cached.repository, cached.name, ("--cache-dir", cached.cache)
    for folder in path.absolute().parents:
        if _PUBLISHED.fullmatch(folder.name):
            name = path.absolute().relative_to(folder).as_posix()
            return f"m-a-p/{folder.name}", name, ("--local-dir", folder)
    return None


def _line(*words: str | Path) -> str:
    return shlex.join(map(str, words))
