"""YOLOv2 on a ResNet-18, as HiSilicon's walk-through for NNIE has it from Darknet: 640x384, every BatchNorm
unmerged, in place and with use_global_stats, every activation a ReLU of slope 0.1.

ResNet-18 is arXiv 1512.03385, table 1; the head is YOLOv2's, arXiv 1612.08242, section 3: two 3x3
convolutions, the map of twice the resolution joined to them as channels, one more, and a 1x1. Its
widths are those of the backbone, and not 1024.
"""

from __future__ import annotations

from caffe_layers import Draft, Pair

from nnie_prep.net import Net

STAGES = (64, 128, 256, 512)
ANCHORS = 5
SLOPE = 0.1


def yolov2_resnet18(size: Pair, classes: int, seed: int) -> Net:
    draft = Draft("YOLOv2-ResNet-18", size, seed)
    _convolution(draft, "conv1", 64, 7, stride=2)
    draft.pooling("pool1", "MAX", 3, 2)
    for stage, channels in enumerate(STAGES, 2):
        for block in range(2):
            _basic(draft, f"{stage}{'ab'[block]}", channels, stride=2 if stage > 2 and block == 0 else 1)
        if channels == 256:
            fine = draft.blob
    _convolution(draft, "head1", 512, 3)
    coarse = _convolution(draft, "head2", 512, 3)
    _convolution(draft, "passage", 32, 1, bottom=fine)
    blocks = {"num_output": 128, "block_height": 2, "block_width": 2}
    folded = draft.layer("PassThrough", "passthrough", tops=["passthrough"], pass_through_param=blocks)
    draft.concat("joined", folded, coarse)
    _convolution(draft, "head3", 512, 3)
    draft.convolution("region", ANCHORS * (5 + classes), 1, bias=True)
    return draft.net


def _basic(draft: Draft, name: str, channels: int, stride: int) -> None:
    """Two 3x3, and what went in, or a 1x1 convolution of it."""
    bottom = shortcut = draft.blob
    if draft.channels() != channels or stride > 1:
        shortcut = _convolution(draft, f"res{name}_branch1", channels, 1, stride=stride, leaky=False)
    _convolution(draft, f"res{name}_branch2a", channels, 3, stride=stride, bottom=bottom)
    _convolution(draft, f"res{name}_branch2b", channels, 3, leaky=False)
    draft.sum(f"res{name}", shortcut, draft.blob)
    _leaky(draft, f"res{name}_relu")


def _convolution(
    draft: Draft,
    name: str,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    bottom: str = "",
    leaky: bool = True,
) -> str:
    draft.convolution(name, channels, kernel, stride=stride, pad=kernel // 2, bottom=bottom)
    draft.batchnorm(f"{name}_bn")
    draft.net.layers[-1].proto.batch_norm_param.use_global_stats = True
    draft.scale(f"{name}_scale")
    return _leaky(draft, f"{name}_relu") if leaky else draft.blob


def _leaky(draft: Draft, name: str) -> str:
    return draft.layer("ReLU", name, relu_param={"negative_slope": SLOPE})
