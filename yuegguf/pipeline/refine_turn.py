"""A turn of stage 2: chunks of several songs share the rows, those of the oldest song first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

from yuegguf.errors import Interrupted
from yuegguf.lm.vocab import stage2_vocab
from yuegguf.pipeline import phases
from yuegguf.pipeline.engines import find_devices
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.together import rows_for_songs
from yuegguf.stages.stage2 import ChunkBatch, Refinement, best_rows


class RefineTurn:
    """The songs in the turn, each with what has to be closed at its end."""

    def __init__(self, lead: SongWork, works: Sequence[SongWork]) -> None:
        """`works` are drafted songs, the oldest first; those that can share a model with `lead` take part."""
        self._lead = lead
        self._works = [work for work in works if work.stage2_load == lead.stage2_load]
        self._drafts: dict[SongWork, phases.Draft] = {}
        self._songs: dict[Refinement, tuple[SongWork, ExitStack]] = {}

    def run(self) -> None:
        """Refine until all these songs are. Errors are the songs' results."""
        try:
            self._load()
            rows = self._rows()
            for work, draft in self._drafts.items():
                self._enter(work, draft, rows)
            self._end_complete()
            if self._songs:
                with closing(self._lead.parts.stage2(rows)) as engine:
                    self._refine(ChunkBatch(engine, stage2_vocab(engine.pieces)))
        except BaseException as error:
            for song in list(self._songs):
                self._leave(song, error)
            if not isinstance(error, Exception):
                raise
            for work in self._works:
                if not work.ended and work.phase == "refine":
                    work.fail(error)

    def _load(self) -> None:
        """Read the drafts; a damaged one fails its song."""
        for work in self._works:
            try:
                self._drafts[work] = phases.load_draft(work.folder)
            except Exception as error:
                work.fail(error)
        self._lead = next(iter(self._drafts), self._lead)

    def _rows(self) -> int:
        """Rows of the engine: for a song alone those of its plan, or fewer."""
        all_lengths = sorted((n for draft in self._drafts.values() for n in draft.lengths), reverse=True)
        lead = self._lead
        if not all_lengths:
            return 1
        if len(self._drafts) == 1:
            return best_rows(all_lengths, lead.plan.stage2_rows, lead.plan.step_effort)
        devices = find_devices(lead.options)
        return rows_for_songs(lead.plan, all_lengths, lead.headers.stage2.facts, lead.options, devices)

    def _enter(self, work: SongWork, draft: phases.Draft, rows: int) -> None:
        stack = ExitStack()
        try:
            song = stack.enter_context(phases.refining(work.folder, draft, rows, work.parts, work.progress))
        except Exception as error:
            work.fail(error)
        else:
            self._songs[song] = work, stack

    def _refine(self, batch: ChunkBatch) -> None:
        while self._songs:
            for song in [song for song, (work, _) in self._songs.items() if work.cancelled]:
                batch.drop(song)
                self._leave(song, Interrupted("stopped"))
            batch.fill(list(self._songs))
            for song, error in batch.refine_frame().items():
                self._leave(song, error)
            self._end_complete()

    def _end_complete(self) -> None:
        """Let songs leave whose chunks are all done; their audio is written now if others go on.

        Else it is written once the model is closed.
        """
        for song in [song for song in self._songs if song.complete]:
            work = self._leave(song)
            if self._songs and not work.ended:
                work.write_audio()

    def _leave(self, song: Refinement, error: BaseException | None = None) -> SongWork:
        work, stack = self._songs.pop(song)
        try:
            stack.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except Exception as raised:  # what could not be saved
            error = raised
        if isinstance(error, Exception):
            work.fail(error)
        return work
