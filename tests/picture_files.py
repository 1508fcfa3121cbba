"""Picture files of every kind, written by tifffile or by hand, beside what they show."""

import itertools
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile

Y, X = np.mgrid[:20, :28]


def gray(most):
    """20×28 integers up to ``most`` of which no turned or mirrored copy is equal."""
    return np.round((X + 3 * Y) / (X + 3 * Y).max() * most).astype(np.uint8 if most < 256 else "u2")


def colour(most):
    return np.dstack([gray(most), gray(most)[::-1], gray(most)[:, ::-1]])


def full(values, most):
    """What the values mean, over the full range of 8 or 16 bits."""
    dtype = np.uint8 if most < 256 else np.uint16
    return np.round(values.astype(float) * np.iinfo(dtype).max / most).astype(dtype)


def turned(array, orientation):
    """The stored array of a picture that is ``array`` once an orientation has been applied."""
    mirrored = array[:, ::-1] if orientation in (2, 4, 5, 7) else array
    return np.rot90(mirrored, {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}[orientation])


def packed(values, bits):
    """Rows of integers of so many bits, each row filled up to whole bytes."""
    rows = values.reshape(len(values), -1).astype(np.uint16)
    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint16)
    return np.packbits(((rows[..., None] >> shifts) & 1).reshape(len(rows), -1), axis=1).tobytes()


def tiff(path, data, bits, channels=1, photometric=1, compressed=False, **more):
    """A TIFF file of one strip with exactly these tags, byte for byte; values are SHORTs."""
    data = zlib.compress(data) if compressed else data
    tags = {256: [X.shape[1]], 257: [len(X)], 258: [bits] * channels, 259: [8 if compressed else 1]}
    tags |= {262: [photometric], 273: [8], 277: [channels], 278: [len(X)], 279: [len(data)]}
    tags |= {int(name[1:]): values for name, values in more.items()}
    data += bytes(len(data) % 2)
    entries, after = b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    values = b""
    for tag, numbers in sorted(tags.items()):
        kind = 4 if tag == 279 else 3
        content = struct.pack(f"<{len(numbers)}{'I' if kind == 4 else 'H'}", *numbers)
        if len(content) > 4:
            place = struct.pack("<I", after + len(values))
            values += content
        else:
            place = content.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + place
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4) + values)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path, values, bits, colour_type, key=None, animated=False, palette=None):
    """A PNG file, whose second frame is black if it is animated."""
    height, width = values.shape[:2]

    def rows(values):
        stored = packed(values, bits)
        step = len(stored) // height
        return zlib.compress(b"".join(b"\0" + stored[i * step :][:step] for i in range(height)))

    def control(number):
        return chunk(b"fcTL", struct.pack(">5I2H2B", number, width, height, 0, 0, 1, 10, 0, 0))

    header = struct.pack(">2I5B", width, height, bits, colour_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    if animated:
        content += chunk(b"acTL", struct.pack(">2I", 2, 0)) + control(0)
    if palette is not None:
        content += chunk(b"PLTE", palette)
    if key is not None:
        content += chunk(b"tRNS", key)
    content += chunk(b"IDAT", rows(values))
    if animated:
        content += control(1) + chunk(b"fdAT", struct.pack(">I", 2) + rows(values * 0))
    path.write_bytes(content + chunk(b"IEND", b""))


def tiff_files(folder):
    """Writes TIFF files; yields path, H×W or H×W×3 of the full range, and alpha or None."""
    number = itertools.count()

    def place(name):
        return folder / f"{next(number):03}_{name}.tif"

    def written(name, array, **options):
        path = place(name)
        tifffile.imwrite(path, array, metadata=None, **options)
        return path

    # Orientation, depth, compression, channels.
    for depth, compression, make in itertools.product((255, 65535), (None, "zlib"), (gray, colour)):
        for orientation in range(1, 9):
            options = dict(
                photometric="rgb" if make is colour else "minisblack",
                compression=compression,
                extratags=[(274, 3, 1, orientation, True)],
            )
            name = f"orientation{orientation}_{depth}_{compression}_{make.__name__}"
            stored = np.ascontiguousarray(turned(make(depth), orientation))
            yield written(name, stored, **options), make(depth), None
    # White is 0, at every depth, tiled or not, and in either byte order.
    for bits in (1, 2, 4, 8, 10, 12, 14, 16):
        for photometric, compressed in itertools.product((0, 1), (False, True)):
            path = place(f"photometric{photometric}_{bits}bits{'_zlib' * compressed}")
            values = gray(2**bits - 1)
            data = packed(values, bits) if bits != 16 else values.astype("<u2").tobytes()
            tiff(path, data, bits, photometric=photometric, compressed=compressed)
            shown = full(values, 2**bits - 1)
            yield path, shown if photometric else ~shown, None
    for most in (255, 65535):
        path = written("tiled", gray(most), photometric="miniswhite", tile=(16, 16), byteorder=">")
        yield path, ~gray(most), None
    # 10, 12 and 14 bits in words of 16, against the specification, or with the right tags.
    for bits, compressed in itertools.product((10, 12, 14), (False, True)):
        most = 2**bits - 1
        for stated in (bits, 16):
            path = place(f"words_{bits}of{stated}{'_zlib' * compressed}")
            data = gray(most).astype("<u2").tobytes()
            more = {"t281": [most]} if stated == 16 else {}
            tiff(path, data, stated, compressed=compressed, **more)
            yield path, full(gray(most), most), None
    for bits in (4, 12):
        path = place(f"rgb_{bits}bits")
        values = colour(2**bits - 1)
        tiff(path, packed(values, bits), bits, 3, 2)
        yield path, full(values, 2**bits - 1), None
    # A reduced picture first, and the one itself below it, as in a camera's raw file.
    path = place("reduced_first")
    with tifffile.TiffWriter(path) as file:
        options = dict(photometric="rgb", metadata=None)
        small = turned(colour(255)[::4, ::4], 6)
        tags = [(274, 3, 1, 6, True)]
        file.write(small, subfiletype=1, subifds=1, extratags=tags, **options)
        file.write(np.ascontiguousarray(turned(colour(255), 6)), **options)
    yield path, colour(255), None
    # Planes, further channels, premultiplication.
    for most, planes in itertools.product((255, 65535), ("contig", "separate")):

        def store(name, array, planes=planes, **options):
            array = np.ascontiguousarray(np.moveaxis(array, 2, 0)) if planes != "contig" else array
            options.setdefault("photometric", "rgb")
            return written(f"{name}_{planes}", array, planarconfig=planes, **options)

        rgb, alpha = colour(most), gray(most)[:, ::-1].copy()
        alpha[:3] = most  # opaque in part
        alpha[3] = 0
        rgb[3] = 0
        yield store("rgb", rgb), rgb, None
        rgba = np.dstack([rgb, alpha])
        for kind, shown in (("unspecified", None), ("unassalpha", alpha)):
            yield store(kind, rgba, extrasamples=[kind]), rgb, shown
        multiplied = np.round(rgb * (alpha[..., None] / most)).astype(rgb.dtype)
        path = store("assocalpha", np.dstack([multiplied, alpha]), extrasamples=["assocalpha"])
        yield path, rgb, alpha
        five = np.dstack([rgb, alpha * 0, alpha])
        yield store("two", five, extrasamples=["unspecified", "unassalpha"]), rgb, alpha
        two = np.dstack([gray(most), alpha])
        options = dict(photometric="minisblack", extrasamples=["unassalpha"])
        yield store("grey_alpha", two, **options), gray(most), alpha
        options = dict(photometric="minisblack", extrasamples=["unspecified"])
        yield store("grey_unspecified", two, **options), gray(most), None
        ink = np.dstack([rgb, gray(most) // 2])
        light = most - ink.astype(np.int64)
        shown = np.round(light[..., :3] * light[..., 3:] / most).astype(rgb.dtype)
        yield store("cmyk", ink, photometric="separated"), shown, None
    for compression in ("lzw", "packbits", "zstd", "lzma"):
        yield written(compression, gray(65535), compression=compression), gray(65535), None
    for predictor in (None, True):
        path = written("predictor", colour(65535), compression="zlib", predictor=predictor)
        yield path, colour(65535), None
    yield written("bigtiff", gray(255), bigtiff=True), gray(255), None
    # A palette, with 16 bits a colour or, as some write it, 8.
    palette = np.arange(256, dtype=np.uint16) * np.array([[1], [0], [0]]) + np.array(
        [[0], [7], [9]]
    )
    for scale in (1, 256):
        path = written(
            "palette", gray(255), photometric="palette", colormap=(palette * scale).astype("u2")
        )
        yield path, palette.T[gray(255)].astype(np.uint8), None


def png_files(folder):
    """As :func:`tiff_files`, of PNG."""
    number = itertools.count()
    for colour_type, channels, all_bits in (
        (0, 1, (1, 2, 4, 8, 16)),
        (2, 3, (8, 16)),
        (4, 2, (8, 16)),
        (6, 4, (8, 16)),
    ):
        for bits, keyed, animated in itertools.product(all_bits, (False, True), (False, True)):
            if keyed and channels in (2, 4):
                continue
            most = 2**bits - 1
            values = (colour if channels > 2 else gray)(most)
            if channels in (2, 4):
                values = np.dstack([values, gray(most)[:, ::-1]])
            shown = full(values[..., :3] if channels == 4 else values, most)
            alpha = full(values[..., -1], most) if channels in (2, 4) else None
            key = None
            if channels == 2:
                shown = shown[..., 0]
            if keyed:
                pixel = np.atleast_1d(values[2, 5])
                key = struct.pack(f">{len(pixel)}H", *pixel.tolist())
                opaque = (values.reshape(*X.shape, -1) != pixel).any(2)
                alpha = np.where(opaque, *np.array([np.iinfo(shown.dtype).max, 0], shown.dtype))
            path = (
                folder / f"{next(number):03}_type{colour_type}_{bits}{'_key' * keyed}{animated}.png"
            )
            png(path, values, bits, colour_type, key, animated)
            yield path, shown, alpha
    colours = bytes(range(48))
    for key in (None, bytes([0, 90])):
        path = folder / f"{next(number):03}_palette.png"
        png(path, gray(15), 4, 3, key, palette=colours)
        shown = np.frombuffer(colours, np.uint8).reshape(16, 3)[gray(15)]
        alpha = np.array([*(key or b""), *[255] * 14], np.uint8)[gray(15)] if key else None
        yield path, shown, alpha


def netpbm_files(folder):
    """As :func:`tiff_files`, of PGM and PPM."""
    for most in (15, 255, 1000, 4095, 65535):
        for letter, make in ((b"P5", gray), (b"P6", colour)):
            path = folder / f"{letter.decode()}_{most}.pnm"
            values = make(most).astype(np.uint8 if most < 256 else ">u2")
            path.write_bytes(letter + b"\n# seen\n28 20\n%d\n" % most + values.tobytes())
            yield path, full(make(most), most), None
    for most, make in itertools.product((255, 1000, 65535), (gray, colour)):
        path = folder / f"plain_{make.__name__}_{most}.pnm"
        numbers = " # seen\n".join(map(str, make(most).flatten().tolist()))
        path.write_text(f"P{2 if make is gray else 3} 28 20 {most}\n{numbers}\n")
        yield path, full(make(most), most), None


def lossless_files(folder):
    """As :func:`tiff_files`, of AVIF and JPEG 2000 of 8 bits and more."""
    for bits, kind in itertools.product((8, 10, 12, 16), ("avif", "jp2", "j2k")):
        if bits == 16 and kind == "avif":
            continue
        most = 2**bits - 1
        for channels in (1, 3, 4):
            values = np.dstack([colour(most), gray(most)[:, ::-1]])[..., :channels].squeeze()
            path = folder / f"{bits}bits_{channels}.{kind}"
            encode = imagecodecs.avif_encode if kind == "avif" else imagecodecs.jpeg2k_encode
            options = {} if kind == "avif" else dict(codecformat=kind)
            level = 100 if kind == "avif" else 0
            path.write_bytes(encode(values, level=level, bitspersample=bits, **options))
            shown = full(values[..., :3] if channels > 1 else values, most)
            yield path, shown, full(values[..., 3], most) if channels == 4 else None


def all_files(folder):
    """All of the above."""
    yield from tiff_files(folder)
    yield from png_files(folder)
    yield from netpbm_files(folder)
    yield from lossless_files(folder)
