"""Batches of songs: the next step of every song in stage 1 goes to the engine in one call.

A song is a generator that yields the inputs of its next step and is sent their logits. Songs join and leave
between any two steps. A prompt is read in blocks, one between two steps of the others.

llama.cpp reads the weights once for sequences whose numbers follow each other, so the sequences of a song
that leaves are taken over by those behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from yuegguf.errors import EngineError
from yuegguf.lm.protocol import SequenceInput, TokenEngine, in_blocks

Result = TypeVar("Result")
StepGenerator = Generator[list[SequenceInput], NDArray[np.float32], Result]
MAX_STEP_IDS = 2
"""Maximum ids of a sequence in a step; an input with more is a prompt."""
LENGTH_STEP = 1024
"""Sequences become longer by multiples of so many ids."""


class _Layout:
    """Places of all songs in an engine, and the size of the context that they need."""

    def __init__(self, engine: TokenEngine) -> None:
        self.engine = engine
        self.places: list[Place] = []
        self.rows = engine.n_rows
        """Sequences of the next context: those that it was opened with, until a song leaves."""

    @property
    def end(self) -> int:
        """Number of sequences that are in use."""
        return sum(place.count for place in self.places)

    def resize(self) -> None:
        """Open a context for the present songs alone, so that what others needed is free again.

        Raises EngineError.
        """
        longest = max(place.reserved for place in self.places)
        ids = -(-longest // LENGTH_STEP) * LENGTH_STEP if longest else self.engine.n_ctx
        self.engine.resize(max(self.rows, self.end), ids)

    def remove(self, place: Place) -> None:
        """Close the gap that a place leaves, and empty the sequences behind those that stay."""
        before = min(self.end, self.engine.n_rows)
        self.places.remove(place)
        first = 0
        for other in self.places:
            for offset in range(other.count if other.first != first else 0):
                self.engine.copy(other.first + offset, first + offset)
            other.first, first = first, first + other.count
        for seq in range(first, before if self.places else 0):
            self.engine.forget(seq, 0)
        self.rows = first


class Place:
    """The sequences of one song in a batch; a song's inputs number them from 0."""

    def __init__(self, layout: _Layout, count: int) -> None:
        self.engine, self.first, self.count = layout.engine, layout.end, count
        self.fixed_pairs = False
        """Whether the song feeds two ids a step by itself, since one of its tracks is given."""
        self.reserved = 0
        """Ids that its sequences may hold by now."""
        self._layout = layout

    @property
    def seqs(self) -> range:
        """The engine's numbers of these sequences, which change when another song leaves."""
        return range(self.first, self.first + self.count)

    @property
    def alone(self) -> bool:
        """Whether no other song is in the batch."""
        return len(self._layout.places) == 1

    @property
    def in_pairs(self) -> bool:
        """Whether all songs feed two ids a step: llama.cpp splits a batch of one and two into two."""
        return all(place.fixed_pairs for place in self._layout.places)

    @property
    def songs(self) -> int:
        """Number of songs in the batch."""
        return len(self._layout.places)

    def reserve(self, ids: int) -> None:
        """Let sequences hold at least so many ids. Raises EngineError where there is no memory for it."""
        self.reserved = ids
        if ids > self.engine.n_ctx:
            self._layout.resize()


class _Member(Generic[Result]):
    """A song in a batch."""

    def __init__(self, place: Place, steps: StepGenerator[Result]) -> None:
        self.place, self.steps = place, steps
        self.blocks: deque[list[SequenceInput]] = deque()
        """Batches to decode before the song goes on; the last one gives its logits."""
        self.started = False
        """Whether anything has been decoded."""
        self.same_prompt: list[int] = []
        """Songs that wait for this one's prompt, to copy its caches."""
        self.waits = False

    @property
    def reads_prompt(self) -> bool:
        """Whether the next input is part of a prompt."""
        if len(self.blocks) > 1:
            return True
        return max([len(each.ids) for each in self.blocks[0]]) > MAX_STEP_IDS

    def inputs(self) -> list[SequenceInput]:
        """The next inputs, with the engine's numbers."""
        first = self.place.first
        if not first:
            return self.blocks[0]
        return [SequenceInput(first + each.seq, each.ids, each.n_logits) for each in self.blocks[0]]


class StepBatch(Generic[Result]):
    """The songs in stage 1, the oldest first, and the steps that they take together."""

    def __init__(self, engine: TokenEngine) -> None:
        self._engine = engine
        self._members: dict[int, _Member[Result]] = {}
        self._layout = _Layout(engine)
        self._ended: dict[int, Result | Exception] = {}

    def __len__(self) -> int:
        """Number of songs."""
        return len(self._members)

    def join(self, song: int, count: int, start: Callable[[Place], StepGenerator[Result]]) -> None:
        """Let a song with `count` sequences take part; a failure is its result."""
        place = Place(self._layout, count)
        member = _Member(place, start(place))
        self._members[song] = member
        self._layout.places.append(place)
        self._advance(song, lambda: self._first_step(member))

    def _first_step(self, member: _Member[Result]) -> list[SequenceInput]:
        place = member.place
        for seq in place.seqs:
            if seq < self._engine.n_rows:
                self._engine.forget(seq, 0)
        if place.first + place.count > self._engine.n_rows:
            self._layout.resize()
        return next(member.steps)

    def step(self) -> dict[int, Result | Exception]:
        """Decode a block of the oldest unread prompt, then a step of all other songs.

        Returns what has ended since the last call: songs → results, or the exceptions that ended them.
        Raises Interrupted when the engine was stopped in a prompt.
        """
        reading: list[int] = []
        ready: list[int] = []
        for song, member in self._members.items():
            if not member.waits:
                (reading if member.reads_prompt else ready).append(song)
        if reading:
            self._share_prompt(reading[0])
            self._decode(reading[:1])
        if ready:
            self._decode(ready)
        ended, self._ended = self._ended, {}
        return ended

    def run(self) -> dict[int, Result]:
        """Run all songs to their ends; returns their results. Raises what ends one of them."""
        results: dict[int, Result] = {}
        try:
            while self._members or self._ended:
                for song, result in self.step().items():
                    if isinstance(result, Exception):
                        raise result
                    results[song] = result
        finally:
            self.close()
        return results

    def drop(self, song: int, error: Exception) -> None:
        """End a song with an error, unless it has ended already."""
        if song in self._members:
            self._leave(song, _thrown(self._members[song], error))

    def drop_all(self, reason: Callable[[], Exception]) -> None:
        """End all songs, each with an error of its own."""
        for song, member in self._members.items():
            self._ended[song] = _thrown(member, reason())
        self._members.clear()
        self._layout.places.clear()

    def close(self) -> None:
        """End all songs without results, so that what they have open is closed."""
        for member in self._members.values():
            member.steps.close()
        self._members.clear()
        self._layout.places.clear()

    def _share_prompt(self, song: int) -> None:
        """Let songs that begin with the same ids in empty sequences wait for their first prompt."""
        member = self._members[song]
        if member.started:
            return
        for other, follower in self._members.items():
            new = follower is not member and not (follower.started or follower.waits)
            alike = follower.place.count == member.place.count
            if new and alike and list(follower.blocks) == list(member.blocks):
                follower.waits = True
                member.same_prompt.append(other)

    def _decode(self, songs: Sequence[int]) -> None:
        """Decode the next inputs of these songs in one batch."""
        members = [self._members[song] for song in songs]
        try:
            logits = self._engine.decode([each for member in members for each in member.inputs()])
        except EngineError as error:
            if len(songs) == 1:
                self.drop(songs[0], error)
                return
            for song in songs:  # one of them is at fault
                self._decode([song])
            return
        if len(songs) > 1 or members[0].same_prompt:
            logits = logits.copy()  # what one song does next may free the engine's own array
        end = 0
        for song, member in zip(songs, members, strict=True):
            start, end = end, end + sum([each.n_logits for each in member.blocks.popleft()])
            member.started = True
            if not member.blocks:
                self._send(song, member, logits[start:end] if len(songs) > 1 else logits)

    def _send(self, song: int, member: _Member[Result], logits: NDArray[np.float32]) -> None:
        """Let a song go on, and those that have the same prompt."""
        followers, member.same_prompt = member.same_prompt, []
        for other in followers:
            follower = self._members[other]
            for source, target in zip(member.place.seqs, follower.place.seqs, strict=True):
                self._engine.copy(source, target)
            follower.waits, follower.started = False, True
            follower.blocks.clear()
        for each in (song, *followers):
            steps = self._members[each].steps
            self._advance(each, lambda steps=steps: steps.send(logits))  # type: ignore[misc]

    def _advance(self, song: int, step: Callable[[], list[SequenceInput]]) -> None:
        try:
            inputs = step()
        except StopIteration as end:
            self._leave(song, end.value)
        except Exception as error:  # a song's failure stops no other
            self._leave(song, error)
        else:
            self._members[song].blocks = deque(in_blocks(inputs, self._engine.n_batch))

    def _leave(self, song: int, result: Result | Exception) -> None:
        """Keep a song's result, and close the gap in the sequences."""
        member = self._members.pop(song)
        self._ended[song] = result
        for follower in member.same_prompt:
            self._members[follower].waits = False
        for other in self._members.values():
            if song in other.same_prompt:
                other.same_prompt.remove(song)
        self._layout.remove(member.place)


def _thrown(member: _Member[Result], error: Exception) -> Exception:
    """Raise an error in a song's generator; returns what ends it."""
    try:
        member.steps.throw(error)
    except StopIteration:
        return error
    except Exception as raised:  # its clean-up may fail with another one
        return raised
    member.steps.close()
    return error
