"""Trained checkpoints → the bundled family, by our own converters.

    python -m nano.build TRAINED                          into yuegguf/data/nano, in Q8_0
    python -m nano.build TRAINED --out FOLDER --type F16  elsewhere, in another type

TRAINED is a folder of `nano.train`: stage1/, stage2/ and codec/ as m-a-p publishes them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yuegguf_convert.lm import convert_lm
from yuegguf_onnx_codec.export import export_codec, find_checkpoints

BUNDLE = Path(__file__).resolve().parent.parent / "yuegguf" / "data" / "nano"


def convert(checkpoints: Path, out: Path, out_type: str = "Q8_0") -> None:
    """Checkpoints → stage1.gguf, stage2.gguf and the four ONNX files (float16 weights) in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for stage in ("stage1", "stage2"):
        convert_lm(checkpoints / stage, out / f"{stage}.gguf", out_type=out_type, overwrite=True)
    export_codec(*find_checkpoints(checkpoints / "codec"), out, half=True, overwrite=True)


def main() -> None:
    """Convert a trained family."""
    parser = argparse.ArgumentParser(
        prog="nano.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trained", type=Path)
    parser.add_argument("--out", type=Path, default=BUNDLE)
    parser.add_argument("--type", default="Q8_0", help="of the language models")
    options = parser.parse_args()
    convert(options.trained, options.out, options.type)


if __name__ == "__main__":
    main()
