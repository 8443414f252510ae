"""Runs Caffe for caffe_engine.py, in a process of its own.

    python caffe_worker.py REQUEST.json RESULT_DIR

Self-contained, for any Python that has `import caffe`, 2.7 included: hence types in comments and no
f-strings. Caffe ends the process with a message on stderr where a net does not suit it; whatever
this script itself finds wrong with a request becomes {"error": message} in RESULT_DIR/result.json;
{"missing": message} says that caffe cannot be imported, {"python_layer": message} what the user's module
of a Python layer raised.

REQUEST.json, by its "command":

    info        -> {"version", "path", "layer_types"}
    forward     "prototxt", "caffemodel" (null: the fillers' values), "feeds" and "forced"
                ({blob: .npy file}), "wanted" (blob names, null: all)
                -> {"blobs": {name: .npy file}}, the value of each blob after its last writer
    weights     "prototxt", "caffemodel"
                -> {"layers": [[name, [shape, ..]], ..], "weights": file}: the layers that got weights from
                the file, each with its blobs' shapes; all floats, little-endian, one after another
    save        "prototxt", "caffemodel" -> {"caffemodel": file}, what Net.save makes of the pair

Files are named by paths in the request, and below RESULT_DIR in the result.
"""

# What the linter calls old here is what Python 2.7 has.
# ruff: noqa: B905, UP020, UP024, UP031, PTH100, PTH118, PTH120, PTH123, SIM112

import errno
import io
import json
import os
import re
import sys

# A quiet NaN with a mark in it. No file holds a blob of these, so what is still full of it was not loaded.
UNTOUCHED = 0x7FC5A17E
NO_ROOM = 3  # exit code: a file could not be written, and the last line on stderr says why

# Python puts a script's own folder first in the path, and a package `numpy` lies in this one.
own_folder = os.path.dirname(os.path.abspath(__file__))
sys.path = [folder for folder in sys.path if os.path.abspath(folder) != own_folder]

# Caffe's library reads these as it is loaded: errors alone, not a line for each layer, and no log files.
os.environ["GLOG_minloglevel"] = "2"
os.environ["GLOG_logtostderr"] = "1"

try:
    import caffe
    import numpy as np

    missing = ""
except Exception as error:  # a build that does not suit its Python raises anything, TypeError for one
    missing = "%s: %s" % (type(error).__name__, error)


class RequestError(Exception):
    """What was asked for does not fit the net."""


def native(text):
    # type: (str) -> str
    """JSON's text as Caffe's own `str`, which in Python 2 is bytes."""
    return text if isinstance(text, str) else text.encode("utf-8")


def info(request, result_dir):
    # type: (dict, str) -> dict
    return {
        "version": getattr(caffe, "__version__", ""),
        "path": os.path.dirname(os.path.abspath(caffe.__file__)),
        "layer_types": list(caffe.layer_type_list()),
    }


def written_names(prototxt):
    # type: (str) -> set
    """The blob names that stand in the prototxt; Caffe adds others, for the Split layers it inserts."""
    from caffe.proto import caffe_pb2
    from google.protobuf import text_format

    net = caffe_pb2.NetParameter()
    with io.open(prototxt, encoding="utf-8") as file:
        text_format.Merge(file.read(), net)
    names = {native(name) for name in net.input}
    for layer in list(net.layer) + list(net.layers):
        names.update(native(name) for name in layer.top)
    return names


def load_arrays(files):
    # type: (dict) -> dict
    return {native(name): np.load(path).astype(np.float32) for name, path in files.items()}


def assign(name, data, value):
    # type: (str, np.ndarray, np.ndarray) -> None
    """Writes the value into the live view `data` of blob `name`."""
    if data.shape != value.shape:
        shapes = (name, data.shape, value.shape)
        raise RequestError("blob %r has shape %s in Caffe, and the value for it has shape %s" % shapes)
    data[...] = value


def feed(net, feeds):
    # type: (object, dict) -> None
    """Sets the net's inputs, and with them the shapes of all its blobs."""
    missing = sorted(set(net.inputs) - set(feeds))
    unknown = sorted(set(feeds) - set(net.inputs))
    if missing:
        raise RequestError("no value is given for input %s of the net" % ", ".join(map(repr, missing)))
    if unknown:
        raise RequestError("%s: not an input of the net" % ", ".join(map(repr, unknown)))
    for name, value in feeds.items():
        net.blobs[name].reshape(*value.shape)
    net.reshape()
    for name, value in feeds.items():
        assign(name, net.blobs[name].data, value)


def run_layers(net, names, forced, wanted):
    # type: (object, list, dict, set) -> dict
    """Runs layer by layer and returns the value of each wanted blob after its last writer.

    `names` are the blobs' names by index, None for those that Caffe inserted. A forced blob gets its
    value after its own has been recorded. Layers such as Flatten let their top share the bottom's
    memory, so forcing one would change the other: hence with anything forced, each layer's bottoms
    are set anew to what their own writers left in them, before it runs.
    """
    tops = [list(net._top_ids(i)) for i in range(len(net.layers))]
    last_writer = {}
    for i, layer_tops in enumerate(tops):
        for top in layer_tops:
            last_writer[top] = i
    blobs = list(net.blobs.values())
    results = {}
    held = {}  # blob index -> its value now, kept only while something is forced
    for i, layer_tops in enumerate(tops):
        bottoms = list(net._bottom_ids(i))
        for bottom in bottoms:
            if bottom in held:
                blobs[bottom].data[...] = held[bottom]
        net._forward(i, i)
        for top in layer_tops:
            name = names[top]
            last = last_writer[top] == i and name is not None
            value = None
            if forced or (last and name in wanted):
                value = blobs[top].data.copy()  # the view is live: in-place layers overwrite it
            if last and name in wanted:
                results[name] = value
            if last and name in forced:
                assign(name, blobs[top].data, forced[name])
                value = forced[name]
            if forced:
                # Only Split, which Caffe inserts, has tops without a name, and they equal its bottom.
                held[top] = held[bottoms[0]] if name is None else value
    return results


def forward(request, result_dir):
    # type: (dict, str) -> dict
    caffe.set_mode_cpu()
    if hasattr(caffe, "set_random_seed"):  # for fillers; old builds have none
        caffe.set_random_seed(1)
    prototxt = native(request["prototxt"])
    net = caffe.Net(prototxt, caffe.TEST)
    if request["caffemodel"] is not None:
        net.copy_from(native(request["caffemodel"]))
    feeds = load_arrays(request["feeds"])
    forced = load_arrays(request["forced"])
    for name in set(net.inputs) & set(forced):
        feeds.setdefault(name, forced[name])
    feed(net, feeds)

    written = written_names(prototxt)
    names = [name if name in written else None for name in net.blobs]
    present = set(names) - {None}
    wanted = present if request["wanted"] is None else set(map(native, request["wanted"]))
    unknown = sorted((wanted | set(forced)) - present)
    if unknown:
        raise RequestError("the net has no blob %s" % ", ".join(map(repr, unknown)))
    results = run_layers(net, names, forced, wanted)
    for name in wanted - set(results):  # inputs that no layer writes, in builds before Caffe's Input layer
        results[name] = net.blobs[name].data.copy()
    files = {}
    for number, name in enumerate(sorted(results)):
        files[name] = "blob%d.npy" % number
        np.save(os.path.join(result_dir, files[name]), results[name])
    return {"blobs": files}


def loaded(blob):
    # type: (object) -> bool
    """Whether the blob's values are others than those that `weights` marked it with."""
    return bool((blob.data.view(np.uint32) != UNTOUCHED).any())


def weights(request, result_dir):
    # type: (dict, str) -> dict
    """What copy_from puts into the net, and nothing else: a filler's values are not weights."""
    caffe.set_mode_cpu()
    net = caffe.Net(native(request["prototxt"]), caffe.TEST)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.data.view(np.uint32)[...] = UNTOUCHED
    net.copy_from(native(request["caffemodel"]))
    layers = []
    with open(os.path.join(result_dir, "weights.bin"), "wb") as file:
        for name, layer in zip(net._layer_names, net.layers):
            blobs = list(layer.blobs)
            if blobs and all(loaded(blob) for blob in blobs):
                layers.append([name, [list(blob.data.shape) for blob in blobs]])
                for blob in blobs:
                    file.write(np.ascontiguousarray(blob.data, "<f4").data)
    return {"layers": layers, "weights": "weights.bin"}


def save(request, result_dir):
    # type: (dict, str) -> dict
    caffe.set_mode_cpu()
    net = caffe.Net(native(request["prototxt"]), caffe.TEST)
    net.copy_from(native(request["caffemodel"]))
    net.save(native(os.path.join(result_dir, "saved.caffemodel")))
    return {"caffemodel": "saved.caffemodel"}


COMMANDS = {
    "info": info,
    "forward": forward,
    "weights": weights,
    "save": save,
}


def has_python_layer(request):
    # type: (dict) -> bool
    if not request.get("prototxt"):
        return False
    with io.open(request["prototxt"], encoding="utf-8") as file:
        return re.search(r"""type\s*:\s*["']Python["']""", file.read()) is not None


def main(request_file, result_dir):
    # type: (str, str) -> None
    with io.open(request_file, encoding="utf-8") as file:
        request = json.load(file)
    try:
        result = {"missing": missing} if missing else COMMANDS[request["command"]](request, result_dir)
    except RequestError as error:
        result = {"error": str(error)}
    except Exception as error:
        if not has_python_layer(request) or getattr(error, "errno", None) == errno.ENOSPC:
            raise
        # What the user's own module raises. Boost.Python may have printed it, and let go of it.
        result = {"python_layer": "%s: %s" % (type(error).__name__, error)}
    with open(os.path.join(result_dir, "result.json"), "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except EnvironmentError as error:  # no room for the results, most likely
        sys.stderr.write("%s\n" % (error.strerror or error))
        sys.exit(NO_ROOM)
