"""Where mmengine and mmagic know packages and models by a list of names: ours is added to each."""

import difflib
import functools
from pathlib import Path

PACKAGE = "spynco_mm"
#: Where the configs and the model index are: ``.mim`` of an installed package, else the clone.
MIM = Path(__file__).parent / ".mim"
ROOT = MIM if (MIM / "configs").is_dir() else MIM.parents[1]


def config_path(name: str) -> Path:
    """The file of a config of ours.

    Args:
        name: ``spynco_mm::`` and a path in ``configs``, with or without ``.py``.

    Raises:
        FileNotFoundError: There is none.
    """
    configs = ROOT / "configs"
    path = configs / name.partition("::")[2]
    path = path if path.suffix == ".py" else path.with_name(f"{path.name}.py")
    if not path.is_file():
        names = [f"{PACKAGE}::{file.relative_to(configs)}" for file in configs.rglob("*.py")]
        close = difflib.get_close_matches(name, names, n=3) or sorted(names)[:3]
        raise FileNotFoundError(f"There is no config '{name}'; near it are {', '.join(close)}.")
    return path


def find_configs_by_name() -> bool:
    """Let ``spynco_mm::...`` name a config of ours, as ``mmagic::...`` does one of mmagic's.

    In ``_base_``, in ``mmengine.hub`` and in ``list_models``; mmengine's list of packages is fixed
    (``MODULE2PACKAGE``). Can go when mmengine looks for any package.
    """
    from mmengine import hub
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.registry import MODELS, DefaultScope

    if PACKAGE in MODULE2PACKAGE:
        return False
    MODULE2PACKAGE[PACKAGE] = PACKAGE
    their_path, their_config, their_model = Config._get_cfg_path, hub.get_config, hub.get_model

    def ours(name: object) -> bool:
        return isinstance(name, str) and name.startswith(f"{PACKAGE}::")

    def get_cfg_path(cfg_path, filename):
        if not ours(cfg_path):
            return their_path(cfg_path, filename)
        # No scope, as of a base in the same folder: what is ours is registered in mmagic's.
        return str(config_path(cfg_path)), None

    @functools.wraps(their_config)
    def get_config(cfg_path, pretrained=False):
        if not ours(cfg_path):
            return their_config(cfg_path, pretrained)
        if pretrained:
            raise ValueError(f"There are no weights of {cfg_path} to download; train it.")
        return Config.fromfile(config_path(cfg_path))

    @functools.wraps(their_model)
    def get_model(cfg_path, pretrained=False, **kwargs):
        if not ours(cfg_path):
            return their_model(cfg_path, pretrained, **kwargs)
        with DefaultScope.overwrite_default_scope("mmagic"):
            return MODELS.build(get_config(cfg_path, pretrained).model, default_args=kwargs)

    Config._get_cfg_path = staticmethod(get_cfg_path)
    for place in (hub, hub.hub):
        place.get_config, place.get_model = get_config, get_model
    return True
