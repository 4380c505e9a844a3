"""AudioCodec on ONNX Runtime; nothing else imports it.

A codec is a folder of four files written by `yuegguf export-codec`. Their headers are read and compared when
the folder is opened, their weights only when a graph first runs. Results are deterministic: same files, same
machine, same number of threads, same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from yuegguf.codec.header import GRAPH_ROLES, GraphHeader, GraphRole, read_graph_header
from yuegguf.codec.protocol import MIN_SAMPLES, SONG_HOP, Track
from yuegguf.errors import CodecError, DamagedFile, ModelNotFound, RequestError
from yuegguf.files.kinds import explain_absence

CPU = ("CPUExecutionProvider",)
"""The execution provider that every ONNX Runtime has."""


class OrtCodec:
    """X-Codec and the two upsamplers; an AudioCodec."""

    def __init__(
        self,
        files: dict[GraphRole, tuple[Path, GraphHeader]],
        threads: int | None,
        providers: Sequence[str] = CPU,
    ) -> None:
        self._files = files
        self._threads = threads
        self._providers = list(providers)
        self._sessions: dict[GraphRole, Any] = {}
        self._closed = False

    @classmethod
    def open(
        cls,
        folder: Path,
        threads: int | None = None,
        need: Sequence[GraphRole] = GRAPH_ROLES,
        *,
        providers: Sequence[str] = CPU,
    ) -> OrtCodec:
        """Open the codec in `folder`; loads no weights yet.

        `threads` None leaves it to ONNX Runtime (one per core); `need` are the graphs to open; `providers`
        are ONNX Runtime's devices, the first one that can compute a node does (see `build_info`). Raises
        ModelNotFound where one is missing, DamagedFile where one is damaged, of a newer format, or of
        another codec than the others.
        """
        files: dict[GraphRole, tuple[Path, GraphHeader]] = {}
        for role in need:
            path = folder / f"{role}.onnx"
            if not path.is_file():
                missing = ModelNotFound(f"{path} is not there", "make it with: yuegguf export-codec")
                raise explain_absence(path, missing)
            files[role] = path, read_graph_header(path, role)
        _check_same_codec(files)
        return cls(files, threads, providers)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the codebooks; codes of a codec with another one are not compatible."""
        return next(iter(self._files.values()))[1].fingerprint

    def encode(self, wav16k: NDArray[np.float32]) -> NDArray[np.int16]:
        """Wave [S] at 16 kHz → codes [8, T], T = floor((S + 240) / 320).

        The wave is encoded whole, since HuBERT normalises and attends over all of it; for the memory see
        `header.EncoderShape`. Raises RequestError for audio that is too short or not finite, CodecError
        for an array of another type or shape, and where memory runs out.
        """
        if wav16k.ndim != 1 or not np.issubdtype(wav16k.dtype, np.floating):
            raise CodecError(
                f"a wave must be one-dimensional and of floats, not {wav16k.dtype} {wav16k.shape}"
            )
        if wav16k.size < MIN_SAMPLES:
            raise RequestError(
                f"the audio is too short: {wav16k.size} samples at 16 kHz",
                f"the codec needs at least {MIN_SAMPLES}, 20 ms",
            )
        if not np.isfinite(wav16k).all():
            raise RequestError("the audio holds NaN or infinity", "convert it to a plain WAV file first")
        (codes,) = self._run("encoder", ["codes"], {"wave": wav16k.astype(np.float32, copy=False)})
        return codes.astype(np.int16)

    def decode(self, codes: NDArray[np.int16]) -> NDArray[np.float32]:
        """Codes [K, T], 1 ≤ K ≤ 8 → wave [320·T] at 16 kHz. Raises CodecError."""
        ids = self._checked(codes, "decoder")
        if ids.shape[1] == 0:
            return np.zeros(0, np.float32)
        wave: NDArray[np.float32] = self._run("decoder", ["wave"], {"codes": ids})[0]
        return wave

    def upsample(self, codes: NDArray[np.int16], track: Track) -> NDArray[np.float32]:
        """Codes [8, T] (or fewer codebooks) → wave [882·T] at 44.1 kHz. Raises CodecError."""
        role: GraphRole = "vocal_upsampler" if track == "vocal" else "instrumental_upsampler"
        ids = self._checked(codes, role)
        if ids.shape[1] == 0:
            return np.zeros(0, np.float32)
        real, imag = self._run(role, ["real", "imag"], {"codes": ids})
        return inverse_stft(real, imag, self._header(role).n_fft)

    def release(self, role: GraphRole) -> None:
        """Free one graph's memory; it is loaded again when it runs."""
        self._sessions.pop(role, None)

    def close(self) -> None:
        """Free the sessions. The codec cannot be used afterwards."""
        self._sessions.clear()
        self._closed = True

    def _header(self, role: GraphRole) -> GraphHeader:
        if role not in self._files:
            raise CodecError(f"the codec was opened without its {role}")
        return self._files[role][1]

    def _checked(self, codes: NDArray[np.int16], role: GraphRole) -> NDArray[np.int64]:
        header = self._header(role)
        if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer):
            raise CodecError(f"codes must be integers [codebooks, frames], not {codes.dtype} {codes.shape}")
        if not 1 <= codes.shape[0] <= header.codebooks:
            raise CodecError(f"{codes.shape[0]} codebooks, expected 1 to {header.codebooks}")
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < header.bins:
            raise CodecError(f"codes are {codes.min()} to {codes.max()}, expected 0 to {header.bins - 1}")
        return codes.astype(np.int64)

    def _run(self, role: GraphRole, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        if self._closed:
            raise CodecError("the codec is closed")
        self._header(role)
        if role not in self._sessions:
            self._sessions[role] = _session(self._files[role][0], self._threads, self._providers)
        try:
            results: list[NDArray[Any]] = self._sessions[role].run(outputs, feeds, _run_options())
        except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
            raise CodecError(f"the {role} failed: {_first_line(error)}") from error
        if not all(np.isfinite(result).all() for result in results):
            raise CodecError(f"the {role} computed NaN or infinity", "verify it: yuegguf models verify")
        return results


def inverse_stft(real: NDArray[np.float32], imag: NDArray[np.float32], n_fft: int) -> NDArray[np.float32]:
    """Spectrum [T, n_fft/2 + 1] → wave [882·T]: Vocos's ISTFT with "same" padding.

    Inverse real FFT (the imaginary parts of the first and last bin do not count), periodic Hann window,
    overlap-add at 882 samples, division by the summed squared window, n_fft − 882 samples cropped off.
    """
    frames = len(real)
    steps = n_fft // SONG_HOP
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    spectrum = np.empty(real.shape, np.complex64)
    spectrum.real, spectrum.imag = real, imag
    parts = (np.fft.irfft(spectrum, n_fft, axis=1) * window).reshape(frames, steps, SONG_HOP)
    power = np.square(window).reshape(steps, SONG_HOP)
    wave = np.zeros((frames + steps - 1, SONG_HOP), np.float32)
    envelope = np.zeros_like(wave)
    for step in range(steps):  # hop-sized columns: frame t adds its column `step` to block t + step
        wave[step : step + frames] += parts[:, step]
        envelope[step : step + frames] += power[step]
    edge = (n_fft - SONG_HOP) // 2
    inner = slice(edge, edge + frames * SONG_HOP)
    return wave.ravel()[inner] / envelope.ravel()[inner]


def build_info() -> dict[str, Any]:
    """`version` and execution `providers` of this ONNX Runtime."""
    return {"version": ort.__version__, "providers": list(ort.get_available_providers())}


def _check_same_codec(files: dict[GraphRole, tuple[Path, GraphHeader]]) -> None:
    first: tuple[Path, GraphHeader] | None = None
    for path, header in files.values():
        first = first or (path, header)
        other = first[1]
        if header.width != other.width or header.bins != other.bins:
            what = f"{header.bins} codes {header.width} wide against {other.bins} codes {other.width} wide"
        elif header.fingerprint != other.fingerprint:
            what = "their codebooks differ"
        else:
            continue
        raise DamagedFile(f"{path} and {first[0].name} are of different codecs: {what}", "export them again")


def _session(path: Path, threads: int | None, providers: list[str]) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised; nothing is written to the terminal
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # would keep one allocation plan per length
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep
    try:
        return ort.InferenceSession(path, options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise DamagedFile(f"{path} cannot be loaded: {_first_line(error)}", "export it again") from error


def _run_options() -> Any:
    """Shrink the memory arena after every run, so that it does not stay at the longest song's size.

    Without an arena, page faults double the time.
    """
    options = ort.RunOptions()
    options.log_severity_level = 4
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
