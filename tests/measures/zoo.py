"""Networks as people bring them, small and at random weights: what builds each, its inputs, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import torchvision.models as tv
from torch import nn
from torchvision.models.convnext import CNBlockConfig

from tests.measures.networks import Net, examples

CLASSES = 5


class Entry(NamedTuple):
    """A network of the table.

    Attributes:
        build: Makes it.
        shape: Of an input; of tokens when `tokens` is set.
        tokens: How many different tokens its inputs have; 0 for images and other numbers.
        needs: The package it is of, where that is an extra.
        output: What makes logits of what it gives, or None.
        fallback: What the warning says of layers without a formula; empty where all have one.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 32, 32)
    tokens: int = 0
    needs: str = ""
    output: Callable[[Any], Any] | None = None
    fallback: str = ""

    def inputs(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels."""
        x, y = examples(count, self.shape, CLASSES)
        if self.tokens:
            x = torch.randint(0, self.tokens, (count, *self.shape), generator=torch.Generator().manual_seed(1))
        return x, y


def vision(name: str, **options: Any) -> Callable[[], nn.Module]:
    return partial(tv.get_model, name, weights=None, num_classes=CLASSES, **options)


def convnext() -> nn.Module:
    return tv.ConvNeXt([CNBlockConfig(12, 24, 1), CNBlockConfig(24, None, 1)], num_classes=CLASSES)


def swin() -> nn.Module:
    sizes = {"patch_size": [2, 2], "embed_dim": 12, "depths": [1, 2], "num_heads": [2, 3], "window_size": [4, 4]}
    return tv.SwinTransformer(**sizes, num_classes=CLASSES)


def vit() -> nn.Module:
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
    return tv.VisionTransformer(**sizes, num_classes=CLASSES)


class LoRA(nn.Module):
    """A frozen layer and a trained product of small matrices beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = nn.Linear(8, 6), nn.Linear(8, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.out = nn.Linear(6, CLASSES)
        self.base.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.base(x) + self.up(self.down(x))))


def recurrent(kind: type[nn.RNNBase]) -> Callable[[], nn.Module]:
    return lambda: Net(
        lambda s, x: s.out(s.memory(x)[0][:, -1]), memory=kind(4, 5, batch_first=True), out=nn.Linear(5, CLASSES)
    )


def groups() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, CLASSES),
    )  # fmt: skip


def places() -> nn.Module:
    """Tokens with positions, whose embedding reads no example: its first axis is that of places."""
    return Net(
        lambda s, x: s.out((s.words(x) + s.places(torch.arange(x.shape[1]))).tanh().mean(1)),
        words=nn.Embedding(11, 6), places=nn.Embedding(8, 6), out=nn.Linear(6, CLASSES),
    )  # fmt: skip


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return Net(
        lambda s, x: s.out(s.encoder(x).mean(1)),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), out=nn.Linear(8, CLASSES),
    )  # fmt: skip


def attention() -> nn.Module:
    return Net(
        lambda s, x: s.out(F.scaled_dot_product_attention(s.q(x), s.k(x), s.v(x)).mean(1)),
        q=nn.Linear(8, 8), k=nn.Linear(8, 8), v=nn.Linear(8, 8), out=nn.Linear(8, CLASSES),
    )  # fmt: skip


def transposed() -> nn.Module:
    """A picture cut into patches, with exchanged axes behind batch-norm, as vision transformers have it."""
    return Net(
        lambda s, x: s.out(s.norm(s.cut(x)).flatten(2).transpose(1, 2).relu().mean(1)),
        cut=nn.Conv2d(3, 6, 4, stride=4), norm=nn.BatchNorm2d(6), out=nn.Linear(6, CLASSES),
    )  # fmt: skip


def timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from timm import models

        return getattr(models, name)(num_classes=CLASSES, **options)

    return build


def transformer(kind: str, **sizes: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        return getattr(transformers, f"{kind}ForSequenceClassification")(
            getattr(transformers, f"{kind}Config")(num_labels=CLASSES, vocab_size=30, pad_token_id=0, **sizes)
        )

    return build


def logits(out: Any) -> torch.Tensor:
    return out["logits"]


IMAGES = {"shape": (3, 64, 64)}
TOKENS = {"shape": (7,), "tokens": 29, "output": logits, "needs": "transformers"}
TABLE: dict[str, Entry] = {
    "torchvision resnet18": Entry(vision("resnet18")),
    "torchvision resnet50": Entry(vision("resnet50")),
    "torchvision densenet121": Entry(vision("densenet121")),
    "torchvision mobilenet_v3_small": Entry(vision("mobilenet_v3_small")),
    "torchvision efficientnet_b0": Entry(vision("efficientnet_b0")),
    "torchvision shufflenet_v2_x0_5": Entry(vision("shufflenet_v2_x0_5")),
    "torchvision squeezenet1_1": Entry(vision("squeezenet1_1")),
    "torchvision mnasnet0_5": Entry(vision("mnasnet0_5")),
    "torchvision regnet_y_400mf": Entry(vision("regnet_y_400mf")),
    "torchvision ConvNeXt": Entry(convnext, fallback="no formula for"),
    "torchvision SwinTransformer": Entry(swin, fallback="no formula for"),
    "torchvision VisionTransformer": Entry(vit, fallback="no formula for"),
    "LSTM": Entry(recurrent(nn.LSTM), (6, 4), fallback=r"no formula for memory \(LSTM\)"),
    "GRU": Entry(recurrent(nn.GRU), (6, 4), fallback=r"no formula for memory \(GRU\)"),
    "GroupNorm": Entry(groups, (3, 8, 8)),
    "LoRA": Entry(LoRA, (8,)),
    "position embedding": Entry(places, (6,), tokens=11, fallback=r"no formula for places \(Embedding\)"),
    "TransformerEncoder": Entry(encoder, (5, 8), fallback="no formula for"),
    "scaled_dot_product_attention": Entry(attention, (5, 8)),
    "batch-norm before exchanged axes": Entry(transposed, (3, 8, 8)),
    "timm resnet10t": Entry(timm("resnet10t"), **IMAGES, needs="timm"),
    "timm vit_tiny": Entry(
        timm("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2), needs="timm", fallback="no formula for"
    ),
    "timm MlpMixer": Entry(timm("MlpMixer", img_size=32, patch_size=8, embed_dim=24, num_blocks=2), needs="timm"),
    "timm ConvMixer": Entry(timm("ConvMixer", dim=16, depth=2), needs="timm"),
    "transformers BERT": Entry(
        transformer("Bert", hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24),
        **TOKENS, fallback=r"position_embeddings \(Embedding\)",
    ),
    "transformers GPT-2": Entry(
        transformer("GPT2", n_embd=16, n_layer=2, n_head=2, n_positions=16), **TOKENS, fallback="no formula for"
    ),
    "transformers DistilBERT": Entry(
        transformer("DistilBert", dim=16, n_layers=2, n_heads=2, hidden_dim=24), **TOKENS, fallback="no formula for"
    ),
}  # fmt: skip
