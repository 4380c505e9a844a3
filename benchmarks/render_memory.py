"""Memory and time of mastering a five-minute song, measured in a fresh process.

    python benchmarks/render_memory.py CODEC_FOLDER             # render, mix, write three wav files
    python benchmarks/render_memory.py CODEC_FOLDER --mix codec --frames 1500
    python benchmarks/render_memory.py --no-codec               # noise for a codec: our own arrays alone

Prints one JSON object. The limit for a song of 15,000 frames is 1.5 GiB; above it the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the measured process imports them inside `measure`
    import numpy as np
    from numpy.typing import NDArray

    from yuegguf.codec.protocol import AudioCodec, Track

LIMIT_GIB = 1.5


class NoiseCodec:
    """The waves of a codec without its networks."""

    def encode(self, wav16k: NDArray[np.float32]) -> NDArray[np.int16]:
        """Nothing is encoded here."""
        raise NotImplementedError

    def decode(self, codes: NDArray[np.int16]) -> NDArray[np.float32]:
        """Noise [320·T]."""
        return self._noise(320 * codes.shape[1])

    def upsample(self, codes: NDArray[np.int16], track: Track) -> NDArray[np.float32]:
        """Noise [882·T]."""
        return self._noise(882 * codes.shape[1])

    def close(self) -> None:
        """Nothing to free."""

    def _noise(self, samples: int) -> NDArray[np.float32]:
        import numpy as np

        return np.random.default_rng(0).standard_normal(samples, np.float32) * np.float32(0.4)


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Render, mix and write in this process → times in seconds and the peak resident memory."""
    import numpy as np

    from yuegguf.audio.files import write_audio
    from yuegguf.audio.tags import Tags
    from yuegguf.request.song_request import Output
    from yuegguf.stages.mastering import master
    from yuegguf.stages.render import render

    if arguments.no_codec:
        codec: AudioCodec = NoiseCodec()
    else:
        from yuegguf.codec.onnx import OrtCodec

        codec = OrtCodec.open(arguments.codec)
    codes = np.random.default_rng(0).integers(0, 1024, (2, 8, arguments.frames)).astype(np.int16)
    marks = [time.perf_counter()]
    stems = render(codes, codec, window=arguments.window)
    codec.close()
    marks.append(time.perf_counter())
    rendered = peak_gib()
    song = master(stems, Output(mix=arguments.mix))
    marks.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        for name in ("mix", "vocals", "instrumental"):
            write_audio(Path(folder, f"{name}.wav"), getattr(song, name), tags=Tags(name))
    marks.append(time.perf_counter())
    names = ("render", "mix", "write")
    times = {name: round(b - a, 2) for name, a, b in zip(names, marks, marks[1:], strict=False)}
    return {
        "frames": arguments.frames,
        "window": arguments.window,
        "mix": arguments.mix,
        "seconds": times,
        "peak_gib_after_render": round(rendered, 3),
        "peak_gib": round(peak_gib(), 3),
    }


def peak_gib() -> float:
    """Largest resident set of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> int:
    """Parse, measure in a child, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codec", nargs="?", type=Path, help="folder of the exported codec")
    parser.add_argument("--no-codec", action="store_true", help="use noise instead of a codec")
    parser.add_argument("--frames", type=int, default=15_000)
    parser.add_argument("--window", type=int, default=500)
    parser.add_argument("--mix", default="hybrid")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if (arguments.codec is None) != arguments.no_codec:
        parser.error("give a codec folder or --no-codec")
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return 0
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(child.stdout, end="")
    return int(json.loads(child.stdout)["peak_gib"] > LIMIT_GIB)


if __name__ == "__main__":
    sys.exit(main())
