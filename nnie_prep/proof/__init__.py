"""Runs two networks on an engine and compares them: the proof behind every command that changes one.

running.py   Engine, Options: what runs the nets, and how strictly
feeds.py     what both are fed with
surgery.py   prove_surgery: a Caffe net and what was made of it
darknet.py   prove_conversion, prove_darknet: a Darknet network and what was made of it
folded_input.py   what is another where the result is fed with raw pictures
"""

from nnie_prep.proof.darknet import Judge, prove_conversion, prove_darknet
from nnie_prep.proof.feeds import draw_feeds, read_feeds
from nnie_prep.proof.running import Engine, Options, without_training
from nnie_prep.proof.surgery import prove_surgery

__all__ = [
    "Engine",
    "Judge",
    "Options",
    "draw_feeds",
    "prove_conversion",
    "prove_darknet",
    "prove_surgery",
    "read_feeds",
    "without_training",
]
