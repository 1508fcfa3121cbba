"""Films through PyAV: frames as they are shown, time stamps and sound as they are."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from spynco_mm.datasets.images import DataError

#: File names that count as films.
VIDEO_SUFFIXES = (
    ".avi",
    ".m4v",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".webm",
)
#: The pixels that each codec gets, and its settings.
CODECS = {
    "libx264": ("yuv420p", {"crf": "16"}),
    "libx264rgb": ("rgb24", {"qp": "0"}),
    "ffv1": ("bgr0", {}),
}


def pyav() -> Any:
    """The library.

    Raises:
        DataError: It is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError(
            "films are read and written with the extra PyAV; pip install 'av>=17'."
        ) from error
    return av


def address(path: Path) -> str:
    """A file as FFmpeg takes it, which would read a name with a colon as a protocol."""
    return f"file:{path}"


def _to_rgb(av: Any, stream: Any) -> Any:
    """A graph that turns frames into RGB. Without these flags FFmpeg rounds the grey down."""
    graph = av.filter.Graph()
    parts = [
        graph.add_buffer(template=stream),
        graph.add("scale", "flags=accurate_rnd+full_chroma_int+bicubic"),
        graph.add("format", "pix_fmts=rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*parts).configure()
    return graph


def _decoded(film: Any, stream: Any, damage: "list[str]") -> Iterator[Any]:
    """The frames of a stream that can be decoded, and in words what there is beside them."""
    av, bad, end = pyav(), [], 0
    for packet in film.demux():  # of all streams, since the longest says how long the film is
        if packet.stream is stream:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                frames = None
            if frames is None or packet.is_corrupt or any(frame.is_corrupt for frame in frames):
                bad.append(float(end))
            yield from frames or ()
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    if bad:
        damage.append(f"damaged packets of its pictures: {len(bad)}, the first at {bad[0]:.1f} s")
    whole = (film.duration or 0) / av.time_base
    if end < whole - 1:
        damage.append(f"it says that it has {whole:.1f} s, but ends after {float(end):.1f}")


def read_frames(
    path: Path, damage: "list[str] | None" = None
) -> "Iterator[tuple[int, np.ndarray]]":
    """The frames of a film's first video stream, as they are shown.

    Args:
        path: The film.
        damage: Gets, in words, what of the film cannot be read, once all is.

    Yields:
        The time stamp, which increases, in the stream's unit, and the pixels, H×W×3 bytes.

    Raises:
        DataError: There is no picture, or the size changes.
    """
    av = pyav()
    with av.open(address(path)) as film:
        if not film.streams.video or film.streams.video[0].codec_context.pix_fmt is None:
            raise DataError(f"{path} has no frame that can be read; name another film.")
        stream = film.streams.video[0]
        # Threads that decode a frame each would lose those after a damaged one.
        stream.thread_type = "SLICE"
        last, step, graph, size = None, 1, _to_rgb(av, stream), (stream.width, stream.height)
        if stream.average_rate:
            step = max(round(1 / (stream.average_rate * stream.time_base)), 1)
        for frame in _decoded(film, stream, [] if damage is None else damage):
            stamp = frame.pts
            if stamp is None:
                stamp = 0 if last is None else last + step
            last = stamp if last is None else max(stamp, last + 1)
            if (frame.width, frame.height) != size:
                raise DataError(
                    f"{path} has frames of {'×'.join(map(str, size))} and then of {frame.width}×"
                    f"{frame.height} pixels; cut it in two."
                )
            turns = frame.rotation // 90
            graph.push(frame)
            yield last, np.ascontiguousarray(np.rot90(graph.pull().to_ndarray(), turns))


class Encoder:
    """Writes frames to a part.

    No frame is described by later ones (B-frames): parts then follow each other in any time stamps.

    Args:
        path: The part.
        codec: Of :data:`CODECS`.
        size: Width and height.
        stream: The film's, for its times and the shape of its pixels.
        bt709: Whether luma is that of BT.709, and not of BT.601.
    """

    def __init__(self, path, codec, size, stream, bt709: bool):
        self.av = pyav()
        self.file = self.av.open(address(path), "w", format="nut")
        pixels, options = CODECS[codec]
        if pixels == "yuv420p" and any(side % 2 for side in size):
            pixels = "yuv444p"
        rate = stream.average_rate or Fraction(25)
        self.stream = self.file.add_stream(codec, rate=rate, options=dict(options))
        self.stream.width, self.stream.height = size
        self.stream.pix_fmt = pixels
        context = self.stream.codec_context
        context.time_base = self.time_base = stream.time_base
        context.max_b_frames = 0
        shape = stream.sample_aspect_ratio
        if shape:
            turned = size != (stream.width, stream.height)
            context.sample_aspect_ratio = 1 / shape if turned else shape
        self.space = None
        if pixels.startswith("yuv"):
            # So that luma is the grey of H_t, and halving the chroma does not touch it.
            context.colorspace = 1 if bt709 else 6
            context.color_range = 1
            self.space = "ITU709" if bt709 else "ITU601"

    def add(self, pixels: np.ndarray, stamp: int) -> None:
        """Write the next frame, H×W×3."""
        frame = self.av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if self.space:
            frame = frame.reformat(
                format=self.stream.pix_fmt,
                dst_colorspace=self.space,
            )
        frame.pts, frame.time_base = stamp, self.time_base
        self.file.mux(self.stream.encode(frame))

    def close(self) -> None:
        """End the file."""
        self.file.mux(self.stream.encode())
        self.file.close()


def can_be_read(path: Path) -> bool:
    """Whether a film that was written has a frame."""
    try:
        return next(read_frames(path), None) is not None
    except (DataError, pyav().FFmpegError):
        return False


def join(
    parts: Sequence[Path], source: Path, target: Path, sound_packets: int | None = None
) -> int:
    """Write the parts, and the sound of the source.

    Args:
        parts: In their order, one at least.
        source: The film that they were made of.
        target: The result.
        sound_packets: How much of the sound; None for all.

    Returns:
        How many packets of sound are lost.
    """
    av = pyav()
    with ExitStack() as stack:
        film = stack.enter_context(av.open(address(source)))
        first = stack.enter_context(av.open(address(parts[0])))
        out = stack.enter_context(av.open(address(target), "w"))
        out.metadata.update(film.metadata)
        video = out.add_stream_from_template(first.streams.video[0])
        video.time_base = film.streams.video[0].time_base
        sound = {s.index: out.add_stream_from_template(s) for s in film.streams.audio}

        def pictures() -> Iterator[Any]:
            for path in parts:
                with av.open(address(path)) as part:
                    for packet in part.demux(video=0):
                        if packet.dts is not None:
                            packet.stream = video
                            yield packet

        def sounds() -> Iterator[Any]:
            for packet in film.demux(*film.streams.audio) if sound else ():
                if packet.dts is not None:
                    packet.stream = sound[packet.stream.index]
                    yield packet

        lost = 0
        heard = islice(sounds(), sound_packets)
        for packet in heapq.merge(pictures(), heard, key=lambda p: p.dts * p.time_base):
            try:
                out.mux(packet)
            except av.FFmpegError as error:
                if packet.stream is video or isinstance(error, OSError):
                    raise
                lost += 1
    return lost
