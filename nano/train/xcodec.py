"""X-Codec's acoustic half as torch modules with the published key names, and its residual quantiser.

The semantic half of the layout (HuBERT and its convolutions) is carried with fixed random weights and
switched off by zero columns in `fc_prior`: its features depend on the whole file, and a miniature that
learns that the same sound has the same code needs codes that depend on the sound alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from nano.codec_weights import STRIDES, CodecSpec


class Snake(nn.Module):
    """x + sin²(αx)/α, one α a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] → the same shape."""
        return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)


class Sequence(nn.Module):
    """Modules one after the other, under the attribute name that the published classes use."""

    def __init__(self, name: str, *modules: nn.Module) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*modules))

    def forward(self, x: Tensor) -> Tensor:
        """Run the only child."""
        return next(self.children())(x)


class ResidualUnit(Sequence):
    """Snake, dilated convolution, Snake, mixing; added to the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        wide = nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation)
        mix = nn.Conv1d(channels, channels, 1)
        super().__init__("block", Snake(channels), weight_norm(wide), Snake(channels), weight_norm(mix))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] → the same shape."""
        return x + super().forward(x)


def encoder(spec: CodecSpec) -> Sequence:
    """Wave [B, 1, 320·T] → features [B, acoustic, T]."""
    width = spec.encoder_base
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, width, 7, padding=3))]
    for stride in STRIDES:
        units = [ResidualUnit(width, d) for d in (1, 3, 9)]
        down = nn.Conv1d(width, 2 * width, 2 * stride, stride, padding=(stride + 1) // 2)
        layers.append(Sequence("block", *units, Snake(width), weight_norm(down)))
        width *= 2
    layers += [Snake(width), weight_norm(nn.Conv1d(width, spec.acoustic, 3, padding=1))]
    return Sequence("block", *layers)


def decoder(spec: CodecSpec) -> Sequence:
    """Features [B, acoustic, T] → wave [B, 1, 320·T]."""
    width = spec.decoder_base
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(spec.acoustic, width, 7, padding=3))]
    for stride in STRIDES:
        up = nn.ConvTranspose1d(
            width, width // 2, 2 * stride, stride, padding=(stride + 1) // 2, output_padding=stride % 2
        )
        units = [ResidualUnit(width // 2, d) for d in (1, 3, 9)]
        layers.append(Sequence("block", Snake(width), weight_norm(up), *units))
        width //= 2
    layers += [Snake(width), weight_norm(nn.Conv1d(width, 1, 7, padding=3))]
    return Sequence("model", *layers)


@dataclass
class Quantised:
    """What the quantiser makes of features [B, D, T]."""

    features: Tensor
    """[B, D, T] sum of the chosen rows, straight-through."""
    codes: Tensor
    """[K, B, T]"""
    commitment: Tensor
    """How far the features are from what was chosen."""


class Codebook(nn.Module):
    """Rows that follow the mean of what chooses them; rows that nobody chooses start anew."""

    def __init__(self, bins: int, width: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("embed", torch.zeros(bins, width))
        self.register_buffer("embed_avg", torch.zeros(bins, width))
        self.register_buffer("cluster_size", torch.ones(bins))
        self.register_buffer("inited", torch.zeros(1))

    def choose(self, x: Tensor) -> Tensor:
        """Rows [N, D] → index of the nearest entry [N]."""
        return (self.embed.square().sum(1) - 2 * x @ self.embed.T).argmin(1)

    @torch.no_grad()
    def follow(self, x: Tensor, chosen: Tensor) -> None:
        """Move towards what chose each entry; replace entries that have become rare."""
        count = torch.bincount(chosen, minlength=len(self.embed)).float()
        total = torch.zeros_like(self.embed).index_add_(0, chosen, x)
        self.cluster_size.lerp_(count, 1 - self.decay)
        self.embed_avg.lerp_(total, 1 - self.decay)
        dead = self.cluster_size < 0.03
        if dead.any():
            fresh = x[torch.randint(len(x), (int(dead.sum()),))]
            self.embed_avg[dead], self.cluster_size[dead] = fresh, 1.0
        self.embed.copy_(self.embed_avg / self.cluster_size.clamp_min(1e-5)[:, None])

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        """Start from a sample of real features."""
        self.embed.copy_(x[torch.randint(len(x), (len(self.embed),))])
        self.embed_avg.copy_(self.embed)
        self.cluster_size.fill_(1.0)
        self.inited.fill_(1.0)


class Quantiser(nn.Module):
    """Residual vector quantisation; each codebook codes what the ones before it left."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.books = nn.ModuleList(Codebook(spec.bins, spec.width) for _ in range(spec.codebooks))

    def forward(self, x: Tensor, depth: Tensor) -> Quantised:
        """Features [B, D, T]; item b uses the first depth[b] codebooks."""
        rows = x.transpose(1, 2).reshape(-1, x.shape[1])
        active = depth.repeat_interleave(x.shape[2])
        left, total, loss, codes = rows, torch.zeros_like(rows), rows.new_zeros(()), []
        for k, book in enumerate(self.books[: int(depth.max())]):
            use = active > k
            if self.training and not book.inited:
                book.begin(left.detach()[use])
            chosen = book.choose(left.detach())
            picked = book.embed[chosen]
            if self.training:
                book.follow(left.detach()[use], chosen[use])
            picked = torch.where(use[:, None], picked, 0.0)
            loss = loss + (functional.mse_loss(left, picked.detach(), reduction="none").mean(1) * use).mean()
            left, total = left - picked.detach(), total + picked
            codes.append(chosen.view(len(x), -1))
        straight = rows + (total - rows).detach()
        return Quantised(straight.view(len(x), -1, x.shape[1]).transpose(1, 2), torch.stack(codes), loss)


class XCodec(nn.Module):
    """Encoder, prior, quantiser, projection, decoder."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder, self.decoder_2 = encoder(spec), decoder(spec)
        self.fc_prior = nn.Linear(spec.acoustic, spec.width)
        self.fc_post2 = nn.Linear(spec.width, spec.acoustic)
        self.quantiser = Quantiser(spec)

    def forward(self, wave: Tensor, depth: Tensor) -> tuple[Tensor, Quantised]:
        """Wave [B, 1, 320·T] → its reconstruction by depth[b] codebooks, and the codes."""
        features = self.fc_prior(self.encoder(wave).transpose(1, 2)).transpose(1, 2)
        quantised = self.quantiser(features, depth)
        return self.decode(quantised.features), quantised

    def decode(self, features: Tensor) -> Tensor:
        """Sum of codebook rows [B, D, T] → wave [B, 1, 320·T]."""
        return self.decoder_2(self.fc_post2(features.transpose(1, 2)).transpose(1, 2))
