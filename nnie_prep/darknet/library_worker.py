"""Runs a network in a library of Darknet for library.py, in a process of its own.

    python library_worker.py LIBRARY ANSWER                                   says whose Darknet it is
    python library_worker.py LIBRARY ANSWER CFG WEIGHTS INPUT COUNT OUTPUT    runs a network as well

Self-contained, with nothing but the standard library. Darknet writes to stdout and stderr what it
likes and ends the process where a network does not suit it; whatever this script finds wrong becomes
{"error": message} in ANSWER. Otherwise ANSWER is {"tree": "alexeyab" or "pjreddie"}, written last of all, so
that it stands for the whole. INPUT and OUTPUT are bare float32; COUNT is how many the output has.

Only functions of the two trees that take and give pointers are called, for the structs behind these
differ from version to version:

    AlexeyAB, hank-ai   load_network(cfg, weights, clear)   network_predict_ptr(net, input)
    pjreddie            load_network(cfg, weights, clear)   network_predict(net, input)

Both predict functions return the output of the last layer that is not [cost] (network.c,
get_network_output of AlexeyAB, get_network_output_layer of pjreddie). AlexeyAB's load_network_custom
would take the batch as an argument, but it folds BatchNorm, and keeps the weights of a weighted
[shortcut] at 0.001 at least, where Darknet itself has 0 (network.c, fuse_conv_batchnorm): hence not that.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path


def whose(darknet: ctypes.CDLL) -> dict[str, str]:
    """The answer: the tree, by the functions that the library exports."""
    if not hasattr(darknet, "load_network"):
        return {"error": "exports no load_network, as a library of Darknet does"}
    if hasattr(darknet, "network_predict_ptr"):
        return {"tree": "alexeyab"}
    # Without the function for pointers, these hand the struct itself around.
    for name in ("load_network_custom", "load_network_p"):
        if hasattr(darknet, name):
            return {"error": f"exports {name} and no network_predict_ptr: a Darknet that is too old"}
    if hasattr(darknet, "network_predict"):
        return {"tree": "pjreddie"}
    return {"error": "exports neither network_predict_ptr nor network_predict, as a library of Darknet does"}


def run(darknet: ctypes.CDLL, tree: str, cfg: str, weights: str, fed: str, count: str, output: str) -> bool:
    """Writes what the network's last layer gives; False if it gives nothing."""
    floats = ctypes.POINTER(ctypes.c_float)
    load = darknet.load_network
    load.argtypes, load.restype = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    predict = darknet.network_predict_ptr if tree == "alexeyab" else darknet.network_predict
    predict.argtypes, predict.restype = [ctypes.c_void_p, floats], floats
    net = load(cfg.encode(), weights.encode(), 0)
    data = Path(fed).read_bytes()
    found = predict(net, (ctypes.c_float * (len(data) // 4)).from_buffer_copy(data)) if net else None
    if found:
        Path(output).write_bytes(ctypes.string_at(found, 4 * int(count)))
    return bool(found)


def main(library: str, answer: str, *network: str) -> None:
    try:
        if Path(library).is_fifo():
            raise OSError("it is a FIFO, which nobody may ever write to")
        darknet = ctypes.CDLL(library)
    except (OSError, ValueError) as error:  # a name that is not UTF-8
        result = {"error": f"cannot be loaded: {error}"}
    else:
        result = whose(darknet)
        if network and "tree" in result and not run(darknet, result["tree"], *network):
            result = {"error": "returned no output"}
    Path(answer).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
