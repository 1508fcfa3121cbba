"""Configs of ours by name, wherever mmengine takes the name of one."""

import pytest
from mmengine import hub
from mmengine.config import Config

from spynco_mm import compat_names

HERE = "spynco_mm::spynco_demo.py"


def test_a_base_by_name_is_the_base_by_path(tmp_path):
    text = f"_base_ = ['{HERE}']\nlog_level = 'ERROR'\nbase = _base_.model.type\n"
    (tmp_path / "mine.py").write_text(text)
    mine = Config.fromfile(tmp_path / "mine.py", import_custom_modules=False)
    there = Config.fromfile(compat_names.ROOT / "configs" / "spynco_demo.py")
    assert mine.pop("log_level") == "ERROR" and mine.pop("base") == "SpyncoGAN"
    there.pop("log_level")
    assert mine.to_dict() == there.to_dict()
    # A folder more, and mmagic's as ever.
    (tmp_path / "more.py").write_text("_base_ = ['spynco_mm::ablations/spynco_l1_cezanne.py']")
    assert Config.fromfile(tmp_path / "more.py").model.identity_loss.weights == (5, 0, 0)
    (tmp_path / "theirs.py").write_text("_base_ = ['mmagic::_base_/gen_default_runtime.py']")
    assert Config.fromfile(tmp_path / "theirs.py").default_scope == "mmagic"


def test_a_name_that_is_none(tmp_path):
    (tmp_path / "mine.py").write_text("_base_ = ['spynco_mm::spynco_dem.py']")
    with pytest.raises(FileNotFoundError, match=r"no config 'spynco_mm::spynco_dem.py'; near it "
                       r"are spynco_mm::spynco_demo\.py"):  # fmt: skip
        Config.fromfile(tmp_path / "mine.py")


def test_hub():
    assert hub.get_config("spynco_mm::spynco_demo").model.generator.base_channels == 24
    assert type(hub.get_model(HERE)).__name__ == "SpyncoGAN"
    with pytest.raises(ValueError, match=r"no weights of spynco_mm::spynco_demo\.py to download"):
        hub.get_model(HERE, pretrained=True)
    assert not compat_names.find_configs_by_name(), "there is nothing left to do"
