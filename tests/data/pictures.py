"""Encoded pictures for the tests of the data package."""

import io
import struct
import zlib

from PIL import Image


def encode(image, image_format="PNG", **options):
    """Return the bytes of the file."""
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


def plain(colour=(200, 30, 10), size=(6, 4), mode="RGB"):
    return Image.new(mode, size, colour)


def png_of_size(width, height):
    """A PNG whose header claims a size and whose data would unpack to nothing."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
