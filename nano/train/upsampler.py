"""Train the two miniature upsamplers: codes of a stem → the stem at 44.1 kHz.

    python -m nano.train.upsampler FOLDER [--share 1] [--device cpu]

Needs the trained codec in FOLDER; its codebooks stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nano.codec_weights import save_upsampler
from nano.corpus import make_song
from nano.train import options
from nano.train.codec import SPEC, trained
from nano.train.coded import FIRST_SEED, Coded, coded
from nano.train.loop import Plan, Trainer
from nano.train.losses import spectral_loss
from nano.train.vocos import Vocos
from yuegguf.codec.protocol import SONG_HOP, SONG_RATE

TRACKS = ("vocal", "instrumental")
FRAMES, BATCH = 48, 12
WINDOW, STRIDE = 64, 3
"""Songs at hand, and after how many steps the oldest gives way to a new one."""
QUIET = 0.01
"""Root mean square of a crop that is nearly silent; most of them are drawn again."""
SCALES = {128: 16, 512: 48, 1024: 80, 2048: 128}
"""Windows of the spectral loss → mel bands."""
STEPS, RATE = 1500, 2e-3


class Crops:
    """Batches of crops of one track; the batch of a step is a function of the step alone."""

    def __init__(self, songs: Coded, track: int, embed: Tensor) -> None:
        self.songs, self.track = songs, track
        self.embed = embed
        """[8, bins, W]"""
        self.waves: dict[int, np.ndarray] = {}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Features [BATCH, W, FRAMES] and waves [BATCH, 882·FRAMES]."""
        count = len(self.songs.starts) - 1
        numbers = [(step // STRIDE + i) % count for i in range(WINDOW)]
        self.waves = {i: self.waves[i] if i in self.waves else self._render(i) for i in numbers}
        draw = np.random.default_rng([step, 15, self.track])
        codes, waves = zip(*(self._crop(draw, numbers) for _ in range(BATCH)), strict=True)
        return self.features(np.stack(codes)), torch.from_numpy(np.stack(waves))

    def features(self, codes: np.ndarray) -> Tensor:
        """Codes [B, 8, T] → the sum of their rows [B, W, T]."""
        chosen = torch.from_numpy(codes.astype(np.int64))
        return sum(book[chosen[:, k]] for k, book in enumerate(self.embed)).transpose(1, 2)

    def _render(self, number: int) -> np.ndarray:
        song = make_song(FIRST_SEED + number)
        return (song.vocal, song.instrumental)[self.track]

    def _crop(self, draw: np.random.Generator, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
        while True:
            number = numbers[draw.integers(len(numbers))]
            codes = self.songs.song(number)[self.track]
            start = int(draw.integers(0, codes.shape[1] - FRAMES + 1))
            wave = self.waves[number][SONG_HOP * start : SONG_HOP * (start + FRAMES)]
            if float(np.sqrt(np.mean(wave**2))) > QUIET or draw.random() < 0.1:
                return codes[:, start : start + FRAMES], wave


class UpsamplerLoss:
    """The terms of a step."""

    def __init__(self, model: Vocos, crops: Crops, device: str) -> None:
        self.model, self.crops, self.device = model, crops, device

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Weighted terms of the batch of a step."""
        features, wave = (part.to(self.device) for part in self.crops.batch(step))
        made = self.model(features)
        spectrum = spectral_loss(made, wave, SONG_RATE, SCALES)
        return {"wave": 10 * functional.l1_loss(made, wave), "spectrum": 2 * spectrum}


def train(folder: Path, steps: int = STEPS, device: str = "cpu", fast: bool = True) -> None:
    """Train both to the last step and write FOLDER/codec/decoders."""
    codec = trained(folder, device)
    songs = coded(folder)
    for number, track in enumerate(TRACKS):
        torch.manual_seed(SPEC.seed + number)
        model = Vocos(SPEC).to(device)
        crops = Crops(songs, number, codec.quantiser.tables(8).cpu())
        plan = Plan(folder, f"upsampler-{track}", steps, RATE, device, betas=(0.8, 0.97))
        Trainer(plan, model).run(UpsamplerLoss(model, crops, device))
        tensors = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
        save_upsampler(folder / "codec", track, tensors)


if __name__ == "__main__":
    options.run(train, __doc__, STEPS)
