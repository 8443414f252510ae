"""What the chip's 8 bits do to a net, before there is a board.

    code.py        the chip's numbers: a sign and a logarithm
    simulation.py  a net whose weights and activations are rounded to them
    proposal.py    which layers lose most, and what 16 bits would give them back
    dump.py        the files that the compiler writes of every layer, read back and compared

How well it is known: the code of 8 bits is described for NNIE in SenseTime's MQBench, and the compiler's
own outputs agree. That weights and inputs of 16 bits have 5 binary places before the point of their
logarithm and 7 behind it (1.5.7, where 8 bits are 1.3.4) is said in one set of notes on the compiler's
files; where its range begins is taken over from 8 bits. Biases are kept as they are: the compiler has 24
bits for them. Its own search for a better clipping value is not known; the largest magnitude seen is taken.
"""

from nnie_prep.quantization.code import round_to_code
from nnie_prep.quantization.simulation import LayerLoss, Simulation, snr

__all__ = ["LayerLoss", "Simulation", "round_to_code", "snr"]
