"""Readers of texts, notes, arrays and recordings, with small valid ones."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import soundfile
from fuzz_driver import Target
from fuzz_songs import content_of, each
from mutators import Content
from song_examples import codes_of, finished_song

from yuegguf.audio.files import write_audio
from yuegguf.audio.recording import open_recording, read_audio
from yuegguf.cli import _queue_file
from yuegguf.cli._console import Console
from yuegguf.cli._queue import State
from yuegguf.cli._song_job import job_options
from yuegguf.cli._texts import read_text
from yuegguf.cli.run import run
from yuegguf.errors import RequestError
from yuegguf.exchange import convert, finetuning_data, yue_ui
from yuegguf.exchange.imported import ImportFacts
from yuegguf.exchange.importing import read_files
from yuegguf.exchange.npy_codes import read_codes
from yuegguf.files import arrays
from yuegguf.models import hub_client, lockfile, offline_kit
from yuegguf.planning.cost import StepCost
from yuegguf.planning.timing import TimingCache
from yuegguf.request import lyrics
from yuegguf.request.changes import Kind
from yuegguf.request.fit import merged_sections
from yuegguf.request.prepared import prepare
from yuegguf.request.scripts import line_scripts
from yuegguf.request.song_request import SongRequest
from yuegguf.server.unpacking import unpack
from yuegguf.song.folder import SongFolder

TONE = (0.3 * np.sin(np.arange(6000) / 9)).astype(np.float32)


def project_seeds(folder: Path) -> list[Content]:
    """A project with both stages."""
    song = SongFolder.open(finished_song(folder))
    return [{"p.json": yue_ui.format_project(convert.to_project(song))}]


def pair_seeds(folder: Path) -> list[Content]:
    """YuE's pair of either stage."""
    song = SongFolder.open(finished_song(folder))
    convert.write_npy_files(convert.npy_files(song), folder / "out")
    files = content_of(folder / "out")
    second = {name: data for name, data in files.items() if name.startswith("stage2")}
    return [files, second]


def read_pair(folder: Path) -> None:
    """A pair as codes, and as a song."""
    each(lambda: read_codes([folder]), lambda: convert.from_pair([folder], ImportFacts()))


def zip_seeds(folder: Path) -> list[Content]:
    """Zips with a pair of either stage, and with a project."""
    found = []
    for content in (*pair_seeds(folder), *project_seeds(folder)):
        with zipfile.ZipFile(out := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(f"export/{name}", data)  # type: ignore[arg-type]
        found.append({"a.zip": out.getvalue()})
    return found


def read_zip(folder: Path) -> None:
    """A zip of a client as a song."""
    with tempfile.TemporaryDirectory() as place:
        read_files(unpack(folder / "a.zip", Path(place) / "unpacked"), ImportFacts())


def lock_seeds(folder: Path) -> list[Content]:
    """A lock of two files."""
    digest = hashlib.sha256(b"x").hexdigest()
    facts = ("apache-2.0", "m-a-p/x", "0" * 40, {"a": "sha256:" + digest}, "yuegguf")
    found = [
        lockfile.Installed("en-cot-Q8_0.gguf", "en-cot", "Q8_0", 1, digest, *facts),
        lockfile.Installed("xcodec/decoder.onnx", "xcodec", "", 1, digest, *facts),
    ]
    lockfile.update_lock(folder, found)
    return [{**content_of(folder), "en-cot-Q8_0.gguf": b"x", "xcodec/decoder.onnx": b"x"}]


def read_lock(folder: Path) -> None:
    """A kit's list, what is there of it, and whether it is right."""
    entries = offline_kit.kit_entries(folder)
    each(
        lambda: offline_kit.kit_entries(folder, ["en-cot", "xcodec"]),
        lambda: lockfile.entries_with_files(folder, entries),
        *(lambda e=e: lockfile.verify_file(folder, e) for e in entries[:5]),  # type: ignore[misc]
    )


def record_seeds(folder: Path) -> list[Content]:
    """Records of a download's source."""
    files = (
        hub_client.RemoteFile("a.json", 3, f"blob:{'0' * 40}"),
        hub_client.RemoteFile("b/c.bin", 9, f"sha256:{'1' * 64}"),
    )
    hub_client.write_source_record(hub_client.RepoSnapshot("m-a-p/x", "0" * 40, "apache-2.0", files), folder)
    return [content_of(folder)]


def read_record(folder: Path) -> None:
    """The record and what is missing; none is a refusal."""
    found = hub_client.read_source_record(folder)
    if found is None:
        raise RequestError("no record")
    hub_client.missing_bytes(found, folder)


def queue_seeds(folder: Path) -> list[Content]:
    """A queue, and the same as JSON."""
    song = {"name": "a", "genre": "pop", "lyrics": "[verse]\nla", "seed": 7, "format": ["flac"]}
    facts = {"defaults": {"retries": 0, "threads": 1, "draft": True}, "songs": [song, {**song, "name": "b"}]}
    text = b"defaults: {retries: 0}\nsongs:\n  - {name: a, genre: pop, lyrics: '[verse] la'}\n"
    text += b"  - name: b\n    genre: rock\n    lyrics: |\n      [verse]\n      la\n"
    return [{"q.yaml": json.dumps(facts).encode()}, {"q.yaml": text}]


def read_queue(folder: Path) -> None:
    """A queue's songs as options and requests."""
    import click

    defaults, songs = _queue_file.read(folder / "q.yaml")
    for song in songs[:50]:
        try:
            asked = _queue_file.chosen(run, defaults, song.options)
            arguments = [text for one in asked.values() for text in one.arguments(folder)]
            context = run.make_context("run", arguments, obj=Console(quiet=True))
            with context.scope(cleanup=False):
                job_options.take(dict(context.params)).request.request()
        except click.UsageError as error:
            raise RequestError(error.message[:200]) from error


def text_seeds(folder: Path) -> list[Content]:
    """Lyrics, and a choice among their sections."""
    text = "(soft)\n[Verse 1] #length 10\nla la la\nlo\n\n[chorus]\nnight & day\n[outro]\n"
    timed = (
        "[ti:a]\n[00:01.00][verse]\n[00:01.00] la <00:01.50> la\n[00:09.50][chorus x2]\n[length:00:20.00]\n"
    )
    found: list[Content] = [
        {"lyrics.txt": text.encode(), "spec.txt": b"1-2,3"},
        {"lyrics.txt": text.encode("utf-8-sig"), "spec.txt": b"1"},
        {"lyrics.txt": timed.encode("utf-16"), "spec.txt": b"all"},
    ]
    pasted = sorted((Path(__file__).parents[1] / "request" / "pasted").glob("*.txt"))
    return found + [{"lyrics.txt": path.read_bytes(), "spec.txt": b"1"} for path in pasted]


def read_again(text: str, keep_repeats: bool) -> None:
    """Lyrics as they are read and written: reading them again changes nothing."""
    parsed = lyrics.parse_lyrics(text, keep_repeats)
    for sections in (list(parsed.sections), merged_sections(parsed.sections, 30)):
        again = lyrics.parse_lyrics(lyrics.format_lyrics(sections), keep_repeats)
        assert list(again.sections) == sections
    assert len(parsed.notices) <= len(Kind)
    line_scripts(text)


def read_lyrics(folder: Path) -> None:
    """Lyrics as sections, some of them, and as a request."""
    text, spec = (read_text(str(folder / f"{name}.txt"), name) for name in ("lyrics", "spec"))
    each(
        lambda: read_again(text, False),
        lambda: read_again(text, True),
        lambda: lyrics.choose_sections(lyrics.parse_lyrics(text).sections, spec),
        lambda: prepare(SongRequest(spec, text)),
        lambda: yue_ui.our_lyrics(text, ["verse"]),
    )


def dataset_seeds(folder: Path) -> list[Content]:
    """A song to finetune with."""
    text = b"[ti:x]\n[00:00.00][verse]\n[00:00.10] la la\n[00:01.50][chorus]\n[00:01.60] lo\n"
    tracks = {f"song/{name}.wav": b"RIFF" for name in ("vocals", "instrumental")}
    return [{**tracks, "song/lyrics.lrc": text, "song/tags.txt": b"pop female\n"}]


def read_dataset(folder: Path) -> None:
    """The songs of a folder, as rows."""
    for song in finetuning_data.read_songs(folder, folder / "train.jsonl"):
        finetuning_data.jsonl_row(song, 200, dict.fromkeys(("mix", "vocals", "instrumental"), "x.npy"))


def speed_seeds(folder: Path) -> list[Content]:
    """A measurement of this machine."""
    cost = StepCost(*(0.5 for _ in StepCost.__dataclass_fields__))
    TimingCache(folder / "speed.json").keep(cost, "model")
    return [content_of(folder)]


def read_speed(folder: Path) -> None:
    """A measurement; none is a refusal."""
    if TimingCache(folder / "speed.json").find("model") is None:
        raise RequestError("not measured")


# Arrays and audio


def array_seeds(folder: Path) -> list[Content]:
    """Arrays of several kinds."""
    arrays_of = (codes_of(), TONE[:50], np.asfortranarray(np.arange(12).reshape(3, 4)), np.zeros(0, np.int8))
    found = []
    for array in arrays_of:
        np.save(out := io.BytesIO(), array)
        found.append({"a.npy": out.getvalue()})
    return found


def archive_seeds(folder: Path) -> list[Content]:
    """Named arrays."""
    arrays.save_arrays(folder / "a.npz", {"codes": codes_of(), "frames": np.array([50, 50])})
    np.savez(folder / "b.npz", codes=TONE, frames=np.zeros((2, 0)))
    return [{"a.npz": path.read_bytes()} for path in sorted(folder.iterdir())]


def audio_seeds(folder: Path) -> list[Content]:
    """Recordings of every kind."""
    for kind in ("wav", "flac", "mp3"):
        write_audio(folder / f"a.{kind}", TONE, kind)  # type: ignore[arg-type]
    soundfile.write(folder / "a.ogg", np.stack([TONE, TONE], 1), 22050)
    soundfile.write(folder / "b.wav", TONE[:999], 8000, subtype="FLOAT")
    soundfile.write(folder / "a.aiff", TONE[:999], 48000, subtype="PCM_24")
    return [{path.name: path.read_bytes()} for path in sorted(folder.iterdir())]


def read_recording(folder: Path) -> None:
    """A recording's length, samples, and samples for the codec."""
    for path in sorted(folder.iterdir()):
        open_recording(path).wave(16_000)
        read_audio(path)


STATE = b'{"00ff": "song", "11": "other"}'
OTHERS = (
    Target("YuE-UI project", project_seeds, lambda f: convert.from_project(f / "p.json", ImportFacts())),
    Target("YuE pair", pair_seeds, read_pair, folder=True),
    Target("codes in a zip", zip_seeds, read_zip),
    Target("lock and kit", lock_seeds, read_lock, only=".json"),
    Target("download record", record_seeds, read_record),
    Target("queue", queue_seeds, read_queue),
    Target("queue state", lambda _: [{"q.yaml.state.json": STATE}], lambda f: State(f / "q.yaml")),
    Target("lyrics", text_seeds, read_lyrics),
    Target("finetuning data", dataset_seeds, read_dataset, folder=True),
    Target("measured speeds", speed_seeds, read_speed),
    Target("npy", array_seeds, lambda folder: arrays.load_array(folder / "a.npy")),
    Target("npz", archive_seeds, lambda folder: arrays.load_arrays(folder / "a.npz", ("codes", "frames"))),
    Target("audio", audio_seeds, read_recording),
)
"""Readers of other tools' files, texts, notes, arrays and recordings."""
