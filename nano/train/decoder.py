"""Train the codec's decoder on, once the codes are fixed.

    python -m nano.train.decoder FOLDER [--share 1] [--device cpu]

Needs the trained codec and its books in FOLDER and rewrites FOLDER/codec: encoder and codebooks stay as
they are, so the codes of `coded`, and what is learned from them, stay right.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nano.codec_weights import save_codec
from nano.train import options
from nano.train.codec import SPEC, Crops, depths, distance, published, trained
from nano.train.loop import Plan, Trainer
from nano.train.xcodec import XCodec

FIRST_STEP = 100_000
"""Its batches are other ones than the codec's."""
STEPS, RATE = 1200, 8e-4


class DecoderLoss:
    """The terms of a step."""

    def __init__(self, model: XCodec, device: str, fast: bool) -> None:
        self.model, self.device, self.crops = model, device, Crops()
        self.decode = torch.compile(model.decode) if fast else model.decode

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Weighted terms of the batch of a step."""
        batch = self.crops.batch(FIRST_STEP + step)
        wave, known = batch.wave.to(self.device), batch.told.to(self.device)
        known[:, ::2] = -1  # every second crop as the encoder codes it, the others as the stages write it
        with torch.no_grad():
            depth = depths(FIRST_STEP + step).to(self.device)
            features = self.model.quantiser(self.model.features(wave), depth, known).features
        return distance(self.decode(features), wave)


def train(folder: Path, steps: int = STEPS, device: str = "cpu", fast: bool = True) -> None:
    """Train to the last step and write FOLDER/codec/final_ckpt/ckpt_00360000.pth."""
    torch.manual_seed(SPEC.seed)
    model = trained(folder, device)
    learned = nn.ModuleDict({"decoder_2": model.decoder_2, "fc_post2": model.fc_post2})
    trainer = Trainer(Plan(folder, "decoder", steps, RATE, device, betas=(0.8, 0.97)), learned)
    trainer.run(DecoderLoss(model, device, fast))
    save_codec(folder / "codec", published(model))


if __name__ == "__main__":
    options.run(train, __doc__, STEPS)
