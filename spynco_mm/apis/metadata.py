"""What picture files say beside the pixels: what is read of it, and which format can hold it.

A picture's metadata is a dict with those of these that its file has:

- ``exif``: EXIF as Pillow's ``save`` takes it, with its directories and without the orientation,
  which has been applied, and the small picture, which would still be grey.
- ``icc_profile``: A colour profile for RGB; one for grey or CMYK says nothing about the result.
- ``dpi``: The resolution in both directions.
- ``xmp``, ``iptc``: Bytes, XMP with an orientation of 1, for the same reason.
- ``comment``: Bytes, of JPEG and GIF.
- ``text``: A dict, of PNG.

What cannot be read or written costs a sentence in the picture's note, never the picture.
"""

import re
import struct
from pathlib import Path

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from spynco_mm.datasets.picture import ORIENTATION

#: EXIF's, GPS' and the interoperability directory.
DIRECTORIES = (34665, 34853, 40965)
#: Text fields of a TIFF file that describe the picture.
DESCRIPTIVE_TAGS = (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432)
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
#: Those that say how a TIFF file is stored, what is kept by other ways, and Photoshop's layers.
STORAGE_TAGS = {
    *range(254, 269), *range(273, 285), *range(286, 294), 296, 297, 301, *range(317, 326), 330,
    *range(332, 348), *range(512, 522), *range(529, 533), 559, XMP, IPTC, PHOTOSHOP, ICC, 37724,
    *DIRECTORIES,
}  # fmt: skip

#: What a format has a place for.
HOLDS = {
    ".jpg": ("exif", "icc_profile", "dpi", "xmp", "iptc", "comment"),
    ".png": ("exif", "icc_profile", "dpi", "xmp", "comment", "text"),
    ".tif": ("exif", "icc_profile", "dpi", "xmp", "iptc"),
    ".webp": ("exif", "icc_profile", "xmp"),
}
WORDS = {
    "exif": "EXIF",
    "icc_profile": "colour profile",
    "dpi": "resolution",
    "xmp": "XMP",
    "iptc": "IPTC",
    "comment": "comment",
    "text": "text",
}
#: JPEG's segments hold 64 KiB, from which their headers go.
JPEG_SEGMENT = 65_000


def _name(tag: int) -> str:
    return str(ExifTags.TAGS.get(tag, tag))


def _can_be_written(exif: Image.Exif) -> bool:
    try:
        exif.tobytes()
    except Exception:  # It raises whatever wrong types and numbers make it raise.
        return False
    return True


def _exif_bytes(fields: dict, notes: "list[str]") -> bytes | None:
    """EXIF of tags and values, a directory being a dict, without those that cannot be written."""

    def of(values: dict) -> Image.Exif:
        exif = Image.Exif()
        for tag, value in values.items():
            exif[tag] = value
        return exif

    if not _can_be_written(of(fields)):
        bad, kept = [], {}
        for tag, value in fields.items():
            if isinstance(value, dict):
                inside = {k: v for k, v in value.items() if _can_be_written(of({tag: {k: v}}))}
                bad += [_name(k) for k in value if k not in inside]
                value = inside
            if _can_be_written(of({tag: value})):
                kept[tag] = value
            else:
                bad.append(_name(tag))
        fields = kept
        notes.append(f"EXIF without {', '.join(bad)}, damaged")
    return of(fields).tobytes() if fields else None


def _profile(profile: bytes | None, notes: "list[str]") -> dict:
    if not profile:
        return {}
    if profile[16:20] != b"RGB ":
        kind = profile[16:20].decode("latin-1").strip()
        why = f"which is for {kind}" if kind.isalnum() else "damaged"
        notes.append(f"without its colour profile, {why}")
        return {}
    return {"icc_profile": bytes(profile)}


def _upright(xmp: bytes) -> bytes:
    """XMP, as an attribute or an element of which the orientation may be, after it was applied."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8]", rb"\g<1>1", xmp)


def _resolution(values: tuple, unit: float, notes: "list[str]") -> dict:
    try:
        dpi = tuple(float(value) * unit for value in values)
    except (TypeError, ValueError, ZeroDivisionError):
        dpi = ()
    if len(dpi) == 2 and all(0 < value < 1e6 for value in dpi):
        return {"dpi": dpi}
    if any(values):
        notes.append("without its resolution, damaged")
    return {}


def metadata_of(image: Image.Image) -> "tuple[dict, list[str]]":
    """The metadata of a decoded Pillow image, and what of it cannot be kept, in words."""
    notes: list[str] = []
    info = image.info
    metadata = _profile(info.get("icc_profile"), notes)
    try:
        exif = image.getexif()
        fields = {tag: value for tag, value in exif.items() if tag not in (ORIENTATION, XMP)}
        for tag in DIRECTORIES[:2]:
            if tag in fields:
                fields[tag] = dict(exif.get_ifd(tag))
        exif_fields = fields.get(DIRECTORIES[0])
        if exif_fields and DIRECTORIES[2] in exif_fields:
            exif_fields[DIRECTORIES[2]] = dict(exif.get_ifd(DIRECTORIES[2]))
        if content := _exif_bytes(fields, notes):
            metadata["exif"] = content
    except Exception:  # A damaged block raises whatever is wrong with it.
        notes.append("without its EXIF, damaged")
    if "dpi" in info:
        metadata |= _resolution(info["dpi"], 1, notes)
    photoshop = info.get("photoshop")
    for key, value in (
        ("xmp", info.get("xmp")),
        ("iptc", photoshop.get(0x0404) if isinstance(photoshop, dict) else None),
        ("comment", info.get("comment")),
    ):
        if value:
            metadata[key] = value.encode() if isinstance(value, str) else bytes(value)
    if "xmp" in metadata:
        metadata["xmp"] = _upright(metadata["xmp"])
    if image.format == "PNG":
        raw = "Raw profile type "
        # Of these, where ImageMagick keeps what PNG had no place for, Pillow reads EXIF.
        profiles = [key.removeprefix(raw) for key in image.text if key.startswith(raw)]
        if others := sorted({*profiles} - {"exif", "APP1"}):
            notes.append(f"without the raw profiles {', '.join(others)} in its text")
        gamma = info.get("gamma")
        if gamma and not {"srgb", "icc_profile"} & {*info} and abs(gamma - 0.45455) > 0.01:
            notes.append(f"without its gamma of {gamma:g}")
        text = {
            key: str(value)
            for key, value in image.text.items()
            if key != "XML:com.adobe.xmp" and not key.startswith(raw)
        }
        if text:
            metadata["text"] = text
    return metadata, notes


def metadata_of_tiff(path: Path) -> "tuple[dict, list[str]]":
    """As :func:`metadata_of`, of a TIFF file's first picture."""
    notes: list[str] = []
    with open(path, "rb") as file:
        try:
            fields, get = _tiff_fields(file)
        except Exception:  # A damaged directory raises whatever is wrong with it.
            return {}, ["without its metadata, damaged"]
    metadata = _profile(get(ICC), notes)
    if content := _exif_bytes(fields, notes):
        metadata["exif"] = content
    unit = {2: 1, 3: 2.54}.get(get(296, 2))
    if unit and get(282) and get(283):
        metadata |= _resolution((get(282), get(283)), unit, notes)
    metadata.update({k: get(tag) for k, tag in (("xmp", XMP), ("iptc", IPTC)) if get(tag)})
    if "xmp" in metadata:
        metadata["xmp"] = _upright(metadata["xmp"])
    others = sorted(get.tags - STORAGE_TAGS - set(DESCRIPTIVE_TAGS))
    if others:
        notes.append(f"without the TIFF tags {', '.join(map(_name, others))}")
    return metadata, notes


def _tiff_fields(file) -> tuple:
    """The fields for EXIF of an open TIFF file, and a function for the values of others."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    (first,) = (
        struct.unpack(order + "Q", head[8:]) if big else struct.unpack(order + "I", head[4:8])
    )

    def directory(offset: int, group: int | None = None) -> ImageFileDirectory_v2:
        # Pillow does not see that it is BigTIFF where the high byte comes first.
        ifd = ImageFileDirectory_v2(head if big and order == "<" else head[:8], group=group)
        ifd._bigtiff = big
        file.seek(offset)
        ifd.load(file)
        return ifd

    main = directory(first)
    fields = {tag: main[tag] for tag in DESCRIPTIVE_TAGS if tag in main}
    for tag in DIRECTORIES[:2]:
        if tag in main:
            fields[tag] = dict(directory(main[tag], tag))
            below = fields[tag].get(DIRECTORIES[2])
            if below:
                fields[tag][DIRECTORIES[2]] = dict(directory(below, DIRECTORIES[2]))

    def get(tag: int, default=None):
        value = main.get(tag, default)
        if tag == IPTC and isinstance(value, tuple):  # bytes that pretend to be numbers
            value = struct.pack(f"{order}{len(value)}L", *value)
        return value[0] if isinstance(value, tuple) else value

    get.tags = set(main)
    return fields, get


def for_format(metadata: dict, suffix: str) -> "tuple[dict, list[str]]":
    """The part of the metadata that a format has a place for, and what is left out, in words.

    Args:
        metadata: See the module.
        suffix: A key of :data:`HOLDS`.
    """
    kept = {key: value for key, value in metadata.items() if key in HOLDS[suffix]}
    if suffix == ".jpg":
        kept = {
            key: value
            for key, value in kept.items()
            if key in ("icc_profile", "dpi") or len(value) < JPEG_SEGMENT
        }
    notes = [
        f"without its {WORDS[key]}, for which {suffix[1:].upper()} has no place"
        for key in metadata
        if key not in kept
    ]
    if suffix == ".tif" and "exif" in kept:
        exif = Image.Exif()
        exif.load(kept["exif"])
        others = sorted({*exif} - STORAGE_TAGS - {*DESCRIPTIVE_TAGS})
        if others:
            notes.append(f"without the EXIF tags {', '.join(map(_name, others))}")
    return kept, notes
