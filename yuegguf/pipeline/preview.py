"""`preview.wav`: what stage 1 has drawn so far, decoded while it draws.

The preview only reads what was drawn, after each step that stage 1 reports, so it cannot change a draw. A
frame is written once the frames that it depends on are known: the file equals the decoded whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.growing_wav import GrowingWav, to_pcm
from yuegguf.codec.protocol import CODEC_HOP, CODEC_RATE, FRAME_RATE, AudioCodec
from yuegguf.errors import YueError
from yuegguf.lm.vocab import split_tracks
from yuegguf.progress import Event, Progress
from yuegguf.stages.render import CODEC_CONTEXT, WINDOW_FRAMES, decode_codebook0

COMPARED = FRAME_RATE
"""Frames at an earlier preview's end that are decoded again, to see whether the song still begins so."""
NEAR = 8
"""Steps of 16 bits that two decodings of one frame may differ: threads may have changed."""


class Preview:
    """A file that follows the codes of a song."""

    def __init__(
        self,
        path: Path,
        open_codec: Callable[[], AudioCodec],
        seconds: float,
        comment: str,
        warn: Callable[[str], None],
    ) -> None:
        """Write on `path` whenever `seconds` of music are new; the codec is opened when they are.

        A preview is a convenience: where it fails, `warn` is called once, and the file stays as it is.
        """
        self._path, self._open_codec, self._comment, self._warn = path, open_codec, comment, warn
        self._every = round(FRAME_RATE * seconds)
        self._codec: AudioCodec | None = None
        self._wav: GrowingWav | None = None
        self._known = np.zeros((2, 0), np.int16)
        """The codes that the file was made from."""
        self._stopped = False

    def is_due(self, frames: int) -> bool:
        """Whether `follow` has something to do when so many frames are drawn."""
        known = self._known.shape[1]
        return not self._stopped and (frames < known or frames >= known + self._every)

    def follow(self, codes: NDArray[np.int16], whole: bool = False) -> bool:
        """Bring the file nearer to codes [2, T], at most a window; whether more of them can be written.

        With `whole` no frames follow, so that the last ones can be written too.
        """
        if self._stopped:
            return False
        try:
            return self._follow(codes, whole)
        except (YueError, OSError, MemoryError) as error:
            self._stopped = True
            why = error.message if isinstance(error, YueError) else str(error) or type(error).__name__
            self._warn(f"the preview ends here, the song goes on: {why}")
            return False

    def close(self) -> None:
        """Free the codec and the file."""
        if self._codec is not None:
            self._codec.close()
        if self._wav is not None:
            self._wav.close()
        self._codec = self._wav = None
        self._stopped = True

    def _follow(self, codes: NDArray[np.int16], whole: bool) -> bool:
        codec, wav = self._parts(codes)
        frames = codes.shape[1]
        start = min(wav.samples // CODEC_HOP, max(0, self._same(codes) - CODEC_CONTEXT))
        wav.cut(CODEC_HOP * start)  # what is left was drawn again since
        end = frames if whole else max(start, frames - CODEC_CONTEXT)
        stop = min(end, start + WINDOW_FRAMES)
        if stop > start:
            wav.append(to_pcm(decode_codebook0(codes, codec, start, stop).sum(axis=0)))
        self._known = codes[:, : min(frames, stop + CODEC_CONTEXT)]
        return bool(stop < end)

    def _same(self, codes: NDArray[np.int16]) -> int:
        """Number of leading frames that these codes share with those of the file."""
        shared = min(codes.shape[1], self._known.shape[1])
        other = (codes[:, :shared] != self._known[:, :shared]).any(axis=0)
        return int(other.argmax()) if other.any() else shared

    def _parts(self, codes: NDArray[np.int16]) -> tuple[AudioCodec, GrowingWav]:
        if self._codec is None or self._wav is None:
            self._codec = self._open_codec()
            self._wav = GrowingWav.open(self._path, CODEC_RATE, self._comment)
            self._known = self._of_before(codes, self._codec, self._wav)
        return self._codec, self._wav

    @staticmethod
    def _of_before(codes: NDArray[np.int16], codec: AudioCodec, wav: GrowingWav) -> NDArray[np.int16]:
        """The codes behind what an earlier process wrote; none if it was made from others."""
        settled = min(wav.samples // CODEC_HOP, codes.shape[1] - CODEC_CONTEXT)
        if settled <= 0:
            return codes[:, :0]
        first = max(0, settled - COMPARED)
        again = to_pcm(decode_codebook0(codes, codec, first, settled).sum(axis=0))
        there = wav.read(CODEC_HOP * first, CODEC_HOP * settled)
        apart = np.abs(there.astype(int) - again).max()
        return codes[:, : settled + CODEC_CONTEXT if apart <= NEAR else 0]


@contextmanager
def previewed(
    preview: Preview | None, drawn: Callable[[int], Sequence[int]], sections: int, progress: Progress
) -> Iterator[Progress]:
    """The progress for stage 1 that also keeps the preview; it is written to its end if all goes well.

    `drawn(section)` are the codes of a section so far, which may end in stage 1's end mark.
    """
    if preview is None:
        yield progress
        return

    def codes() -> NDArray[np.int16]:
        pairs = [np.array(drawn(i)[: len(drawn(i)) // 2 * 2], np.int16) for i in range(sections)]
        return split_tracks(np.concatenate(pairs))

    def report(event: Event) -> None:
        progress(event)
        if preview.is_due(sum(len(drawn(i)) // 2 for i in range(sections))):
            preview.follow(codes())

    try:
        yield report
        while preview.follow(codes(), whole=True):
            progress(Event("draft", 1, 1, "finishing the preview"))
    finally:
        preview.close()
