"""What fold_scale_forward and fold_input share: taking a scale and shift of channels into the layer behind.

    before:  x -> scale, shift -> layer        after:  x -> layer'

The scale goes into the weights, and the shift, through the weights, into the bias. Weights are computed when
they are read, in one rounding.
"""

from __future__ import annotations

import numpy as np

from nnie_prep import params, weights
from nnie_prep.blob import DeferredBlob
from nnie_prep.net import Layer
from nnie_prep.passes.folding import layout_of, weighted_param, weights_problem
from nnie_prep.passes.sharing import Sharing
from nnie_prep.shapes import Shape
from nnie_prep.weights import Factors


def take_in(layer: Layer, factors: Factors, swaps: bool = False) -> None:
    """Takes what was done to a WEIGHTED layer's bottom into its weights and bias.

    With `swaps` its bottom has the channels in the opposite order from now on; `factors` are in the old one.
    """
    (layout, _), (channels, group) = layout_of(layer), inputs_of(layer, factors)
    outputs = weighted_param(layer).num_output
    scale, shift = factors.over(channels)
    old = layer.blobs

    def scaled() -> weights.Weights:
        found = weights.scale_input_channels(np.asarray(old[0]), scale, outputs, layout, group)
        return weights.reverse_input_channels(found, channels, outputs, layout) if swaps else found

    layer.blobs = [DeferredBlob(old[0].shape, scaled), *old[1:]]
    if shift.any():

        def bias() -> weights.Weights:
            added = weights.sum_over_inputs(np.asarray(old[0]), shift, outputs, layout, group)
            return weights.scale_bias(np.asarray(old[1]), Factors(np.ones_like(added), added))

        layer.blobs[1] = DeferredBlob(old[1].shape, bias)


def inputs_of(layer: Layer, factors: Factors) -> tuple[int, int]:
    """The input channels of a WEIGHTED layer, and in how many groups they are; (0, 1) if these do not fit.

    What its weights leave open (of an InnerProduct and of depthwise layers) is as the factors have it.
    """
    shape, outputs = layer.blobs[0].shape, weighted_param(layer).num_output
    if layer.type == "InnerProduct":
        inputs = shape[0] if layer.proto.inner_product_param.transpose else shape[-1]
        channels = factors.scale.size if factors.scale.ndim else inputs
        return (channels if inputs % channels == 0 else 0), 1
    if layer.type in params.DEPTHWISE_TYPES:
        channels = factors.scale.size if factors.scale.ndim else outputs
        return (channels, channels) if shape[1] == 1 and outputs % channels == 0 else (0, 1)
    group = layer.proto.convolution_param.group
    channels = shape[0] if layer.type == "Deconvolution" else shape[1] * group
    return (channels, group) if factors.fit(channels) and outputs % group == 0 else (0, 1)


def why_not_into(layer: Layer, sharing: Sharing) -> str:
    """Why nothing can be taken into a WEIGHTED layer, or ""."""
    if len(layer.bottoms) != 1 or len(layer.tops) != 1 or layer.bottoms == layer.tops:
        return f"{layer.name} has {len(layer.bottoms)} bottoms and {len(layer.tops)} tops"
    if reason := weights_problem(layer) or sharing.text(layer):
        return reason
    axis = weighted_param(layer).axis
    return f"the channels of {layer.name} are not on axis 1 (axis {axis})" if axis != 1 else ""


def misfit(layer: Layer, factors: Factors) -> str:
    """Why these factors have no place in this layer's weights, or ""."""
    if not inputs_of(layer, factors)[0]:
        return f"{layer.name} does not have the {factors.scale.size} input channels that are scaled"
    if factors.shift.any() and len(layer.blobs) == 1:
        return f"{layer.name} has no bias to take the shift; insert_bias gives it one"
    return ""


def spoils_shift(layer: Layer, whose: str) -> str:
    """Why some outputs would not see a shift through all weights, or ""."""
    if layer.type == "InnerProduct":
        return ""
    window = params.convolution(layer)
    if window.is_deconvolution:
        if {*window.kernel, *window.stride} != {1}:
            return f"not all outputs of {layer.name} would see the shift of {whose} through all weights"
    elif any(window.pad):
        return f"{layer.name} pads with zeros, which the shift of {whose} does not reach"
    return ""


def reaches_over(layer: Layer, whose: str, shape: Shape | None) -> str:
    """Why a kernel larger than its bottom, which Caffe takes for one place, would miss a shift; or "".

    The zeros beyond the edge are not shifted. `shape` is of the bottom, None where it is not known.
    """
    if layer.type in ("Deconvolution", "InnerProduct") or shape is None:
        return ""
    extent = params.convolution(layer).extent
    if all(have >= span for have, span in zip(shape[-2:], extent, strict=True)):
        return ""
    return f"the kernel of {layer.name} is larger than the picture, and the shift of {whose} is not beyond it"
