"""Make the photographs of docs/results.md's earlier, smaller study, out of five Debian packages.

    apt-get download gcompris-qt-data lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 \\
        mate-backgrounds plasma-workspace-wallpapers
    for deb in *.deb; do dpkg-deb -x "$deb" debs; done
    python tools/reproduction/photographs.py debs data/photographs

Three classes, one file per photograph, its shorter side reduced to 144 pixels.
"""

import io
import sys
from pathlib import Path

from PIL import Image

#: Qt resource files of GCompris hold whole WebP pictures; the small ones are no photographs.
GCOMPRIS = {
    "monuments": ["explore_monuments"],
    "animals": ["explore_farm_animals", "explore_world_animals", "erase"],
}
NATURE = {
    "usr/share/backgrounds": """Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly
        Picture_0B_by_freespace aitzgorri_by_Aitzol_Berasategi Kleiber_by_Lukas_Baubkus
        life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi
        seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi""",
    "usr/share/backgrounds/mate/nature": """Aqua Blinds Dune FreshFlower Garden GreenMeadow LadyBird
        RainDrops Storm TwoWings YellowFlower""",
    "usr/share/wallpapers": """BytheWater ColdRipple EveningGlow FallenLeaf Kite OneStandsOut Path
        summer_1am""",
}


def webp_pictures(data: bytes, min_side: int):
    """The WebP pictures inside a file, in the order of their offsets."""
    start = -1
    while (start := data.find(b"RIFF", start + 1)) >= 0:
        if data[start + 8 : start + 12] == b"WEBP":
            size = int.from_bytes(data[start + 4 : start + 8], "little") + 8
            picture = Image.open(io.BytesIO(data[start : start + size]))
            if min(picture.size) >= min_side:
                yield picture


def save(picture: Image.Image, path: Path, short_side: int = 144) -> None:
    """Reduce a picture and write it as PNG."""
    picture = picture.convert("RGB")
    scale = short_side / min(picture.size)
    size = tuple(round(side * scale) for side in picture.size)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize(size, Image.Resampling.BICUBIC).save(path)


def main(debs: Path, out: Path) -> None:
    for kind, resources in GCOMPRIS.items():
        for resource in resources:
            data = (debs / "usr/share/gcompris-qt/rcc" / f"{resource}.rcc").read_bytes()
            for index, picture in enumerate(webp_pictures(data, min_side=300)):
                save(picture, out / kind / f"{resource}_{index:02d}.png")
    for folder, names in NATURE.items():
        for name in names.split():
            found = [
                *(debs / folder).glob(f"{name}.jpg"),
                *(debs / folder / name).rglob("2560x1600.jpg"),
            ]
            with Image.open(found[0]) as picture:
                save(picture, out / "nature" / f"{name}.png")
    for folder in sorted(out.iterdir()):
        print(f"{folder.name}: {len(list(folder.glob('*.png')))} photographs")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
