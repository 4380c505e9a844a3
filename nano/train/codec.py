"""Train the miniature X-Codec on corpus stems.

    python -m nano.train.codec FOLDER [--steps 4000] [--device cpu]

Crops of random songs' stems, batches of single tracks; waveform, multi-resolution spectrum and commitment
losses; a random number of codebooks per item, so that codebook 0 alone says as much as it can. The state
is kept in FOLDER/codec.pt every few minutes: run the command again and it goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nano.codec_weights import CodecSpec, save_codec, xcodec
from nano.corpus import make_song
from nano.train.xcodec import XCodec

SPEC = CodecSpec(seed=7, acoustic=40, encoder_base=12, decoder_base=160, hubert=24)
FRAMES = 64
"""Frames of a crop: 1.28 s."""
BATCH = 12
CODEBOOKS = 8
FIRST_SEED = 1_000_000
"""Songs from here on are for training; lower seeds are held out."""
KEEP_SECONDS = 120


class Crops:
    """Endless batches of stem crops [BATCH, 1, 320·FRAMES]; batch n is a function of n alone."""

    def __init__(self, songs: int = 48) -> None:
        self.songs = songs
        self.stems: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Seed → vocal and instrumental stem at 16 kHz."""

    def batch(self, step: int) -> Tensor:
        """Crops from a window of songs that moves on by one every four steps."""
        first = FIRST_SEED + step // 4
        seeds = range(first, first + self.songs)
        self.stems = {seed: self.stems.get(seed) or self._render(seed) for seed in seeds}
        draw = np.random.default_rng([step, 11])
        return torch.from_numpy(np.stack([self._crop(draw, first) for _ in range(BATCH)])[:, None])

    def _render(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        song = make_song(seed)
        return song.vocal16, song.instrumental16

    def _crop(self, draw: np.random.Generator, first: int) -> np.ndarray:
        wave = self.stems[first + int(draw.integers(self.songs))][int(draw.random() < 0.6)]
        start = 320 * int(draw.integers(0, len(wave) // 320 - FRAMES + 1))
        return wave[start : start + 320 * FRAMES]


def spectral_loss(made: Tensor, real: Tensor) -> Tensor:
    """Multi-resolution magnitude loss, linear and logarithmic, of waves [B, N]."""
    total = made.new_zeros(())
    for size in (128, 512, 2048):
        window = torch.hann_window(size, device=made.device)
        spectra = [
            torch.stft(x, size, size // 4, window=window, return_complex=True).abs() for x in (made, real)
        ]
        total = total + (spectra[0] - spectra[1]).abs().mean() * 2
        logs = [torch.log(s + 1e-2) for s in spectra]
        total = total + (logs[0] - logs[1]).abs().mean()
    return total


def losses(model: XCodec, wave: Tensor, depth: Tensor) -> dict[str, Tensor]:
    """All terms of one batch, weighted."""
    made, quantised = model(wave, depth)
    return {
        "wave": 20 * functional.l1_loss(made, wave),
        "spectrum": spectral_loss(made[:, 0], wave[:, 0]),
        "commitment": 0.25 * quantised.commitment,
    }


def depths(step: int) -> Tensor:
    """How many codebooks each item uses: all for half of them, one for a quarter."""
    draw = np.random.default_rng([step, 12])
    picks = [
        CODEBOOKS if u < 0.5 else 1 if u < 0.75 else int(draw.integers(2, CODEBOOKS))
        for u in draw.random(BATCH)
    ]
    return torch.tensor(picks)


class Run:
    """Model, optimiser and step, on disk as one file."""

    def __init__(self, folder: Path, device: str) -> None:
        torch.manual_seed(SPEC.seed)
        self.path, self.device = folder / "codec.pt", device
        self.model = XCodec(SPEC).to(device)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.8, 0.95))
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write beside and rename."""
        beside = self.path.with_suffix(".part")
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save({**state, "step": self.step, "seconds": self.seconds}, beside)
        beside.replace(self.path)

    def learn(self, wave: Tensor, steps: int) -> dict[str, float]:
        """One step of `steps`; the rate falls along a cosine."""
        share = min(1.0, self.step / steps)
        rate = 1e-3 * min(1.0, (self.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        terms = losses(self.model, wave.to(self.device), depths(self.step).to(self.device))
        self.optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return {name: value.item() for name, value in terms.items()}


def train(folder: Path, steps: int, device: str) -> None:
    """Train until step `steps`, over as many calls as it takes; then write the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    run, crops, kept = Run(folder, device), Crops(), time.monotonic()
    run.model.train()
    while run.step < steps:
        begun = time.monotonic()
        terms = run.learn(crops.batch(run.step), steps)
        run.seconds += time.monotonic() - begun
        if run.step % 50 == 0:
            note = {"step": run.step, "seconds": round(run.seconds)}
            print(json.dumps({**note, **{k: round(v, 4) for k, v in terms.items()}}), flush=True)
        if time.monotonic() - kept > KEEP_SECONDS:
            run.save()
            kept = time.monotonic()
    run.save()
    save_codec(folder / "codec", published(run.model))


def published(model: XCodec) -> dict[str, np.ndarray]:
    """The model as the published state dict: learned tensors over the fixed random rest."""
    tensors = xcodec(SPEC)
    for name, value in model.state_dict().items():
        array = value.detach().cpu().numpy()
        if name.startswith("quantiser.books."):
            _, _, number, leaf = name.split(".")
            tensors[f"quantizer.vq.layers.{number}._codebook.{leaf}"] = array
        elif name == "fc_prior.weight":  # the semantic features' columns stay zero
            tensors[name] = np.hstack([array, np.zeros((SPEC.width, SPEC.hubert), np.float32)])
        else:
            spelled = name.replace(".parametrizations.weight.original0", ".weight_g")
            tensors[spelled.replace(".parametrizations.weight.original1", ".weight_v")] = array
    return tensors


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    train(options.folder, options.steps, options.device)


if __name__ == "__main__":
    main()
