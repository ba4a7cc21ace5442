"""EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946; the Lite variant drops squeeze-and-excitation and uses ReLU6).

Module names follow the keys of the published PyTorch weights. Input (N, 3, 224, 224), output (N, 1000) logits.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

INPUT_PIXELS = 224
CLASSES = 1000
_EPSILON, _MOMENTUM = 1e-3, 0.01  # as trained in TensorFlow


class Stage(NamedTuple):
    repeats: int
    kernel: int
    stride: int  # of the stage's first block
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


class SameConv(nn.Conv2d):
    """TensorFlow's padding SAME: with stride 2 the odd pixel goes to the right and the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(input, padding))


class InvertedResidual(nn.Module):
    def __init__(self, channels_in: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = channels_in * stage.expansion
        self._expand_conv = SameConv(channels_in, inner, 1, bias=False) if stage.expansion > 1 else None
        self._bn0 = _norm(inner) if stage.expansion > 1 else None
        self._depthwise_conv = SameConv(inner, inner, stage.kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv(inner, stage.channels, 1, bias=False)
        self._bn2 = _norm(stage.channels)
        self._adds_input = stride == 1 and channels_in == stage.channels

    def forward(self, features: Tensor) -> Tensor:
        hidden: Tensor = features
        if self._expand_conv is not None and self._bn0 is not None:
            hidden = functional.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + features if self._adds_input else hidden


class EfficientNetLite0(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = _norm(STEM_CHANNELS)
        blocks, channels = [], STEM_CHANNELS
        for stage in STAGES:
            for repeat in range(stage.repeats):
                blocks.append(InvertedResidual(channels, stage, stage.stride if repeat == 0 else 1))
                channels = stage.channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, HEAD_CHANNELS, 1, bias=False)
        self._bn1 = _norm(HEAD_CHANNELS)
        self._fc = nn.Linear(HEAD_CHANNELS, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        features = functional.relu6(self._bn0(self._conv_stem(pictures)))
        for block in self._blocks:
            features = block(features)
        features = functional.relu6(self._bn1(self._conv_head(features)))
        logits: Tensor = self._fc(features.mean(dim=(2, 3)))
        return logits


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON, momentum=_MOMENTUM)
