"""Write songs to a folder: python -m nano.corpus FOLDER --count N --seed FIRST."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from nano.corpus.render import make_song
from yuegguf.audio.files import write_audio


def main() -> None:
    """One subfolder of stems, mix, tags, lyrics and labels for each seed."""
    parser = argparse.ArgumentParser(prog="nano.corpus", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first song; the others follow it")
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.count):
        song = make_song(seed)
        folder = options.folder / f"{seed:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, wave in (("vocal", song.vocal), ("instrumental", song.instrumental), ("mix", song.mix)):
            write_audio(folder / f"{name}.wav", wave)
        (folder / "tags.txt").write_text(song.tags + "\n", "utf-8")
        (folder / "lyrics.txt").write_text(song.lyrics, "utf-8")
        (folder / "labels.json").write_text(json.dumps(asdict(song.labels), indent=1) + "\n", "utf-8")
        print(f"{folder}: {song.labels.frames / 50:.1f} s, {song.tags}")


if __name__ == "__main__":
    main()
