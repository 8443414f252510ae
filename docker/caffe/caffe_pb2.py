"""Caffe's messages, made from the descriptor beside this file."""

import os

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.internal import builder

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "caffe.desc"), "rb") as _file:
    _files = descriptor_pb2.FileDescriptorSet.FromString(_file.read())

DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(_files.file[0].SerializeToString())
builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, globals())
builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "caffe.proto.caffe_pb2", globals())
