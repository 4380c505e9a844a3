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


KNOWN = 24
"""Features by which codebook 0 is chosen."""
DILATIONS = (1, 3, 9)
REACH = (9, 3, 1, 0)
"""Largest dilation whose outer taps the encoder uses at 16, 2, 0.4 and 0.1 kHz; the others stay zero.

With all of them a code would depend on a second of audio; so it depends on 0.1 s, and the same sound has
the same code whatever goes on around it.
"""


def only_centre(conv: nn.Conv1d) -> nn.Conv1d:
    """A weight-normalised convolution whose outer taps are zero and stay so."""
    weight = conv.parametrizations.weight.original1
    mask = torch.zeros_like(weight)
    mask[..., weight.shape[-1] // 2] = 1.0
    with torch.no_grad():
        weight *= mask
    weight.register_hook(lambda grad: grad * mask)
    return conv


class ResidualUnit(Sequence):
    """Snake, dilated convolution, Snake, mixing; added to the input."""

    def __init__(self, channels: int, dilation: int, reach: int = max(DILATIONS)) -> None:
        wide = weight_norm(nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation))
        mix = weight_norm(nn.Conv1d(channels, channels, 1))
        if dilation > reach:
            only_centre(wide)
        super().__init__("block", Snake(channels), wide, Snake(channels), mix)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] → the same shape."""
        return x + super().forward(x)


def encoder(spec: CodecSpec) -> Sequence:
    """Wave [B, 1, 320·T] → features [B, acoustic, T]."""
    width = spec.encoder_base
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(1, width, 7, padding=3))]
    for stride, reach in zip(STRIDES, REACH, strict=True):
        units = [ResidualUnit(width, d, reach) for d in DILATIONS]
        down = nn.Conv1d(width, 2 * width, 2 * stride, stride, padding=(stride + 1) // 2)
        layers.append(Sequence("block", *units, Snake(width), weight_norm(down)))
        width *= 2
    layers += [Snake(width), only_centre(weight_norm(nn.Conv1d(width, spec.acoustic, 3, padding=1)))]
    return Sequence("block", *layers)


def decoder(spec: CodecSpec) -> Sequence:
    """Features [B, acoustic, T] → wave [B, 1, 320·T]."""
    width = spec.decoder_base
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(spec.acoustic, width, 7, padding=3))]
    for stride in STRIDES:
        up = nn.ConvTranspose1d(
            width, width // 2, 2 * stride, stride, padding=(stride + 1) // 2, output_padding=stride % 2
        )
        units = [ResidualUnit(width // 2, d) for d in DILATIONS]
        layers.append(Sequence("block", Snake(width), weight_norm(up), *units))
        width //= 2
    layers += [Snake(width), weight_norm(nn.Conv1d(width, 1, 7, padding=3))]
    return Sequence("model", *layers)


@dataclass
class Quantised:
    """Result of quantising features [B, D, T]."""

    features: Tensor
    """[B, D, T] sum of the chosen rows, straight-through."""
    codes: Tensor
    """[K, B, T]"""
    commitment: Tensor
    """Distance of the features from the chosen rows."""


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
    def fit(self, x: Tensor, rounds: int = 12) -> None:
        """Start from the k-means of real features [N, D]."""
        self.embed.copy_(x[torch.randperm(len(x))[: len(self.embed)]])
        for _ in range(rounds):
            chosen = self.choose(x)
            count = torch.bincount(chosen, minlength=len(self.embed)).float()
            total = torch.zeros_like(self.embed).index_add_(0, chosen, x)
            self.embed.copy_(total / count.clamp_min(1)[:, None])
            empty = count == 0
            self.embed[empty] = x[torch.randint(len(x), (int(empty.sum()),))]
        self.embed_avg.copy_(self.embed)
        self.cluster_size.fill_(1.0)
        self.inited.fill_(1.0)


class Meanings(nn.Module):
    """Codebook 0: its rows are the states of `nano.corpus.states`, learned as centres of a classifier.

    Rows are zero outside the first KNOWN features, so the rest of them is free to say how it sounds.
    """

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(0.3 * torch.randn(bins, KNOWN))
        self.width = width

    @property
    def embed(self) -> Tensor:
        """The codebook [bins, D]."""
        return functional.pad(self.rows, (0, self.width - KNOWN))

    def scores(self, x: Tensor) -> Tensor:
        """Rows [N, D] → the nearer an entry, the higher its score [N, bins]."""
        known = x[:, :KNOWN]
        return 2 * known @ self.rows.T - self.rows.square().sum(1)


class Quantiser(nn.Module):
    """Residual vector quantisation; each codebook codes what the ones before it left."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.meanings = Meanings(spec.bins, spec.width)
        self.books = nn.ModuleList(Codebook(spec.bins, spec.width) for _ in range(spec.codebooks - 1))

    @torch.no_grad()
    def tables(self, count: int) -> Tensor:
        """The first codebooks [count, bins, D]."""
        return torch.stack([self.meanings.embed, *(book.embed for book in self.books)][:count])

    @torch.no_grad()
    def fit(self, rows: Tensor, states: Tensor) -> None:
        """Start codebooks 1 … from the k-means of what the ones before leave of features [N, D]."""
        rows = rows - self.meanings.embed[states]
        for book in self.books:
            book.fit(rows)
            rows = rows - book.embed[book.choose(rows)]

    def forward(self, x: Tensor, depth: Tensor, told: Tensor | None = None) -> Quantised:
        """Features [B, D, T] → codes; item b uses the first depth[b] codebooks.

        `told` [k, B, T]: rows of the first k codebooks to take instead of the nearest; -1 = the nearest.
        """
        rows = x.transpose(1, 2).reshape(-1, x.shape[1])
        active = depth.repeat_interleave(x.shape[2])
        first = self.meanings.scores(rows).argmax(1)
        first = first if told is None else _told(first, told[0])
        total = self.meanings.embed.detach()[first]
        left, loss, codes = rows - total, rows.new_zeros(()), [first.view(len(x), -1)]
        for k, book in enumerate(self.books[: int(depth.max()) - 1], 1):
            use = active > k
            chosen = book.choose(left.detach())
            chosen = chosen if told is None or k >= len(told) else _told(chosen, told[k])
            picked = book.embed[chosen]
            if self.training:
                book.follow(left.detach()[use], chosen[use])
            picked = torch.where(use[:, None], picked, 0.0)
            loss = loss + (functional.mse_loss(left, picked.detach(), reduction="none").mean(1) * use).mean()
            left, total = left - picked.detach(), total + picked
            codes.append(chosen.view(len(x), -1))
        straight = rows + (total - rows).detach()
        return Quantised(straight.view(len(x), -1, x.shape[1]).transpose(1, 2), torch.stack(codes), loss)


def _told(chosen: Tensor, told: Tensor) -> Tensor:
    """Chosen rows [N], replaced where something else is told [B, T]."""
    return torch.where(told.reshape(-1) >= 0, told.reshape(-1), chosen)


class XCodec(nn.Module):
    """Encoder, prior, quantiser, projection, decoder."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder, self.decoder_2 = encoder(spec), decoder(spec)
        self.fc_prior = nn.Linear(spec.acoustic, spec.width)
        self.fc_post2 = nn.Linear(spec.width, spec.acoustic)
        self.quantiser = Quantiser(spec)

    def features(self, wave: Tensor) -> Tensor:
        """Wave [B, 1, 320·T] → what the quantiser is given [B, D, T]."""
        return self.fc_prior(self.encoder(wave).transpose(1, 2)).transpose(1, 2)

    def decode(self, features: Tensor) -> Tensor:
        """Sum of codebook rows [B, D, T] → wave [B, 1, 320·T]."""
        return self.decoder_2(self.fc_post2(features.transpose(1, 2)).transpose(1, 2))
