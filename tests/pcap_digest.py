#!/usr/bin/env python3
"""Recomputes from a capture file the digest that the links null and pcap print; see src/link/digest.rs."""
import struct, sys

P, Q, S, K = 0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x9E3779B97F4A7C15, 0x3C6EF372FE94F82B
M = (1 << 64) - 1
fold = lambda a, b: (a * b & M) ^ (a * b >> 64)
data, at, frames, state = open(sys.argv[1], "rb").read(), 24, 0, K
assert struct.unpack_from("<I", data)[0] == 0xA1B23C4D, "no little-endian capture file with nanoseconds"
while at < len(data):
    length, original = struct.unpack_from("<8xII", data, at)
    frame, at = data[at + 16 : at + 16 + length], at + 16 + length
    assert len(frame) == length == original, "a frame is cut off"
    pairs = struct.iter_unpack("<QQ", frame + bytes(-length % 16))
    mixed = 0
    for i, (left, right) in enumerate(pairs):
        mixed ^= fold(left ^ (P + i * S & M), right ^ (Q + i * S & M))
    state, frames = fold(state ^ mixed, K ^ length), frames + 1
print(f"frames {frames} digest {state:016x}")
