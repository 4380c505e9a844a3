"""Codes of the bundled family's own song, which the package ships to check its files on.

    python -m nano.samples

Writes `yuegguf/data/samples/nano-stage1.json` and `nano-stage2.json`: the first two sections of a held-out
song, and its first two chunks. Made again after every training.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yuegguf
from nano.evaluate.requests import held_out
from yuegguf.lm.vocab import interleave
from yuegguf.song.folder import SongFolder
from yuegguf.stages.stage2 import CHUNK_FRAMES

SAMPLES = Path(yuegguf.__file__).parent / "data" / "samples"
SONG, SECTIONS, CHUNKS = 4, 2, 2
SECONDS = 30.0


def main() -> None:
    """Generate the song and write both files."""
    spec = held_out(SONG + 1)[SONG]
    request = yuegguf.SongRequest(spec.tags, spec.lyrics, segment_seconds=SECONDS, seed=spec.seed, retries=0)
    with tempfile.TemporaryDirectory() as folder:
        song = yuegguf.generate(request, yuegguf.ModelChoice("nano"), Path(folder))
        opened = SongFolder.open(song.folder)
        codes, frames = opened.load_stage1()
        refined = opened.load_stage2()[:, :, : CHUNKS * CHUNK_FRAMES]
        ended = [section.complete for section in song.sections]
    facts = {"model": "nano", "source": f"nano.samples, held-out song {SONG}", "licence": "Apache-2.0"}
    start, sections = 0, []
    for count, done in list(zip(frames, ended, strict=True))[:SECTIONS]:
        part = codes[:, start : start + count]
        sections.append({"ended": done, "codes": interleave(*part).tolist()})
        start += count
    _write("nano-stage1", {**facts, "tags": spec.tags, "lyrics": spec.lyrics, "sections": sections})
    _write("nano-stage2", {**facts, "codes": refined.tolist()})


def _write(name: str, facts: dict[str, Any]) -> None:
    (SAMPLES / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
