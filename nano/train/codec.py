"""Train the miniature X-Codec on corpus stems.

    python -m nano.train.codec FOLDER [--share 1] [--device cpu]

Crops of random songs' stems, batches of single tracks; waveform, multi-resolution mel and commitment
losses. Codebook 0 is trained as a classifier of what is heard (`nano.corpus.states`) and takes the true
state in training. The first steps train encoder and decoder alone; then codebooks 1-7 start from the
k-means of what codebook 0 leaves, and every item uses a random number of them, so that each adds to the
ones before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nano.codec_weights import CodecSpec, save_codec, xcodec
from nano.corpus import make_song
from nano.corpus.details import all_rows
from nano.train import options
from nano.train.loop import Plan, Trainer
from nano.train.losses import spectral_loss
from nano.train.xcodec import KNOWN, XCodec

SPEC = CodecSpec(
    seed=7, codebooks=8, acoustic=40, encoder_base=16, decoder_base=128, hubert=24, vocos=112, vocos_blocks=4
)
FRAMES = 64
"""Frames of a crop: 1.28 s."""
BATCH = 12
CODEBOOKS = 8
FIRST_SEED = 1_000_000
"""Songs from here on are for training; lower seeds are held out."""
WINDOW, STRIDE = 96, 3
"""Songs at hand, and after how many steps the oldest gives way to a new one."""
FREE_STEPS = 400
"""Steps before there are codebooks."""
FIT_BATCHES = 40
QUIET = 0.01
"""Root mean square of a crop that is nearly silent; most of them are drawn again."""
SCALES = {64: 8, 256: 24, 1024: 80, 2048: 128}
"""Windows of the spectral loss → mel bands."""
STEPS, RATE = 3600, 1.5e-3


@dataclass(frozen=True)
class Batch:
    """Crops of single stems."""

    wave: Tensor
    """[BATCH, 1, 320·FRAMES]"""
    told: Tensor
    """[5, BATCH, FRAMES] rows of codebooks 0-4 that have a meaning, else -1."""


class Crops:
    """Batches of stem crops; the batch of a step is a function of the step alone."""

    def __init__(self) -> None:
        self.songs: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Seed → vocal and instrumental stem at 16 kHz [2, 320·F], and the rows that are told [5, 2, F]."""

    def batch(self, step: int) -> Batch:
        """Crops of the songs around a step."""
        first = FIRST_SEED + step // STRIDE
        seeds = range(first, first + WINDOW)
        self.songs = {seed: self.songs.get(seed) or self._render(seed) for seed in seeds}
        draw = np.random.default_rng([step, 11])
        waves, found = zip(*(self._crop(draw, first) for _ in range(BATCH)), strict=True)
        return Batch(torch.from_numpy(np.stack(waves)[:, None]), torch.from_numpy(np.stack(found, 1)))

    def _render(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        song = make_song(seed)
        return np.stack([song.vocal16, song.instrumental16]), all_rows(song.spec)

    def _crop(self, draw: np.random.Generator, first: int) -> tuple[np.ndarray, np.ndarray]:
        while True:
            waves, found = self.songs[first + int(draw.integers(WINDOW))]
            track = int(draw.random() < 0.55)
            start = int(draw.integers(0, found.shape[2] - FRAMES + 1))
            crop = waves[track, 320 * start : 320 * (start + FRAMES)]
            if float(np.sqrt(np.mean(crop**2))) > QUIET or draw.random() < 0.1:
                return crop, found[:, track, start : start + FRAMES]


def depths(step: int) -> Tensor:
    """Number of codebooks that each item uses: all for most of them."""
    draw = np.random.default_rng([step, 12])
    picks = [CODEBOOKS if u < 0.6 else int(draw.integers(1, CODEBOOKS)) for u in draw.random(BATCH)]
    return torch.tensor(picks)


class CodecLoss:
    """The terms of a step."""

    def __init__(self, model: XCodec, device: str, fast: bool) -> None:
        self.model, self.device, self.crops = model, device, Crops()
        self.features = torch.compile(model.features) if fast else model.features
        self.decode = torch.compile(model.decode) if fast else model.decode

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Weighted terms of the batch of a step."""
        batch = self.crops.batch(step)
        wave, known = batch.wave.to(self.device), batch.told[0].to(self.device)
        if step == FREE_STEPS:
            self._fit()
        found = self.features(wave)
        meaning = self._meaning(_rows(found), known.reshape(-1))
        if step < FREE_STEPS:
            # small codes are easier to choose between
            return {
                **distance(self.decode(found), wave),
                **meaning,
                "size": 1e-3 * found.square().mean(),
            }
        chosen = self.model.quantiser(found, depths(step).to(self.device), known[None])
        return {
            **distance(self.decode(chosen.features), wave),
            **meaning,
            "commitment": 0.25 * chosen.commitment,
        }

    def _meaning(self, found: Tensor, known: Tensor) -> dict[str, Tensor]:
        """Losses of features [N, D]: classification of the states [N], and distance to their rows."""
        meanings = self.model.quantiser.meanings
        centre = functional.mse_loss(found[:, :KNOWN], meanings.rows[known])
        return {
            "meaning": 0.1 * functional.cross_entropy(meanings.scores(found), known),
            "centre": 0.25 * centre,
        }

    @torch.no_grad()
    def _fit(self) -> None:
        batches = [self.crops.batch(step) for step in range(FREE_STEPS, FREE_STEPS + FIT_BATCHES)]
        rows = [_rows(self.features(batch.wave.to(self.device))) for batch in batches]
        known = torch.cat([batch.told[0].reshape(-1) for batch in batches]).to(self.device)
        self.model.quantiser.fit(torch.cat(rows), known)


def distance(made: Tensor, wave: Tensor) -> dict[str, Tensor]:
    """Weighted distance of decoded crops [B, 1, N] from the encoded ones."""
    spectrum = spectral_loss(made[:, 0], wave[:, 0], 16_000, SCALES)
    return {"wave": 10 * functional.l1_loss(made, wave), "spectrum": 2 * spectrum}


def _rows(features: Tensor) -> Tensor:
    """[B, D, T] → [B·T, D]."""
    return features.transpose(1, 2).reshape(-1, features.shape[1])


def train(folder: Path, steps: int = STEPS, device: str = "cpu", fast: bool = True) -> None:
    """Train to the last step and write FOLDER/codec/final_ckpt/ckpt_00360000.pth."""
    torch.manual_seed(SPEC.seed)
    model = XCodec(SPEC).to(device)
    plan = Plan(folder, "codec", steps, RATE, device, betas=(0.8, 0.97))
    Trainer(plan, model).run(CodecLoss(model, device, fast))
    save_codec(folder / "codec", published(model))


def trained(folder: Path, device: str = "cpu") -> XCodec:
    """The codec as FOLDER/codec.pt and, once there are, FOLDER/books.pt hold it, ready to code."""
    model = XCodec(SPEC).to(device)
    model.load_state_dict(torch.load(folder / "codec.pt", map_location=device, weights_only=True)["model"])
    if (folder / "books.pt").exists():
        state = torch.load(folder / "books.pt", map_location=device, weights_only=True)
        model.quantiser.load_state_dict(state)
    return model.eval()


def published(model: XCodec) -> dict[str, np.ndarray]:
    """The model as the published state dict: learned tensors over the fixed random rest."""
    tensors = xcodec(SPEC)
    for name, value in model.state_dict().items():
        array = value.detach().cpu().numpy()
        if name.startswith("quantiser.books."):
            _, _, number, leaf = name.split(".")
            tensors[f"quantizer.vq.layers.{int(number) + 1}._codebook.{leaf}"] = array
        elif name.startswith("quantiser.meanings."):
            meanings = model.quantiser.meanings.embed.detach().cpu().numpy()
            tensors |= {
                f"quantizer.vq.layers.0._codebook.{leaf}": meanings for leaf in ("embed", "embed_avg")
            }
        elif name == "fc_prior.weight":  # the semantic features' columns stay zero
            tensors[name] = np.hstack([array, np.zeros((SPEC.width, SPEC.hubert), np.float32)])
        else:
            spelled = name.replace(".parametrizations.weight.original0", ".weight_g")
            tensors[spelled.replace(".parametrizations.weight.original1", ".weight_v")] = array
    return tensors


if __name__ == "__main__":
    options.run(train, __doc__, STEPS)
