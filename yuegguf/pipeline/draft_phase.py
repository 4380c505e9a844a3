"""Stage 1 of a song folder: its task, its log and its codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.tags import Tags
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.lm.vocab import Stage1Vocab, split_tracks, stage1_vocab
from yuegguf.pipeline.engines import EngineFactory
from yuegguf.pipeline.preview import Preview, previewed
from yuegguf.progress import Event, Progress
from yuegguf.request.prepared import PreparedSong
from yuegguf.request.syllables import count_syllables
from yuegguf.song.cache_snapshots import KvSnapshots
from yuegguf.song.folder import SongFolder
from yuegguf.stages import prompt, stage1
from yuegguf.stages.faults import Fault, FaultDetector
from yuegguf.stages.stage1_task import CandidateTask, FaultCheck, ForcedTrack, KeptPrefix, Stage1Task

FASTEST = 4.0
"""Syllables a second that a section of a few words may have and still be whole."""


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of stage 1 besides the lyrics."""

    reference: NDArray[np.int16] | None = None
    """Codebook 0 in stage-1 order [N]."""
    forced: ForcedTrack | None = None
    silence: int | None = None
    """The codec's code of silence, for a song whose sections are checked for faults."""


def draft(
    folders: Sequence[SongFolder],
    conditioning: Sequence[Conditioning],
    parts: EngineFactory,
    progress: Progress,
) -> None:
    """Stage 1 of candidates of one song, or of a song alone; their codes are in the folders then.

    Raises YueError; what was sampled is kept.
    """
    with closing(parts.stage1(len(folders))) as engine, ExitStack() as logs:
        vocab, encode = stage1_vocab(engine.pieces), parts.tokenizer(engine).encode
        tasks, report = [], progress
        for folder, given in zip(folders, conditioning, strict=True):
            log = logs.enter_context(closing(folder.token_log()))
            cache = KvSnapshots(
                folder.path / "cache", log, parts.cache_key, parts.snapshot_seconds, _warner(progress)
            )
            draft = stage1_task(folder, encode, vocab, given)
            preview = _preview(folder, parts, _warner(progress))
            report = logs.enter_context(previewed(preview, log.codes, len(draft.caps), report))
            tasks.append(CandidateTask(draft, log, cache))
        generated = stage1.generate_candidates(tasks, engine, vocab, report)
    for folder, part, sections in zip(folders, tasks, generated, strict=True):
        _keep_draft(folder, sections)
        if faults := faults_of(part.task, sections):
            folder.advance(folder.state, faults=faults)


def _warner(progress: Progress) -> Callable[[str], None]:
    return lambda text: progress(Event("draft", 0, 1, warning=text))


def _preview(folder: SongFolder, parts: EngineFactory, warn: Callable[[str], None]) -> Preview | None:
    seconds = folder.early.preview_seconds
    comment = Tags().comment if folder.request.output.tags else ""
    return Preview(folder.path / "preview.wav", parts.codec, seconds, comment, warn) if seconds else None


def stage1_task(
    folder: SongFolder,
    encode: prompt.EncodeText,
    vocab: Stage1Vocab,
    conditioning: Conditioning,
) -> Stage1Task:
    """Stage 1's task for a song."""
    song, request, base, caps = folder.song, folder.request, folder.load_kept_part(), frame_caps(folder)
    built = prompt.build(
        encode, vocab, request.genre, song.all_sections, song.sections, reference=conditioning.reference
    )
    drawn = len(caps) - (len(base.after_frames) if base else 0)
    kept = base.prefix if base else KeptPrefix()
    return Stage1Task(
        replace(built, sections=built.sections[:drawn]),
        caps[:drawn],
        request.sampling,
        request.seed,
        [section.label for section in song.sections],
        candidate=max(0, request.take - 1),
        speculative=not request.take,
        kept_prefix=kept,
        forced=conditioning.forced,
        fault_check=None
        if conditioning.silence is None
        else fault_check(song, caps, FaultDetector(conditioning.silence), kept),
        retries=request.retries,
    )


def frame_caps(folder: SongFolder) -> list[int]:
    """Most frames of each section of a song; of those that it goes on from, what they have."""
    caps, base = list(folder.song.caps), folder.load_kept_part()
    if base:
        whole = base.prefix.sections
        caps[:whole] = base.frames[:whole]
        caps[len(caps) - len(base.after_frames) :] = base.after_frames
    return caps


def fault_check(
    song: PreparedSong, caps: Sequence[int], detector: FaultDetector, kept: KeptPrefix
) -> FaultCheck:
    """Fault check of a song's sections; a silent vocal is a fault only where the vocal is sampled."""
    track = song.request.track
    voiced = track is None or track.track != "vocal"
    words = [voiced and bool(section.body.strip()) for section in song.sections]
    shortest = [round(FRAME_RATE * count_syllables(section.body) / FASTEST) for section in song.sections]

    def check(section: int, codes: Sequence[int], last: bool) -> Fault | None:
        has_words, cap = words[section], caps[section]
        given = kept.codes // 2 if section == kept.sections else 0
        if not last:
            return detector.check(codes, has_words, limit=cap, kept_frames=given)
        return detector.review(
            codes,
            has_words,
            ended=len(codes) < 2 * cap,
            limit=cap,
            kept_frames=given,
            min_frames=shortest[section],
        )

    return check


def faults_of(draft: Stage1Task, sections: Sequence[NDArray[np.int16]]) -> dict[str, str]:
    """Certain faults left after the last retry: section number from 1 → sentence."""
    if draft.fault_check is None:
        return {}
    own = range(draft.kept_prefix.sections, len(sections))
    faults = {str(n + 1): draft.fault_check(n, [int(code) for code in sections[n]], True) for n in own}
    return {number: fault.sentence for number, fault in faults.items() if fault and fault.certain}


def _keep_draft(folder: SongFolder, sections: Sequence[NDArray[np.int16]]) -> None:
    base = folder.load_kept_part()
    codes, frames = split_tracks(np.concatenate(sections)), [len(c) // 2 for c in sections]
    if base:
        codes = np.concatenate([codes, base.after[:, 0]], axis=1)
        frames += base.after_frames
    folder.save_stage1(frames, codes)
    folder.delete_folder("cache")
