"""nnie_prep takes trained Darknet and Caffe networks to HiSilicon's NNIE, and proves the result equal."""

__version__ = "0.1.0"
