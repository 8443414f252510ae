"""The table of layer types, and the computation of one layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnie_prep.blob import Array
from nnie_prep.engines.numpy import (
    activation,
    arithmetic,
    convolution,
    normalization,
    pooling,
    regions,
    resampling,
    reshape,
)
from nnie_prep.net import Layer, Net
from nnie_prep.params import layer_error
from nnie_prep.shapes import DATA_DEPENDENT, top_shapes

# Bottoms are never written to; tops are new arrays, bottoms themselves or views of them.
LAYERS: dict[str, Callable[[Layer, list[Array]], list[Array]]] = {
    "AbsVal": activation.absval,
    "ArgMax": arithmetic.argmax,
    "Axpy": arithmetic.axpy,
    "BatchNorm": normalization.batch_norm,
    "BatchReindex": arithmetic.batch_reindex,
    "Bias": arithmetic.bias,
    "BNLL": activation.bnll,
    "Clip": activation.clip,
    "Concat": reshape.concat,
    "Convolution": convolution.convolution,
    "ConvolutionDepthwise": convolution.convolution,
    "CReLU": activation.crelu,
    "Crop": reshape.crop,
    "Deconvolution": convolution.convolution,
    "DepthwiseConv": convolution.convolution,
    "DepthwiseConvolution": convolution.convolution,
    "DetectionOutput": regions.detection_output,
    "Dropout": activation.dropout,
    "Eltwise": arithmetic.eltwise,
    "ELU": activation.elu,
    "Embed": arithmetic.embed,
    "Exp": activation.exp,
    "Flatten": reshape.reshape,
    "Im2col": convolution.im2col,
    "InnerProduct": arithmetic.inner_product,
    "Interp": resampling.interp,
    "Log": activation.log,
    "LRN": normalization.lrn,
    "Mish": activation.mish,
    "MVN": normalization.mvn,
    "Normalize": normalization.normalize,
    "Parameter": reshape.parameter,
    "PassThrough": reshape.pass_through,
    "Permute": reshape.permute,
    "Pooling": pooling.pooling,
    "Power": activation.power,
    "PriorBox": regions.prior_box,
    "PReLU": activation.prelu,
    "PSROIPooling": regions.psroi_pooling,
    "Reduction": arithmetic.reduction,
    "ReLU": activation.relu,
    "ReLU6": activation.relu6,
    "Reshape": reshape.reshape,
    "ROIPooling": regions.roi_pooling,
    "Scale": arithmetic.scale,
    "ShuffleChannel": reshape.shuffle_channel,
    "Sigmoid": activation.sigmoid,
    "Silence": reshape.silence,
    "Slice": reshape.slice_,
    "Softmax": normalization.softmax,
    "Split": reshape.split,
    "SPP": pooling.spp,
    "Swish": activation.swish,
    "TanH": activation.tanh,
    "Threshold": activation.threshold,
    "Tile": reshape.tile,
    "Upsample": reshape.upsample,
}


def is_supported(layer: Layer) -> bool:
    """Whether the layer can be run.

    What RefineDet calls DetectionOutput is another layer than SSD's, and what SegNet calls Upsample another
    than NNIE's: it puts values where a mask says, and two masks of one net may differ for a rounding.
    """
    most_bottoms = {"DetectionOutput": 3, "Upsample": 1}.get(layer.type, len(layer.bottoms))
    return layer.type in LAYERS and len(layer.bottoms) <= most_bottoms


def forward_layer(layer: Layer, bottoms: list[Array]) -> list[Array]:
    """The layer's tops, in the dtype of its bottoms (float32 or float64), which are not written to.

    Weights are cast to that dtype. Values that are not finite are computed as in Caffe, silently.
    Raises UserError where shapes, weights or parameters do not fit, or the layer is not supported.
    """
    if not is_supported(layer):
        raise layer_error(layer, "this type is not known to the NumPy engine")
    expected = top_shapes(layer, [bottom.shape for bottom in bottoms])
    dtype = bottoms[0].dtype if bottoms else np.dtype(np.float32)
    with np.errstate(all="ignore"):
        tops = [np.asarray(top, dtype=dtype) for top in LAYERS[layer.type](layer, bottoms)]
    found = [top.shape for top in tops]
    assert found == expected or layer.type in DATA_DEPENDENT, (layer, found, expected)
    return tops


def unsupported(net: Net) -> list[Layer]:
    """The layers that cannot be run; data layers are among them, Input layers are not."""
    return [layer for layer in net.layers if not is_supported(layer) and layer.type != "Input"]
