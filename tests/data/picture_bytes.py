"""PNG, TIFF and PNM files of 16 bits and more, which PIL cannot write."""

import struct
import zlib

import numpy as np

PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}


def png(values: np.ndarray) -> bytes:
    """A PNG of 8 or 16 bits a channel, `[h, w]` or `[h, w, c]`."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, PNG_COLOUR[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(values: np.ndarray, order: str = "<", *, photometric: int | None = None, deflate=False, planar=False) -> bytes:
    """A TIFF of any numbers, `[h, w]` or `[h, w, c]`, in one strip (or one a channel)."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    parts = [values[..., k] for k in range(channels)] if planar else [values]
    strips = [part.astype(part.dtype.newbyteorder(order)).tobytes() for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    photometric = (2 if channels > 2 else 1) if photometric is None else photometric
    tags = {
        256: [width], 257: [height], 258: [8 * values.itemsize] * channels, 259: [8 if deflate else 1],
        262: [photometric], 273: [0] * len(strips), 277: [channels], 278: [height],
        279: [len(strip) for strip in strips], 284: [2 if planar else 1], 339: [kind] * channels,
    }  # fmt: skip
    if channels in (2, 4):
        tags[338] = [2]
    wide = (256, 257, 273, 278, 279)
    begin = 8 + 2 + 12 * len(tags) + 4
    sizes = {tag: (4 if tag in wide else 2) * len(value) for tag, value in tags.items()}
    place = begin + sum(size for size in sizes.values() if size > 4)
    tags[273] = [place + sum(map(len, strips[:k])) for k in range(len(strips))]
    entries, values_behind = b"", b""
    for tag, value in sorted(tags.items()):
        data = struct.pack(f"{order}{len(value)}{'I' if tag in wide else 'H'}", *value)
        entries += struct.pack(f"{order}HHI", tag, 4 if tag in wide else 3, len(value))
        entries += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(f"{order}I", begin + len(values_behind))
        values_behind += data if len(data) > 4 else b""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + values_behind + b"".join(strips)


def pnm(values: np.ndarray, white: int) -> bytes:
    """A PGM (`[h, w]`) or PPM (`[h, w, 3]`) whose largest value is `white`."""
    height, width = values.shape[:2]
    head = f"P{5 if values.ndim == 2 else 6}\n{width} {height}\n{white}\n".encode()
    return head + values.astype(">u2" if white > 255 else np.uint8).tobytes()
