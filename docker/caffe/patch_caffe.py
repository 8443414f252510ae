"""Changes Caffe's tree so that it builds with today's tools and knows NNIE's layers.

Run by build.py. Every replacement must find its text exactly once: another commit than the one
that these were written for stops here, and not in a wheel that computes something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class PatchError(Exception):
    """The tree is not the one that the replacements were written for."""


class Replacement(NamedTuple):
    """In the file `path`, below the root of Caffe's tree, `old` becomes `new`."""

    path: str
    old: str
    new: str


NNIE_PARAMETERS = """
  // NNIE's layers, and those of the networks that it is given. The numbers are those of the vendor's
  // copies and of the forks that the layers come from.
  optional PermuteParameter permute_param = 172;
  optional PriorBoxParameter prior_box_param = 203;
  optional DetectionOutputParameter detection_output_param = 204;
  optional NormalizeParameter norm_param = 206;
  optional ReLU6Parameter relu6_param = 211;
  optional UpsampleParameter upsample_param = 100003;
  optional PassThroughParameter pass_through_param = 100004;
  optional PSROIPoolingParameter psroi_pooling_param = 100007;
  optional MishParameter mish_param = 100023;
  optional ShuffleChannelParameter shuffle_channel_param = 100024;
  optional InterpParameter interp_param = 100031;
  optional ROIPoolingParameter roi_pooling_param = 8266711;
}

// The top's axis i is the bottom's axis order[i]; axes that are not named follow in their order.
message PermuteParameter {
  repeated uint32 order = 1;
}

// The bottom over its L2 norm, times a learned scale.
message NormalizeParameter {
  optional bool across_spatial = 1 [default = true];  // one norm for each image, not for each position
  optional FillerParameter scale_filler = 2;
  optional bool channel_shared = 3 [default = true];  // one scale, not one for each channel
  optional float eps = 4 [default = 1e-10];
}

// Repeats each value scale_h x scale_w times. The fields from pad_out_h on belong to SegNet's
// layer of the same name and are refused.
message UpsampleParameter {
  optional uint32 scale = 1 [default = 2];
  optional uint32 scale_h = 2;
  optional uint32 scale_w = 3;
  optional bool pad_out_h = 4 [default = false];
  optional bool pad_out_w = 5 [default = false];
  optional uint32 upsample_h = 6;
  optional uint32 upsample_w = 7;
}

// Space to depth.
message PassThroughParameter {
  optional uint32 num_output = 1;
  optional uint32 block_height = 2;
  optional uint32 block_width = 3;
}

message ShuffleChannelParameter {
  optional uint32 group = 1 [default = 1];
}

message ReLU6Parameter {
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  optional float negative_slope = 1 [default = 0];
  optional Engine engine = 2 [default = DEFAULT];
  optional float threshold = 101 [default = 6];
}

message MishParameter {
  enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
  optional Engine engine = 2 [default = DEFAULT];
}

// Bilinear, to a size that is given or made by factors.
message InterpParameter {
  optional int32 height = 1 [default = 0];
  optional int32 width = 2 [default = 0];
  optional int32 zoom_factor = 3 [default = 1];
  optional int32 shrink_factor = 4 [default = 1];
  optional int32 pad_beg = 5 [default = 0];
  optional int32 pad_end = 6 [default = 0];
}

// Maxima over windows of regions.
message ROIPoolingParameter {
  optional uint32 pooled_h = 1 [default = 0];
  optional uint32 pooled_w = 2 [default = 0];
  optional float spatial_scale = 3 [default = 1];
}

// Means over windows of regions, each window from channels of its own.
message PSROIPoolingParameter {
  required float spatial_scale = 1;
  required int32 output_dim = 2;
  required int32 group_size = 3;
}
"""

# SSD's parameters are whole, though its files of results and its drawings are not made: a field
# that is unknown would end the reading of a prototxt.
SSD_PARAMETERS = """
// Anchors; sizes and steps in pixels of the image.
message PriorBoxParameter {
  enum CodeType { CORNER = 1; CENTER_SIZE = 2; CORNER_SIZE = 3; }
  repeated float min_size = 1;
  repeated float max_size = 2;
  repeated float aspect_ratio = 3;
  optional bool flip = 4 [default = true];
  optional bool clip = 5 [default = false];
  repeated float variance = 6;
  optional uint32 img_size = 7;
  optional uint32 img_h = 8;
  optional uint32 img_w = 9;
  optional float step = 10;
  optional float step_h = 11;
  optional float step_w = 12;
  optional float offset = 13 [default = 0.5];
}

message DetectionOutputParameter {
  optional uint32 num_classes = 1;
  optional bool share_location = 2 [default = true];
  optional int32 background_label_id = 3 [default = 0];
  optional NonMaximumSuppressionParameter nms_param = 4;
  optional SaveOutputParameter save_output_param = 5;
  optional PriorBoxParameter.CodeType code_type = 6 [default = CORNER];
  optional int32 keep_top_k = 7 [default = -1];
  optional bool variance_encoded_in_target = 8 [default = false];
  optional float confidence_threshold = 9;
  optional bool visualize = 10 [default = false];
  optional float visualize_threshold = 11;
  optional string save_file = 12;
}

message NonMaximumSuppressionParameter {
  optional float nms_threshold = 1 [default = 0.3];
  optional int32 top_k = 2;
  optional float eta = 3 [default = 1];
}

message SaveOutputParameter {
  optional string output_directory = 1;
  optional string output_name_prefix = 2;
  optional string output_format = 3;
  optional string label_map_file = 4;
  optional string name_size_file = 5;
  optional uint32 num_test_image = 6;
  optional ResizeParameter resize_param = 7;
}

message ResizeParameter {
  enum Resize_mode { WARP = 1; FIT_SMALL_SIZE = 2; FIT_LARGE_SIZE_AND_PAD = 3; }
  enum Pad_mode { CONSTANT = 1; MIRRORED = 2; REPEAT_NEAREST = 3; }
  enum Interp_mode { LINEAR = 1; AREA = 2; NEAREST = 3; CUBIC = 4; LANCZOS4 = 5; }
  optional float prob = 1 [default = 1];
  optional Resize_mode resize_mode = 2 [default = WARP];
  optional uint32 height = 3 [default = 0];
  optional uint32 width = 4 [default = 0];
  optional Pad_mode pad_mode = 5 [default = CONSTANT];
  repeated float pad_value = 6;
  repeated Interp_mode interp_mode = 7;
  optional uint32 height_scale = 8 [default = 0];
  optional uint32 width_scale = 9 [default = 0];
}
"""

REPLACEMENTS = (
    # protobuf dropped the argument that set a threshold for a warning.
    Replacement(
        "src/caffe/util/io.cpp",
        "SetTotalBytesLimit(kProtoReadBytesLimit, 536870912);",
        "SetTotalBytesLimit(kProtoReadBytesLimit);",
    ),
    # The one use of HDF5 that is not guarded.
    Replacement(
        "src/caffe/net.cpp",
        "  if (H5Fis_hdf5(trained_filename.c_str())) {\n"
        "    CopyTrainedLayersFromHDF5(trained_filename);\n"
        "  } else {\n"
        "    CopyTrainedLayersFromBinaryProto(trained_filename);\n"
        "  }\n",
        "#ifdef USE_HDF5\n"
        "  if (H5Fis_hdf5(trained_filename.c_str())) {\n"
        "    CopyTrainedLayersFromHDF5(trained_filename);\n"
        "    return;\n"
        "  }\n"
        "#endif  // USE_HDF5\n"
        "  CopyTrainedLayersFromBinaryProto(trained_filename);\n",
    ),
    # scikit-image and SciPy are for reading and resizing pictures alone.
    Replacement(
        "python/caffe/io.py",
        "import skimage.io\nfrom scipy.ndimage import zoom\nfrom skimage.transform import resize\n",
        "",
    ),
    Replacement(
        "python/caffe/io.py",
        "    img = skimage.img_as_float(skimage.io.imread(filename, as_grey=not color))",
        "    import skimage.io\n"
        "    img = skimage.img_as_float(skimage.io.imread(filename, as_gray=not color))",
    ),
    Replacement(
        "python/caffe/io.py",
        "        im_min, im_max = im.min(), im.max()\n",
        "        from skimage.transform import resize\n        im_min, im_max = im.min(), im.max()\n",
    ),
    Replacement(
        "python/caffe/io.py",
        "        # ndimage interpolates anything but more slowly.\n",
        "        from scipy.ndimage import zoom\n        # ndimage interpolates anything but more slowly.\n",
    ),
    Replacement(
        "src/caffe/proto/caffe.proto",
        "  optional WindowDataParameter window_data_param = 129;\n}\n",
        "  optional WindowDataParameter window_data_param = 129;\n" + NNIE_PARAMETERS + SSD_PARAMETERS,
    ),
)


def patch(tree: Path) -> None:
    """Applies REPLACEMENTS to the tree, or raises PatchError at the first that does not fit."""
    for path, old, new in REPLACEMENTS:
        file = tree / path
        text = file.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise PatchError(
                f"{path}: {old.strip().splitlines()[0]!r} and what follows is there {text.count(old)} "
                "times instead of once; this is not the commit of Caffe that it was written for"
            )
        file.write_text(text.replace(old, new), encoding="utf-8")
