"""Audio between ComfyUI's tensors and audio files."""

from __future__ import annotations

import io
import wave
from typing import TypedDict

import numpy as np
import torch

from .wanted import Recording

FULL_SCALE = {1: 2**7, 2: 2**15, 3: 2**23, 4: 2**31}
"""Bytes of a sample → its full scale."""


class Audio(TypedDict):
    """ComfyUI's AUDIO."""

    waveform: torch.Tensor
    """[batch, channels, samples], floating point."""
    sample_rate: int


def audio_of(data: bytes) -> Audio:
    """AUDIO [1, channels, samples] of an audio file, of WAV files to the last bit. Raises ValueError."""
    return audio_of_wav(data) if data[:4] == b"RIFF" else _decoded(data)


def _decoded(data: bytes) -> Audio:
    """AUDIO of a FLAC, MP3, Opus or M4A file."""
    try:
        import av  # ComfyUI's own, in versions of 2025 and later
    except ImportError as error:
        raise ValueError(
            "this ComfyUI reads WAV files alone; update it, or run: yuegguf render SONG --format wav"
        ) from error
    try:
        with av.open(io.BytesIO(data)) as file:
            rate, planes = file.streams.audio[0].rate, av.AudioResampler(format="fltp")
            parts = [
                part.to_ndarray()
                for frame in [*file.decode(audio=0), None]
                for part in planes.resample(frame)
            ]
            samples = np.concatenate(parts, axis=1)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"the song's audio cannot be read ({error})") from error
    return {"waveform": torch.from_numpy(samples).unsqueeze(0), "sample_rate": rate}


def audio_of_wav(data: bytes) -> Audio:
    """AUDIO [1, channels, samples] of a WAV file of 16, 24 or 32 bits. Raises ValueError for another file."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (wave.Error, EOFError) as error:
        raise ValueError(f"the song's audio is no WAV file of whole numbers ({error})") from error
    if width == 1:
        raise ValueError("the song's audio has 8 bits per sample")
    padded = np.zeros((len(raw) // width, 4), np.uint8)
    padded[:, 4 - width :] = raw.reshape(-1, width)
    samples = padded.view("<i4").ravel().astype(np.float64) / FULL_SCALE[4]
    shaped = samples.astype(np.float32).reshape(-1, channels).T
    return {"waveform": torch.from_numpy(shaped.copy()).unsqueeze(0), "sample_rate": rate}


def recording_of(audio: Audio | None, name: str) -> Recording | None:
    """The first item of a batch, its channels averaged, as a WAV file of 24 bits; None without audio.

    Samples beyond full scale are clipped. Raises ValueError for audio without samples.
    """
    if audio is None:
        return None
    mono = audio["waveform"][0].detach().to("cpu", torch.float32).mean(dim=0).numpy()
    if not len(mono):
        raise ValueError(f"{name} has no samples")
    scale = FULL_SCALE[3]
    levels = np.clip(np.rint(np.nan_to_num(mono) * scale), -scale, scale - 1).astype("<i4")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 3, int(audio["sample_rate"]), 0, "NONE", ""))
        file.writeframes(levels.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    return Recording(out.getvalue())
