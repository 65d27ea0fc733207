"""Video files for tests: frames that can be told apart, in the containers and codecs that PyAV writes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

SIDE = 32


def pattern(number: int) -> np.ndarray:
    """Return a frame (SIDE, SIDE, 3) of 4 x 4 grey tiles, no two of which are alike."""
    tiles = np.random.default_rng(number).integers(0, 256, (SIDE // 4, SIDE // 4, 1), np.uint8)
    return np.repeat(np.repeat(np.repeat(tiles, 4, 0), 4, 1), 3, 2)


def video_bytes(
    times: Sequence[int],
    *,
    rate: int = 10,
    codec: str = "mpeg4",
    container: str = "mp4",
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
) -> bytes:
    """Return a file whose n-th frame is `pattern(n)`, shown from `times[n]` (in 1 / rate seconds) on."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=dict(muxer or {})) as output:
        stream = output.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, rate)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(pattern(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def decode_all(content: bytes) -> list[tuple[Fraction, np.ndarray]]:
    """Decode a file from start to end: seconds from the first frame, and RGB of each frame."""
    with av.open(io.BytesIO(content)) as container:
        decoded = container.decode(video=0)
        frames = [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in decoded]
    return [(time - frames[0][0], picture) for time, picture in frames]


def repeated_video_bytes(group: int, repeats: int, *, rate: int = 1) -> bytes:
    """Return an H.264 file that shows `pattern(0)` to `pattern(group - 1)` over and over, each round from a key frame.

    One round is encoded, and its packets are written with other times: ten hours take a second.
    """
    content = video_bytes(list(range(group)), rate=rate, codec="libx264", options={"g": str(group), "bf": "0"})
    file = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(file, "w", format="mp4") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        payload = [(bytes(packet), packet.pts, packet.time_base, packet.is_keyframe) for packet in packets]
        tick = round(1 / (rate * payload[0][2]))
        for number in range(repeats):
            for data, time, base, is_key in payload:
                packet = av.Packet(data)
                packet.pts = packet.dts = time + number * group * tick
                packet.time_base, packet.is_keyframe, packet.stream = base, is_key, stream
                output.mux(packet)
    return file.getvalue()
