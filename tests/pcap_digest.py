#!/usr/bin/env python3
"""Recomputes from a capture file the digest that the links null and pcap print; see src/link/digest.rs."""
import struct, sys

KEYS = (0x6A09E667F3BCC909, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179)
STEP, START = 0x9E3779B97F4A7C15, 0xCBBB9D5DC1059ED8
M = (1 << 64) - 1
fold = lambda a, b: (a * b & M) ^ (a * b >> 64)
data, at, frames, sums, t = open(sys.argv[1], "rb").read(), 24, 0, [0] * 8, 0
assert struct.unpack_from("<I", data)[0] == 0xA1B23C4D, "no little-endian capture file with nanoseconds"
while at < len(data):
    length, original = struct.unpack_from("<8xII", data, at)
    frame, at = data[at + 16 : at + 16 + length], at + 16 + length
    assert len(frame) == length == original, "a frame is cut off"
    for words in struct.iter_unpack("<8Q", frame + bytes(-length % 64)):
        t = t + STEP * (length + 1) & M
        for i, word in enumerate(words):
            x = word + KEYS[i] + t & M
            sums[i] = (sums[i] + (x & 0xFFFFFFFF) * (x >> 32) & M) ^ x
    frames += 1
digest = START ^ frames
for total, key in zip(sums, KEYS):
    digest = fold(digest ^ total, key)
print(f"frames {frames} digest {fold(digest ^ t, START):016x}")
