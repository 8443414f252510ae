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
  // NNIE's layers, and SSD's that NNIE has. The numbers are those of the vendor's copies.
  optional PermuteParameter permute_param = 172;
  optional NormalizeParameter norm_param = 206;
  optional UpsampleParameter upsample_param = 100003;
  optional PassThroughParameter pass_through_param = 100004;
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
        "  optional WindowDataParameter window_data_param = 129;\n" + NNIE_PARAMETERS,
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
