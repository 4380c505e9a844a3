"""Stage 1 of a song folder: its task, its log and its codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.tags import Tags
from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.lm.protocol import TokenEngine
from yuegguf.lm.vocab import Stage1Vocab, split_tracks, stage1_vocab
from yuegguf.pipeline.engines import EngineFactory
from yuegguf.pipeline.preview import Preview, previewed
from yuegguf.planning.plan import Plan
from yuegguf.progress import Event, Progress
from yuegguf.request.prepared import PreparedSong
from yuegguf.request.syllables import count_syllables
from yuegguf.song.cache_snapshots import KvSnapshots
from yuegguf.song.folder import SongFolder
from yuegguf.stages import prompt, stage1
from yuegguf.stages.batching import Place, StepGenerator
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


@dataclass(frozen=True)
class Stage1Model:
    """Ids and tokenizer of an open stage 1, shared by the songs in its batch."""

    vocab: Stage1Vocab
    encode: prompt.EncodeText

    @classmethod
    def of(cls, engine: TokenEngine, parts: EngineFactory) -> Self:
        """The ids and the tokenizer of an engine. Raises YueError."""
        return cls(stage1_vocab(engine.pieces), parts.tokenizer(engine).encode)


@dataclass(frozen=True)
class DraftWork:
    """Model, engines and limits for the draft of one song."""

    model: Stage1Model
    parts: EngineFactory
    plan: Plan
    progress: Progress


def draft_steps(
    folder: SongFolder, given: Conditioning, work: DraftWork, place: Place
) -> StepGenerator[None]:
    """The steps of stage 1 of a song at its place in a batch; its codes are in the folder then.

    Raises YueError; what was sampled is kept.
    """
    model, parts, progress = work.model, work.parts, work.progress
    with ExitStack() as stack:
        log, warn = stack.enter_context(closing(folder.token_log())), _warner(progress)
        cache = KvSnapshots(
            folder.path / "cache",
            log,
            parts.cache_key,
            parts.snapshot_seconds,
            warn=warn,
            songs=lambda: place.songs,
        )
        task = replace(
            stage1_task(folder, model.encode, model.vocab, given),
            n_ctx=work.plan.n_ctx,
            confidence=work.plan.draft_confidence,
        )
        preview = _preview(folder, parts, warn)
        report = stack.enter_context(previewed(preview, log.codes, len(task.caps), progress))
        sections = yield from stage1.candidate_steps(
            CandidateTask(task, log, cache, report), model.vocab, place
        )
    _keep_draft(folder, sections)
    if faults := faults_of(task, sections):
        folder.advance(folder.state, faults={**folder.record.faults, **faults})  # beside those of kept ones


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
    song, request, base, caps = folder.song, folder.request, folder.load_kept_part(), drafted_caps(folder)
    built = prompt.build(
        encode, vocab, request.genre, song.all_sections, song.sections, reference=conditioning.reference
    )
    kept = base.prefix if base else KeptPrefix()
    return Stage1Task(
        replace(built, sections=built.sections[: len(caps)]),
        caps,
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


def drafted_caps(folder: SongFolder) -> list[int]:
    """Most frames of each section of a song, as far as they are drafted: without those kept behind them."""
    caps, base = folder.frame_caps(), folder.load_kept_part()
    return caps[: len(caps) - len(base.after_frames)] if base else caps


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
