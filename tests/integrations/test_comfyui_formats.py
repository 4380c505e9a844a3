"""The nodes for ComfyUI and songs whose files are no WAV files, or lack both tracks: here and at a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comfy_stand_in import Pack
from serving_client import served

import yuegguf

TRACKS = ("mix", "vocals", "instrumental")
SONG = {"tags": "pop", "lyrics": "[verse]\nla la", "segment_seconds": 1.0, "seed": 5, "model": "nano"}
FLAC = yuegguf.Output(("flac",))
NO_TRACKS = "has no files of its vocals and instrumental"
pytestmark = pytest.mark.usefixtures("no_models")


@dataclass
class Place:
    """A library of the nodes, and its folder."""

    pack: Pack
    server: str
    songs: Path

    def run(self, node: str, **inputs: Any) -> Any:
        return self.pack.run(node, **inputs, server=self.server)

    def made(self, output: yuegguf.Output) -> str:
        """Id of a song of the nodes whose files were rendered again, its older ones left or removed."""
        song = str(self.run("YueSong", **SONG)[3])
        yuegguf.render(self.songs / song, output)
        return song

    def names(self) -> list[str]:
        return sorted(file.parent.name for file in self.songs.glob("*/song.json"))


@pytest.fixture(params=["here", "at a server"])
def place(request: pytest.FixtureRequest, pack: Pack, tmp_path: Path) -> Iterator[Place]:
    if request.param == "here":
        yield Place(pack, "", tmp_path / "output/yuegguf")
    else:
        with served(tmp_path / "songs") as client:
            yield Place(pack, f"http://127.0.0.1:{client.port}/", tmp_path / "songs")


def same(outputs: Any, folder: Path) -> bool:
    """Whether the three outputs are the FLAC files of a song, to the last bit."""
    files = [soundfile.read(folder / f"{track}.flac", dtype="float32")[0] for track in TRACKS]
    given = [out["waveform"].numpy()[0, 0] for out in outputs[:3]]
    return all(np.array_equal(*pair) for pair in zip(given, files, strict=True))


def test_flac_files_are_read(place: Place) -> None:
    song = place.made(
        yuegguf.Output(("flac",), vocal_gain=-6)
    )  # other music than that of the older WAV files
    assert (place.songs / song / "mix.wav").is_file()
    assert same(place.run("YueSong", **SONG), place.songs / song)
    assert same(place.run("YueRefine", song=song), place.songs / song)
    longer = place.run("YueExtend", song=song, seed=8, retake=1)
    assert same(longer, place.songs / longer[3])


def test_a_song_without_its_tracks_is_refused_before_any_work(place: Place) -> None:
    song = place.made(yuegguf.Output(stems=False))
    for node, inputs in (
        ("YueSong", SONG),
        ("YueRefine", {"song": song}),
        ("YueExtend", {"song": song, "seed": 8, "retake": 1}),
    ):
        with pytest.raises(RuntimeError, match=NO_TRACKS):
            place.run(node, **inputs)
    assert place.names() == [song]


def test_a_draft_that_will_lack_its_tracks_is_not_refined(place: Place) -> None:
    request = yuegguf.SongRequest(
        "pop", "[verse]\nla", segment_seconds=1.0, output=yuegguf.Output(stems=False)
    )
    choice, early = yuegguf.ModelChoice("nano"), yuegguf.PreviewOptions("mix")
    draft = yuegguf.generate(request, choice, place.songs, preview=early).folder
    with pytest.raises(RuntimeError, match=NO_TRACKS):
        place.run("YueRefine", song=draft.name)
    assert not (draft / "stage2.npz").exists()


def test_a_comfyui_without_pyav_says_what_to_do(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(pack, "", tmp_path / "output/yuegguf")
    place.made(FLAC)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match="render SONG --format wav"):
        place.run("YueSong", **SONG)


def test_a_file_that_is_no_audio_is_refused(pack: Pack) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        pack.audio.audio_of(b"fLaC, it says")
