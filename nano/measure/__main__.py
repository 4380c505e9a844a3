"""Print the measures' validation on clean corpus songs: python -m nano.measure --count 40."""

from __future__ import annotations

import argparse

from nano.corpus import make_song
from nano.measure.validate import HELD_OUT, corpus_classifier, degradations, validate


def main() -> None:
    """Shares of right answers on songs that nothing was fitted on."""
    parser = argparse.ArgumentParser(prog="nano.measure", description=main.__doc__)
    parser.add_argument("--count", type=int, default=40)
    count = parser.parse_args().count
    results = validate(range(HELD_OUT, HELD_OUT + count), corpus_classifier())
    for name, value in {**results, **degradations(make_song(HELD_OUT))}.items():
        print(f"{name:14} {value:8.3f}")


if __name__ == "__main__":
    main()
