"""Colorize pictures: files, folders with what is below them, and patterns.

python tools/colorize.py work_dirs/spynco_demo/epoch_10.pth old.jpg --out colored
python tools/colorize.py epoch_10.pth album/ 'scans/**/*.tif' --out colored --sheet colored.html
python tools/colorize.py epoch_10.pth album/ --out colored --working-size 512 --compare
python tools/colorize.py epoch_10.pth film.mp4 --out film_color.mp4
python tools/colorize.py --project grey.png colored_by_another_program.png --out colored

The results have exactly the grey of the pictures: only the chroma is the network's, or the other
program's. Every file's max |H_t(O) − I| is printed, in levels of 255.

Colour pictures are turned grey first. What is there already is left alone, so an interrupted run
goes on where it stopped. The exit status is 1 if any picture failed; they are listed at the end,
as is what differs from its source in more than colour, and what was not read. It is 1 as well if
a part of a film could not be read.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    import early

    early.start()

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from spynco_mm.apis import Colorizer
from spynco_mm.apis.film import CODECS, VIDEO_SUFFIXES
from spynco_mm.apis.hints import Hints, parse_hint
from spynco_mm.apis.jobs import Report, colorize_files
from spynco_mm.apis.pictures import OUTPUT_SUFFIXES, read_picture
from spynco_mm.apis.planning import left_out, plan
from spynco_mm.apis.projection import Colored, Projection
from spynco_mm.apis.sheet import ContactSheet
from spynco_mm.apis.video import colorize_video
from spynco_mm.datasets.images import unread
from spynco_mm.models import HandcraftedTranslation
from spynco_mm.utils.console import one_sentence_errors, printable


def film(text: str) -> "str | list[list[float]]":
    """The weights of H_t: a name, numbers, or rows of numbers with ; between them."""
    try:
        rows = [[float(number) for number in row.split(",")] for row in text.split(";")]
    except ValueError:
        return text
    return rows


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint",
        help="checkpoint file, which carries its config; with --project the picture that was "
        "colorized",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or pattern")
    parser.add_argument(
        "--project",
        action="store_true",
        help="INPUT is what another program made of the picture: give it that picture's grey",
    )
    parser.add_argument(
        "--raw", action="store_true", help="what the network makes, with whatever grey it has"
    )
    parser.add_argument(
        "--saturation",
        type=float,
        default=1.0,
        help="factor of the chroma, as far as it is in range; the grey stays (default: 1)",
    )
    parser.add_argument(
        "--film",
        type=film,
        metavar="WEIGHTS",
        help="what the pictures' grey is made of: a name, as orthochromatic, panchromatic+red or "
        "bt709, or weights, as 0.1,0.5,0.4 (default: the model's H_t; with --project bt601)",
    )
    parser.add_argument(
        "--hint",
        action="append",
        default=[],
        metavar="X,Y,#RRGGBB",
        help="colour of a pixel, kept, and spread up to the edges around it; can be repeated",
    )
    parser.add_argument(
        "--hints", metavar="FILE", help="strokes of colour, a picture that is transparent elsewhere"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="for the results; of a film the file"
    )
    parser.add_argument(
        "--codec",
        choices=list(CODECS),
        help="of a film; the last two lose nothing (default: libx264)",
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        metavar="SHARE",
        help="what a film's colours keep of the last frame where nothing moves, from 0 to below 1 "
        "(default: 0.8)",
    )
    parser.add_argument("--config", help="config file, instead of the one in the checkpoint")
    parser.add_argument(
        "--output", default="1", help="1 (the final output), 2, 3, ..., or all (default: 1)"
    )
    parser.add_argument(
        "--working-size",
        type=int,
        metavar="PIXELS",
        help="colorize a copy whose longer side is reduced to this, and apply its chroma at full "
        "resolution",
    )
    parser.add_argument(
        "--format",
        choices=sorted({suffix[1:] for suffix in OUTPUT_SUFFIXES}),
        help="of the results (default: as the source; PNG where that cannot hold colour)",
    )
    parser.add_argument("--compare", action="store_true", help="also write grey | colour")
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="also write where the outputs of the pyramid disagree: the brighter, the less sure",
    )
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="contact sheet, .html or .png")
    parser.add_argument("--overwrite", action="store_true", help="do again what is there")
    parser.add_argument(
        "--keep-color", action="store_true", help="refuse colour pictures (they count as failed)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: the GPU if there is one)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures of one size at once")
    parser.add_argument("--workers", type=int, help="threads that read and write")
    parser.add_argument(
        "--memory",
        type=float,
        metavar="GIB",
        help="for the network's activations; larger pictures are tiled (default: 2 on the CPU)",
    )
    args = parser.parse_args()
    args.given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    return args


#: Options that a network is needed for, and those that have no meaning for films.
OF_NETWORKS = (
    "config", "raw", "output", "working_size", "device", "batch_size", "memory", "confidence",
)  # fmt: skip
OF_PICTURES = (
    "project", "raw", "hint", "hints", "format", "compare", "confidence", "sheet", "keep_color",
    "workers",
)  # fmt: skip


def first_given(args: argparse.Namespace, names: "tuple[str, ...]") -> "str | None":
    """The first of some options that is not at its default, as it is written; None if all are."""
    return next((f"--{n.replace('_', '-')}" for n in names if n in args.given), None)


def is_film(name: "str | Path") -> bool:
    """Whether a file counts as one, by its name."""
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def colorize_film(args: argparse.Namespace, colorizer: Colorizer) -> bool:
    """Do what the command line says of a film; returns whether a part of it could not be read."""
    options = {name: getattr(args, name) for name in ("codec", "smoothing")}
    given = {name: value for name, value in options.items() if value is not None}
    there = args.out.exists() and not args.overwrite
    report = colorize_video(colorizer, args.inputs[0], args.out, overwrite=args.overwrite, **given)
    if there:
        print(f"{printable(args.out)} is there already:")
    damage = report.pop("damage")
    for name, value in report.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    sys.stdout.flush()
    for what in damage:
        print(f"DAMAGED {printable(args.inputs[0])}: {what}", file=sys.stderr)
    return bool(damage)


def check_film(args: argparse.Namespace) -> None:
    """Refuse what does not go with a film."""
    if option := first_given(args, OF_PICTURES):
        raise ValueError(f"{option} is for pictures, not films; leave it out.")
    if len(args.inputs) != 1 or not is_film(args.out):
        raise ValueError(
            "A film is colorized by itself, and --out names the file, such as film_color.mp4; got "
            f"{', '.join(args.inputs)} and --out {args.out}."
        )


def another_programs_work(args: argparse.Namespace) -> Colored:
    """What takes the colorizer's place with ``--project``."""
    if option := first_given(args, OF_NETWORKS):
        raise ValueError(f"--project runs no network, so {option} has no effect; leave it out.")
    if len(args.inputs) != 1 or not all(map(os.path.isfile, [args.checkpoint, *args.inputs])):
        raise ValueError(
            "--project takes two picture files, the one that was colorized and the result; got "
            f"{', '.join([args.checkpoint, *args.inputs])}."
        )
    projection = Projection(HandcraftedTranslation(args.film or "bt601"), args.saturation)
    return Colored(read_picture(args.inputs[0]), projection)


def colorize(args: argparse.Namespace) -> bool:
    """Do what the command line says; returns whether anything of it failed."""
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}.")
    if args.memory is not None and not 0 < args.memory < float("inf"):
        raise ValueError(f"--memory must be positive, got {args.memory}.")
    if args.output != "all" and not args.output.isdigit():
        raise ValueError(f"--output is a number or 'all', not '{args.output}'.")
    if args.confidence and args.output not in ("1", "all"):
        raise ValueError("--confidence goes with --output 1 or all; leave one of them out.")
    film = any(map(is_film, args.inputs))
    if film:
        check_film(args)
    elif args.codec or args.smoothing is not None:
        raise ValueError("--codec and --smoothing are for films; leave them out.")
    sheet = ContactSheet(args.sheet) if args.sheet else None
    if args.project:
        colorizer, inputs = another_programs_work(args), [args.checkpoint]
    else:
        inputs = args.inputs
        colorizer = Colorizer(
            args.config or args.checkpoint,
            args.checkpoint if args.config else None,
            film=args.film,
            device=args.device,
            raw=args.raw,
            saturation=args.saturation,
            output="all" if args.confidence or args.output == "all" else int(args.output),
            working_size=args.working_size,
            memory=None if args.memory is None else int(args.memory * 2**30),
            batch_size=args.batch_size,
        )
        if film:
            return colorize_film(args, colorizer)
        if colorizer.translation.in_channels != 3 and (
            args.compare or args.sheet or args.confidence
        ):
            raise ValueError(
                "--compare, --sheet and --confidence are for red, green and blue, which this "
                "network does not make; leave them out."
            )
        if args.confidence and len(colorizer.outputs) < 2:
            raise ValueError(
                "--confidence compares outputs, but this network has one; leave it out."
            )
    suffix = f".{args.format}" if args.format else None
    hints = None
    if args.hint or args.hints:
        if args.raw:
            raise ValueError("--raw leaves out the projection, which hints need; leave one out.")
        hints = Hints.points(parse_hint(hint) for hint in args.hint)
        if args.hints:
            hints += Hints.strokes(read_picture(args.hints))
    outputs = [int(args.output)] if args.confidence and args.output == "1" else colorizer.outputs
    keep = [Path(f) for f in (args.hints, *(args.inputs if args.project else ())) if f]
    jobs = plan(inputs, args.out, outputs, suffix, args.compare, args.confidence, keep)
    if hints and len(jobs) > 1:
        raise ValueError(
            f"--hint and --hints belong to one picture, but there are {len(jobs)}; name that alone."
        )
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=args.out).close()
    except OSError as error:
        raise ValueError(
            f"--out {args.out} cannot be written to ({error.strerror}); name another folder."
        ) from error
    if sheet:
        sheet.check(jobs, keep)
        parents, folders = sheet.path.resolve().parents, filter(os.path.isdir, inputs)
        among = any(Path(folder).resolve() in parents for folder in folders)
        if among and args.out.resolve() not in parents and sheet.path.suffix != ".html":
            raise ValueError(
                f"--sheet {args.sheet} lies among the pictures, and would be one of them the next "
                "time; name a file in another folder."
            )
    report = colorize_files(
        colorizer,
        jobs,
        workers=args.workers,
        overwrite=args.overwrite,
        keep_color=args.keep_color,
        show=sheet.add if sheet else None,
        hints=hints,
    )
    print_report(report, len(jobs))
    if unseen := left_out(inputs, args.out):
        print(unread(unseen))
    if sheet:
        sheet.save(jobs, report)
    return bool(report.failed or report.stopped)


def print_report(report: Report, planned: int) -> None:
    """Say what became of the pictures."""
    if report.stopped:
        for job in report.done:
            print(f"done: {printable(job.source)}")
    print(
        f"{len(report.done)} done, {len(report.skipped)} already there, "
        f"{len(report.failed)} failed: {report.megapixels:.2f} megapixels in {report.seconds:.1f} "
        f"s, {report.megapixels_per_second:.2f} megapixels/s, "
        f"{report.share_outside_network:.0%} of the time outside the network."
    )
    sources: dict = {}
    for job, note in report.notes.items():
        sources.setdefault(note, []).append(printable(job.source))
    for note, names in sources.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(f"{names[0]}{others}: {note}")
    for file, error in report.grey_errors.items():
        print(f"{printable(file)}: max |H_t(O) − I| = {error:.3f}")
    for file, spread in report.disagreements.items():
        print(f"{printable(file)}: the outputs differ by {spread:.2f} ΔE on average")
    sys.stdout.flush()
    for job, reason in report.failed.items():
        print(f"FAILED {printable(job.source)}: {printable(reason)}", file=sys.stderr)
    if report.stopped:
        rest = planned - len(report.done) - len(report.skipped) - len(report.failed)
        print(
            f"STOPPED ({report.stopped}): {rest} pictures were not tried; the same command goes on "
            "once that is mended.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    with one_sentence_errors("the same command does the rest"):
        sys.exit(bool(colorize(parse_args())))
