"""Readers of song folders and what lies in them, with small valid ones."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from fuzz_driver import Target
from helpers import edit_song, log_of
from mutators import Content
from song_examples import FRAMES, codes_of, finished_song

from yuegguf.audio.growing_wav import GrowingWav
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError, YueError
from yuegguf.exchange import convert, yue_ui
from yuegguf.exchange.npy_codes import read_codes
from yuegguf.exchange.zip_bundle import write_bundle
from yuegguf.files import typed_json
from yuegguf.lm.vocab import interleave
from yuegguf.pipeline import song_models, takes
from yuegguf.pipeline.write_audio import file_extras
from yuegguf.request.song_request import GuideTrack, Reference
from yuegguf.song import voices
from yuegguf.song.cache_snapshots import KvSnapshots, SnapshotRecord
from yuegguf.song.folder import SongFolder
from yuegguf.song.guard import check_entries
from yuegguf.song.kept_part import KeptPart, write_kept_part
from yuegguf.song.lookup import newest_interrupted
from yuegguf.song.markers import write_markers
from yuegguf.song.state import finished, where
from yuegguf.song.token_log import TokenLog
from yuegguf.stages.stage1_task import KeptPrefix

DRAWS = [str(code) for code in codes_of()[:, 0].T.ravel()[:40]]
LOG = log_of("section 0", *DRAWS[:20], "end", "section 1", *DRAWS[20:], "again 6", "5", "6")


def content_of(folder: Path) -> Content:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def each(*readers: Callable[[], object]) -> None:
    """Call all; the first refusal is raised in the end."""
    first: YueError | None = None
    for reader in readers:
        try:
            reader()
        except YueError as error:
            first = first or error
    if first:
        raise first


def song_seeds(folder: Path) -> list[Content]:
    """A song.json with its checksum, and one without."""
    song = finished_song(folder)
    sealed = {"song/song.json": (song / "song.json").read_bytes()}
    edit_song(song)
    return [sealed, {"song/song.json": (song / "song.json").read_bytes()}]


def whole_seeds(folder: Path) -> list[Content]:
    """Songs with every file that one can have: a finished one, one in work, one that goes on from another."""
    path = finished_song(folder)
    song, codes = SongFolder.open(path), codes_of()
    reference = Reference(mix="/a.wav", end=FRAMES / FRAME_RATE)
    song.advance("done", request=replace(song.request, reference=reference, track=GuideTrack("vocal")))
    song.save_reference(codes[0, 0])
    song.save_guide_track(codes[0], None)
    song.save_chunk(0, 0, codes[0])
    write_kept_part(path, KeptPart(KeptPrefix(1, 4), (20, 2), codes[:, :, :22], (5,), codes[:, :, :5]))
    drawn = [str(code) for code in interleave(*codes[:, 0, :22])]
    (path / "tokens.log").write_bytes(log_of("section 0", *drawn[:40], "end", "section 1", *drawn[40:]))
    done = {f"song/{name}": data for name, data in content_of(path).items()}
    edit_song(path)
    loose = {f"song/{name}": data for name, data in content_of(path).items()}
    return [done, {**done, "song/song.json": loose["song/song.json"]}]


def read_song(folder: Path) -> None:
    """All that any command reads of a song."""
    path = folder / "song"
    song = SongFolder.open(path)
    out = folder / "out.zip"
    each(
        *(song.load_reference, song.load_guide_track, song.load_stage1, song.load_stage2),
        *(lambda: song.load_chunk(0, 0, FRAMES), song.load_kept_part, lambda: song.token_log().close()),
        *(lambda: where(song), lambda: finished(song), lambda: takes.frames(song)),
        *(lambda: song.load_codes(), lambda: file_extras(song, FRAMES)),
        *(
            lambda: write_markers(song),
            lambda: takes.drafted_song(song),
            lambda: write_bundle(path, out, force=True),
        ),
        *(lambda: convert.npy_files(song), lambda: yue_ui.format_project(convert.to_project(song))),
        *(
            lambda: song_models.codec_of_song(song),
            lambda: song_models.models_of_song(song),
            lambda: read_codes([path]),
        ),
        lambda: _claim(song),
    )
    if out.exists():
        _check_zip(out)


def _claim(song: SongFolder) -> None:
    with song.claimed():
        pass


def _check_zip(path: Path) -> None:
    """Assert that nothing in a bundle comes from elsewhere, or would be unpacked elsewhere."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            assert re.fullmatch(r"song/[^/]+", name), name
            assert archive.read(name) != b"mine", name


def take_seeds(folder: Path) -> list[Content]:
    """Two takes of a finished song in a folder of songs."""
    path = finished_song(folder, state="refine")
    edit_song(path)
    files = content_of(path)
    return [{f"all/song/take-{n}/{name}": data for n in (1, 2) for name, data in files.items()}]


def read_takes(folder: Path) -> None:
    """Takes, those that are chosen, and the song that was worked on last."""
    takes_of = folder / "all" / "song"
    each(
        lambda: [takes.frames(take) for take in takes.of(takes_of)],
        lambda: takes.chosen(takes_of, [1]),
        lambda: newest_interrupted(folder / "all"),
    )


def snapshot_seeds(folder: Path) -> list[Content]:
    """A snapshot of both rows."""
    rows = [b"row0", b"row1"]
    note = SnapshotRecord(1, 6, 0, 1, "key", tuple(hashlib.sha256(row).hexdigest() for row in rows))
    files = {f"cache/1-6/row{n}.bin": row for n, row in enumerate(rows)}
    return [{"tokens.log": LOG, "cache/1-6/mark.json": typed_json.encode_with_checksum(note), **files}]


def read_snapshot(folder: Path) -> None:
    """The newest snapshot; a damaged one is ignored, so none is a refusal."""
    check_entries(folder)
    with closing(TokenLog.open(folder / "tokens.log")) as log:
        if KvSnapshots(folder / "cache", log, "key", 10).latest() is None:
            raise RequestError("no snapshot")


def growing_seeds(folder: Path) -> list[Content]:
    """A preview of some samples."""
    with closing(GrowingWav.open(folder / "preview.wav", 44100, "ours")) as wav:
        wav.append(np.arange(100, dtype=np.int16))
    return [content_of(folder)]


def read_growing(folder: Path) -> None:
    """Go on with a preview, or begin it anew; the file is whole afterwards."""
    path = folder / "preview.wav"
    check_entries(folder)
    with closing(GrowingWav.open(path, 44100, "ours")) as wav:
        wav.read(0, wav.samples)
        wav.cut(50)
        wav.append(np.ones(7, np.int16))
        count = wav.samples
    assert len(soundfile.read(path)[0]) == count


def voice_seeds(folder: Path) -> list[Content]:
    """A voice of two tracks."""
    voice = voices.Voice("v", codes_of()[0, 0, :20], True, ("a.wav", "b.wav"), 1.5, "c0dec", "2026-01-02")
    voices.save_voice(voice, folder)
    return [content_of(folder)]


SONGS = (
    Target("song.json", song_seeds, lambda folder: SongFolder.open(folder / "song")),
    Target("song folder", whole_seeds, read_song, folder=True),
    Target("takes", take_seeds, read_takes, folder=True),
    Target("token log", lambda _: [{"tokens.log": LOG}], lambda f: TokenLog.open(f / "tokens.log").close()),
    Target("snapshot", snapshot_seeds, read_snapshot, folder=True),
    Target("preview", growing_seeds, read_growing),
    Target("voice", voice_seeds, lambda folder: voices.load_voice("v", folder)),
)
"""Readers of what we write ourselves, as somebody else may have written it."""
