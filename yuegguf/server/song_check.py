"""A song that is checked without being made, as a JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.fit import section_fit


def checked(job: SongJob, warnings: Sequence[str]) -> dict[str, Any]:
    """Sections of a job and how their words fit, beside warnings."""
    request = job.song.request
    fits = [section_fit(section, request.segment_seconds, request.genre) for section in job.song.sections]
    sections = [
        {
            "label": fit.label,
            "seconds": fit.seconds,
            "syllables": fit.syllables,
            "pace": round(fit.pace, 2),
            "likely_seconds": round(fit.likely_seconds, 1),
            "verdict": fit.verdict,
            "advice": fit.advice,
        }
        for fit in fits
    ]
    return {"sections": sections, "warnings": list(warnings), "model": job.models.name}
