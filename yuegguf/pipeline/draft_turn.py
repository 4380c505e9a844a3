"""A turn of stage 1: songs that can share the model are drafted in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from yuegguf.errors import Interrupted
from yuegguf.lm.protocol import TokenEngine
from yuegguf.pipeline import phases
from yuegguf.pipeline.draft_phase import DraftWork, Stage1Model
from yuegguf.pipeline.engines import find_devices
from yuegguf.pipeline.song_queue import Group, SongQueue
from yuegguf.pipeline.song_work import SongWork
from yuegguf.planning.compute_options import Devices
from yuegguf.planning.together import drafts_fit, takes_fit
from yuegguf.stages.batching import LENGTH_STEP, StepBatch


class DraftTurn:
    """The songs in the batch, and which of those that wait may join it.

    The oldest song that waits for stage 1 comes next, and no younger one passes it. It joins if there is room
    in the batch and in memory; and while a song waits for stage 2, only if it cannot end later than those in
    the batch, so that it delays nobody. A recording that could be encoded beside the open model only in parts
    waits until that is closed, since its codes would differ. Takes that begin a turn and do not fit all
    together are drafted in several.
    """

    def __init__(self, lead: SongWork, queue: SongQueue, parallel: int) -> None:
        self._lead, self._queue, self._parallel = lead, queue, parallel
        self._drafting: list[tuple[Group, list[SongWork]]] = []
        """Groups in the turn, and those of their songs that have not ended it."""
        self._works: dict[int, SongWork] = {}
        """Number in the batch → song."""
        self._joined = 0
        self._devices = Devices(1)
        self._engine: TokenEngine | None = None

    def run(self) -> None:
        """Draft until no song is in the batch. Errors are the songs' results."""
        try:
            if self._parallel > 1:
                self._devices = find_devices(self._lead.options)  # before the model takes its part
            while joining := self._next():
                self._encode(joining)
                if not self._in_turn():  # the next turn begins with a lead of its own
                    return
            if self._in_turn():
                self._lead = self._in_turn()[0]
                sequences = sum(work.plan.stage1_rows for work in self._in_turn())
                ids = self._lead.plan.n_ctx if self._parallel == 1 else LENGTH_STEP
                with closing(self._lead.parts.stage1(sequences, ids)) as self._engine:
                    self._draft(self._engine)
        except Exception as error:
            for work in [self._lead, *self._in_turn()]:
                if not work.ended:
                    work.fail(error)

    def _in_turn(self) -> list[SongWork]:
        return [work for _, works in self._drafting for work in works]

    def _draft(self, engine: TokenEngine) -> None:
        batch, model = StepBatch[None](engine), Stage1Model.of(engine, self._lead.parts)
        try:
            for work in self._in_turn():
                self._join(batch, model, work)
            seen = self._queue.version
            while self._works:
                changed = self._step(batch) or self._queue.version != seen
                while changed and self._works and (joining := self._next()):
                    for work in self._encode(joining):
                        self._join(batch, model, work)
                seen = self._queue.version
        finally:
            batch.close()

    @property
    def _open_bytes(self) -> int:
        """Bytes of the machine's memory that the model takes, once it is open."""
        if self._engine is None:
            return 0
        load = replace(self._lead.plan.stage1(), rows=self._engine.n_rows, ids=self._engine.n_ctx)
        return load.own_bytes(self._lead.headers.stage1_alone, self._devices.shared_memory)

    def _join(self, batch: StepBatch[None], model: Stage1Model, work: SongWork) -> None:
        number, self._joined = self._joined, self._joined + 1
        self._works[number] = work
        draft = DraftWork(model, work.parts, work.plan, work.progress)
        count = 2 if work.folder.request.sampling.guided else 1
        batch.join(number, count, partial(phases.draft_steps, work.folder, draft, work.seconds_before))

    def _step(self, batch: StepBatch[None]) -> bool:
        """Take a step; returns whether a song has ended."""
        if self._queue.stop.is_set():
            batch.drop_all(partial(Interrupted, "stopped"))
        for number in [number for number, work in self._works.items() if work.cancelled]:
            batch.drop(number, Interrupted("stopped"))
        try:
            ended = batch.step()
        except Interrupted:  # while reading a prompt
            batch.drop_all(partial(Interrupted, "stopped"))
            ended = batch.step()
        for number, result in ended.items():
            work = self._works.pop(number)
            self._leave(work)
            if isinstance(result, Exception):
                work.fail(result)
            elif len(batch):  # else once the model is closed
                work.write_audio()
        return bool(ended)

    def _leave(self, work: SongWork) -> None:
        for _, works in self._drafting:
            if work in works:
                works.remove(work)
        self._drafting = [(group, works) for group, works in self._drafting if works]

    def _encode(self, works: Sequence[SongWork]) -> list[SongWork]:
        """Encode the inputs of songs that join; returns those without a failure."""
        before: list[SongWork] = [work for work in self._in_turn() if work not in works]
        for work in works:
            work.encode_inputs(next(filter(work.has_same_inputs, before), None), self._open_bytes)
            before.append(work)
        for work in works:
            if work.ended:
                self._leave(work)
        return [work for work in works if not work.ended]

    def _next(self) -> list[SongWork]:
        """The songs of the oldest group that waits for stage 1, if it may join now."""
        while len(self._drafting) < self._parallel and self._queue.may_begin:
            waiting = 0
            for group in self._queue.groups():
                if any(group is other for other, _ in self._drafting):
                    if self._left(group):
                        return []
                    continue
                works = self._queue.begin(group, self._devices if self._engine else None)
                if drafts := [work for work in works if work.phase == "draft"]:
                    joining = [work for work in drafts if work.stage1_load == self._lead.stage1_load]
                    if not joining or not self._may_join(joining, waiting):
                        return []
                    joining = joining if self._in_turn() else self._fitting(joining)
                    self._drafting.append((group, list(joining)))
                    return joining
                waiting += bool(works)
            if waiting >= self._parallel or not self._queue.more():
                break
        return []

    def _left(self, group: Group) -> bool:
        """Whether takes of a group in the turn wait for another one."""
        in_turn = self._in_turn()
        return any(not work.ended and work not in in_turn and work.phase == "draft" for work in group)

    def _fitting(self, works: list[SongWork]) -> list[SongWork]:
        """As many of the songs that begin the turn as fit into memory together, at least one."""
        if self._parallel == 1 and len(works) > 1:
            self._devices = find_devices(self._lead.options)
        return works[: next((n for n in range(len(works), 1, -1) if self._fit(works[:n])), 1)]

    def _fit(self, works: Sequence[SongWork]) -> bool:
        """Whether these songs can be drafted together."""
        lead, devices = self._lead, self._devices
        if self._parallel == 1:  # the context is opened once, as the plan counts it
            return takes_fit(lead.plan, len(works), lead.headers.stage1.facts, lead.options, devices)
        needs = [work.draft_need for work in works]
        return drafts_fit(needs, lead.headers.stage1_alone, lead.options, devices)

    def _may_join(self, works: Sequence[SongWork], waiting: int) -> bool:
        """Whether songs of the lead's model may join; those of the first group always."""
        others = self._in_turn()
        if not others:
            return True
        longest = max(work.frames_left for work in others)
        if waiting and max(work.frames_left for work in works) > longest:
            return False
        if self._engine is not None and not all(work.encodes_whole(self._open_bytes) for work in works):
            return False
        return self._fit([*others, *works])
