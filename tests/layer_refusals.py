"""Layers that must be refused, with words of the message that says why."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import text_format

from nnie_prep.net import Layer
from nnie_prep.nnie_caffe_pb2 import LayerParameter

Shape = tuple[int, ...]
P: Shape = (2, 6, 5, 7)


@dataclass(frozen=True)
class Refusal:
    """`by_caffe` is False where Caffe goes on, to nonsense, something random, or what is not done here.

    A top named like "in0" makes the layer in place.
    """

    type: str
    parameters: str
    words: str
    bottoms: tuple[Shape, ...] = (P,)
    tops: tuple[str, ...] = ("out0",)
    by_caffe: bool = True

    def layer(self) -> Layer:
        proto = LayerParameter(name="bad", type=self.type)
        text_format.Merge(self.parameters, proto)
        bottoms = [f"in{index}" for index in range(len(self.bottoms))]
        return Layer(proto, bottoms, list(self.tops), origin="bad.prototxt:7")


def convolution(text: str, words: str, bottom: Shape = P, by_caffe: bool = True) -> Refusal:
    return Refusal("Convolution", f"convolution_param {{ {text} }}", words, (bottom,), by_caffe=by_caffe)


def pooling(text: str, words: str, bottom: Shape = P, by_caffe: bool = True) -> Refusal:
    return Refusal("Pooling", f"pooling_param {{ {text} }}", words, (bottom,), by_caffe=by_caffe)


def prior_box(text: str, words: str, bottoms: tuple[Shape, ...] = (P, P), by_caffe: bool = True) -> Refusal:
    return Refusal("PriorBox", f"prior_box_param {{ {text} }}", words, bottoms, by_caffe=by_caffe)


BOXES: tuple[Shape, ...] = ((2, 12), (2, 6), (1, 2, 12))  # 3 priors of 2 classes


def detection_output(text: str, words: str, bottoms: tuple[Shape, ...] = BOXES) -> Refusal:
    return Refusal("DetectionOutput", f"detection_output_param {{ {text} }}", words, bottoms)


def interp(text: str, words: str, bottom: Shape = P, by_caffe: bool = True) -> Refusal:
    return Refusal("Interp", f"interp_param {{ {text} }}", words, (bottom,), by_caffe=by_caffe)


TWO = ("out0", "out1")
ROI = "roi_pooling_param { pooled_h: 2 pooled_w: 3 }"
PSROI = "psroi_pooling_param { spatial_scale: 1 output_dim: %d group_size: %d }"

REFUSALS = [
    # parameters
    convolution("num_output: 4", "kernel_size is missing"),
    convolution("num_output: 4 kernel_size: 0", "kernel_size is missing or 0 (0 x 0)"),
    convolution("num_output: 4 kernel_h: 3", "kernel_size is missing or 0 (3 x 0)"),
    convolution("num_output: 4 kernel_size: 3 stride: 0", "stride is missing or 0"),
    convolution("num_output: 4 kernel_size: 3 stride_h: 2", "stride is missing or 0 (2 x 0)"),
    convolution("num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3", "kernel_size or kernel_h/kernel_w"),
    convolution(
        "num_output: 4 kernel_size: 3 stride: 1 stride_h: 1 stride_w: 1", "stride or stride_h/stride_w"
    ),
    convolution("num_output: 4 kernel_size: 3 pad: 1 pad_h: 1", "pad or pad_h/pad_w"),
    convolution("num_output: 4 kernel_size: 3 kernel_size: 3 kernel_size: 3", "specified 3 times"),
    convolution("num_output: 4 kernel_size: 3 dilation: 1 dilation: 1 dilation: 1", "specified 3 times"),
    convolution("kernel_size: 3", "num_output is missing"),
    convolution("num_output: 4 kernel_size: 3 group: 3", "num_output 4 is not a multiple of group 3"),
    convolution("num_output: 4 kernel_size: 3 group: 4", "no multiple of group 4"),
    convolution("num_output: 4 kernel_size: 3 group: 0", "group 0"),
    convolution("num_output: 4 kernel_size: 3 axis: 4", "axis 4 is out of range"),
    convolution("num_output: 4 kernel_size: 8", "would have shape (2, 4, -2, 0)"),
    convolution("num_output: 4 kernel_size: 3", "1 spatial axes", (2, 6, 5), by_caffe=False),
    convolution("num_output: 4 kernel_size: 2", "3 spatial axes", (2, 6, 5, 4, 3), by_caffe=False),
    Refusal("Convolution", "convolution_param { num_output: 4 kernel_size: 1 }", "not as many", (P, P)),
    Refusal(
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 1 }",
        "one shape",
        (P, (2, 6, 5, 6)),
        TWO,
    ),
    Refusal(
        "Convolution",
        "convolution_param { num_output: 6 kernel_size: 1 }",
        "in place",
        tops=("in0",),
        by_caffe=False,
    ),
    Refusal("DepthwiseConv", "convolution_param { num_output: 6 kernel_size: 3 group: 2 }", "group is 2"),
    Refusal(
        "DepthwiseConv", "convolution_param { num_output: 8 kernel_size: 3 }", "not a multiple of group 6"
    ),
    Refusal("Deconvolution", "convolution_param { num_output: 4 kernel_size: 1 pad: 4 }", "would have shape"),
    Refusal("Im2col", "convolution_param { stride: 1 }", "kernel_size is missing"),
    pooling("", "exactly one"),
    pooling("kernel_size: 2 kernel_h: 2 kernel_w: 2", "exactly one"),
    pooling("kernel_h: 2", "exactly one"),
    pooling("kernel_size: 0", "kernel is 0 x 0"),
    pooling("kernel_size: 2 stride: 0", "stride is 0 x 0"),
    pooling("kernel_size: 2 stride_h: 2", "stride is stride OR stride_h and stride_w"),
    pooling("kernel_size: 3 pad: 1 pad_h: 1 pad_w: 1", "pad is pad OR pad_h and pad_w"),
    pooling("kernel_size: 3 pad: 3", "pad 3 x 3 must be less"),
    pooling("global_pooling: true kernel_size: 2", "cannot be specified"),
    pooling("global_pooling: true stride: 2", "only pad 0 and stride 1"),
    pooling("kernel_size: 9 stride: 2", "would have shape (2, 6, -1, 0)"),
    pooling("kernel_size: 2", "must have 4 axes", (2, 6, 5)),
    pooling("pool: STOCHASTIC kernel_size: 2", "STOCHASTIC"),
    Refusal("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", "2 tops; Caffe wants 1", (P,), TWO),
    Refusal("SPP", "", "pyramid_height is missing"),
    Refusal("SPP", "spp_param { pyramid_height: 3 }", "must be less than the kernel"),
    Refusal("InnerProduct", "", "num_output is missing"),
    Refusal("InnerProduct", "inner_product_param { num_output: 2 axis: -5 }", "axis -5 is out of range"),
    Refusal("Embed", "embed_param { num_output: 2 }", "must be positive"),
    Refusal("Scale", "scale_param { num_axes: -2 }", "num_axes is -2"),
    Refusal("Scale", "scale_param { axis: 2 num_axes: 3 }", "exceed its bottom"),
    Refusal("Scale", "", "do not match", (P, (5,))),
    Refusal("Bias", "bias_param { axis: 3 }", "do not match", (P, (7, 1))),
    Refusal("Eltwise", "eltwise_param { coeff: 1 }", "1 coeff for 2 bottoms", (P, P)),
    Refusal("Eltwise", "eltwise_param { coeff: 1 coeff: 1 coeff: 1 }", "3 coeff for 2 bottoms", (P, P)),
    Refusal("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 1 }", "coeff is only", (P, P)),
    Refusal("Eltwise", "", "must have one shape, not (2, 6, 5, 7) and (2, 6, 5, 6)", (P, (2, 6, 5, 6))),
    Refusal("Eltwise", "", "1 bottom; Caffe wants 2 or more"),
    Refusal("Eltwise", "", "in place", (P, P), ("in0",), by_caffe=False),
    Refusal("Concat", "concat_param { axis: 1 concat_dim: 1 }", "axis or concat_dim", (P, P)),
    Refusal("Concat", "concat_param { axis: 2 }", "may differ on axis 2 alone", (P, (2, 5, 5, 7))),
    Refusal("Concat", "concat_param { concat_dim: 4 }", "axis 4 is out of range", (P, P)),
    Refusal("Slice", "slice_param { axis: 1 slice_dim: 1 }", "axis or slice_dim", (P,), TWO),
    Refusal("Slice", "slice_param { axis: 2 }", "2 tops do not divide axis 2", (P,), TWO),
    Refusal("Slice", "slice_param { slice_point: 7 }", "does not give 2 tops", (P,), TWO),
    Refusal("Slice", "slice_param { slice_point: 1 slice_point: 2 }", "does not give 2 tops", (P,), TWO),
    Refusal("Permute", "permute_param { order: 0 order: 0 }", "different axes"),
    Refusal("Permute", "permute_param { order: 4 }", "different axes"),
    Refusal("Upsample", "", "it needs scale"),
    Refusal("Upsample", "upsample_param { scale: 2 scale_h: 2 scale_w: 2 }", "it needs scale"),
    Refusal("Upsample", "upsample_param { scale: 0 }", "at least 1"),
    Refusal("Upsample", "upsample_param { scale: 2 upsample_h: 9 }", "not supported"),
    Refusal("PassThrough", "", "are required"),
    Refusal(
        "PassThrough", "pass_through_param { num_output: 24 block_height: 2 block_width: 2 }", "do not divide"
    ),
    Refusal("PassThrough", "pass_through_param { num_output: 6 block_height: 5 block_width: 1 }", "gives 30"),
    Refusal("ShuffleChannel", "shuffle_channel_param { group: 4 }", "group 4 does not divide"),
    Refusal("ShuffleChannel", "shuffle_channel_param { group: 0 }", "group 0 does not divide"),
    interp("height: 9", "needs zoom_factor, shrink_factor, or height and width"),
    interp("height: 0 width: 4", "would have shape (2, 6, 0, 4)"),
    interp("zoom_factor: 0", "zoom_factor is 0"),
    interp("shrink_factor: -1", "shrink_factor -1"),
    interp("zoom_factor: 2 shrink_factor: 2 height: 9 width: 9", "forks of Caffe", by_caffe=False),
    interp("zoom_factor: 2 pad_end: 1", "must be 0 or negative"),
    interp("zoom_factor: 2 pad_beg: -3 pad_end: -2", "leave nothing"),
    interp("zoom_factor: 2", "must have 4 axes", (2, 6, 5)),
    prior_box("", "min_size is []"),
    prior_box("min_size: 0", "min_size is [0.0]"),
    prior_box("min_size: 3 max_size: 5 max_size: 6", "2 max_size for 1 min_size"),
    prior_box("min_size: 3 max_size: 3", "must be greater"),
    prior_box("min_size: inf", "min_size is [inf]", by_caffe=False),
    prior_box("min_size: nan", "min_size is [nan]"),
    prior_box("min_size: 3 max_size: inf", "and finite", by_caffe=False),
    prior_box("min_size: 3 aspect_ratio: 0", "aspect_ratio is 0"),
    prior_box("min_size: 3 variance: 0.1 variance: 0.2", "one positive number, or four"),
    prior_box("min_size: 3 variance: -0.1", "one positive number, or four"),
    prior_box("min_size: 3 img_size: 9 img_h: 9 img_w: 9", "either img_size or img_h/img_w"),
    prior_box("min_size: 3 img_h: 9", "img_size is 9 x 0"),
    prior_box("min_size: 3 img_size: 0", "img_size is 0 x 0"),
    prior_box("min_size: 3", "neither img_size nor a second bottom", (P,)),
    prior_box("min_size: 3 step: 8 step_w: 8", "either step or step_h/step_w"),
    prior_box("min_size: 3 step: -1", "step is -1 x -1"),
    prior_box("min_size: 3", "must have 4 axes", (P, (2, 3, 4))),
    detection_output("", "num_classes is missing"),
    detection_output("num_classes: 2 nms_param { nms_threshold: -0.1 }", "nms_threshold is -0.1"),
    detection_output("num_classes: 2 nms_param { eta: 0 }", "eta is 0"),
    detection_output("num_classes: 2 nms_param { eta: 1.5 }", "eta is 1.5"),
    detection_output("num_classes: 3", "its confidences have shape (2, 6); 3 priors need (2, 9)"),
    detection_output("num_classes: 2 share_location: false", "its locations have shape (2, 12)"),
    detection_output("num_classes: 2", "its confidences", ((2, 12), (1, 6), (1, 2, 12))),
    detection_output("num_classes: 2", "its priors have shape (2, 2, 12)", ((2, 12), (2, 6), (2, 2, 12))),
    detection_output("num_classes: 2", "its priors have shape (1, 2, 10)", ((2, 12), (2, 6), (1, 2, 10))),
    Refusal("ROIPooling", "roi_pooling_param { pooled_h: 2 }", "are required", (P, (3, 5))),
    Refusal("ROIPooling", ROI, "5 values for each region", (P, (3, 4))),
    Refusal("ROIPooling", ROI, "must have 4 axes", ((2, 6, 5), (3, 5))),
    Refusal("PSROIPooling", PSROI % (0, 1), "output_dim is 0", (P, (3, 5))),
    Refusal("PSROIPooling", PSROI % (6, 0), "group_size 0", (P, (3, 5))),
    Refusal("PSROIPooling", PSROI % (6, -1), "group_size -1", (P, (3, 5))),
    Refusal("PSROIPooling", PSROI % (2, 2), "needs 8 channels", (P, (3, 5))),
    Refusal("PSROIPooling", PSROI % (6, 1), "5 values for each region", (P, (3, 6))),
    # shapes
    Refusal("ShuffleChannel", "shuffle_channel_param { group: 2 }", "in place", tops=("in0",)),
    Refusal("CReLU", "", "in place", tops=("in0",)),
    Refusal("CReLU", "", "must have 2 to 32 axes", ((5,),)),
    Refusal("Axpy", "", "must have one shape", ((2, 6), P, (2, 6, 5, 6))),
    Refusal("Axpy", "", "one value for each channel", ((2, 6, 5, 7), P, P)),
    Refusal("Axpy", "", "one value for each channel", ((2, 3), P, P)),
    Refusal("Axpy", "", "2 bottoms; Caffe wants 3", (P, P)),
    Refusal("DetectionOutput", "", "2 bottoms; Caffe wants 3 to 5", BOXES[:2]),
    Refusal("Silence", "", "0 bottoms; Caffe wants 1 or more", (), ()),
    Refusal("Scale", "", "3 bottoms; Caffe wants 1 to 2", (P, (6,), (6,))),
    Refusal("ReLU", "", "2 tops; Caffe wants 1", (P,), TWO),
    Refusal("AbsVal", "", "in place", tops=("in0",)),
    Refusal("Flatten", "", "in place", tops=("in0",)),
    Refusal("BatchNorm", "", "must have 2 to 32 axes", ((5,),)),
    Refusal("PReLU", "", "must have 2 to 4 axes", ((5,),)),
    Refusal("MVN", "", "must have 0 to 4 axes", ((2, 3, 4, 5, 6),)),
    Refusal("LRN", "", "must have 4 axes", ((2, 3, 4),)),
    Refusal("LRN", "lrn_param { local_size: 4 }", "local_size is 4"),
    Refusal("Softmax", "softmax_param { axis: 4 }", "axis 4 is out of range"),
    Refusal("Reduction", "reduction_param { axis: -5 }", "axis -5 is out of range"),
    Refusal("ArgMax", "argmax_param { top_k: 7 axis: 1 }", "top_k 7 of 6"),
    Refusal("ArgMax", "argmax_param { top_k: 0 }", "top_k 0 of 210"),
    Refusal("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", "may hold one -1"),
    Refusal("Reshape", "reshape_param { shape { dim: -2 dim: 3 } }", "no other negative"),
    Refusal("Reshape", "reshape_param { shape { dim: 4 dim: 100 } }", "cannot be reshaped to (4, 100)"),
    Refusal("Reshape", "reshape_param { shape { dim: -1 dim: 11 } }", "cannot be reshaped to (-1, 11)"),
    Refusal("Reshape", "reshape_param { axis: 3 num_axes: 2 shape { dim: 7 } }", "out of range"),
    Refusal("Reshape", "reshape_param { axis: -6 shape { dim: 7 } }", "out of range"),
    Refusal("Reshape", "reshape_param { axis: 3 shape { dim: 7 dim: 0 } }", "no axis to copy"),
    Refusal("Flatten", "flatten_param { axis: 2 end_axis: 0 }", "behind end_axis"),
    Refusal("Crop", "crop_param { axis: 2 offset: 3 }", "exceeds its bottom", (P, (1, 1, 3, 3))),
    Refusal("Crop", "crop_param { axis: 1 offset: 1 offset: 1 }", "2 offsets for 3 axes", (P, (1, 1, 3, 3))),
    Refusal("Tile", "", "tiles is missing"),
    Refusal("BatchReindex", "", "not one axis", (P, (2, 1))),
    Refusal(
        "Input",
        "input_param { shape { dim: 1 } shape { dim: 1 } }",
        "2 shapes for 3 tops",
        (),
        ("a", "b", "c"),
    ),
    Refusal("Upsample", "upsample_param { scale: 40000 }", "more than 2^31 - 1 elements"),
    # values that only a computation needs: here all are 1
    Refusal("ROIPooling", ROI, "an index is outside of 0..0: 1.0..1.0", ((1, 6, 5, 7), (3, 5))),
    Refusal("PSROIPooling", PSROI % (6, 1), "an index is outside of 0..0", ((1, 6, 5, 7), (3, 5))),
    detection_output("num_classes: 2 code_type: CENTER_SIZE", "a prior has no width"),
    detection_output("num_classes: 2 code_type: CORNER_SIZE", "a prior has no width"),
    Refusal("Log", "log_param { base: -2 }", "base is -2"),
    Refusal("Log", "log_param { base: 1 }", "base is 1"),
    Refusal("Exp", "exp_param { base: 0 }", "base is 0"),
    Refusal("Dropout", "phase: TRAIN", "random", by_caffe=False),
]
