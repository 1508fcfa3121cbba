"""What a checkpoint may hold, and what happens when a stranger made it."""

import re
import time

import pytest
import torch
from mmagic.registry import MODELS
from mmengine.config import Config

from spynco_mm.apis import CheckpointError, Colorizer
from spynco_mm.apis.inferencer import checkpoint_config
from spynco_mm.apis.loading import load_colorization


def saved(content, path):
    torch.save(content, path)
    return path


def with_config(tiny_checkpoint, path, edit):
    """The checkpoint with another text of its config."""
    content = torch.load(tiny_checkpoint, weights_only=True)
    content["meta"]["cfg"] = edit(content["meta"]["cfg"])
    return saved(content, path)


def with_generator(tiny_checkpoint, path, **changes):
    """The checkpoint with other arguments of its generator."""

    def edit(text):
        cfg = Config.fromstring(text, ".py")
        cfg.model.generator.update(changes)
        return "model = " + repr(cfg.model.to_dict())

    return with_config(tiny_checkpoint, path, edit)


# ------------------------------------------------------------------------------------ honest ones


def test_a_runners_checkpoint_gives_its_generator(tiny_checkpoint):
    content = torch.load(tiny_checkpoint, weights_only=True)
    cfg = Config.fromstring(content["meta"]["cfg"], ".py")
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(content["state_dict"])

    loaded = load_colorization(tiny_checkpoint)
    image = torch.rand(2, 1, 24, 32) * 2 - 1
    with torch.no_grad():
        for ours, theirs in zip(
            loaded.generator(image.expand(-1, 3, -1, -1)), model.pyramid(image), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert (loaded.mean, loaded.std, loaded.bgr) == (127.5, 127.5, False)
    assert not any(p.requires_grad for p in loaded.generator.parameters())


def test_a_config_of_the_new_style(tiny_checkpoint, tmp_path):
    """In its text are the paths of the classes that the config has."""
    path = with_config(
        tiny_checkpoint,
        tmp_path / "new.pth",
        lambda text: re.sub(r"type=\s*'(Spynco|Exact|Handcr)", r"type='spynco_mm.models.\1", text),
    )
    assert "type='spynco_mm.models.SpyncoGAN'" in torch.load(path)["meta"]["cfg"]
    gray = torch.rand(1, 20, 20)
    want = Colorizer(tiny_checkpoint, device="cpu")(gray)
    assert torch.equal(Colorizer(path, device="cpu")(gray), want)
    assert checkpoint_config(str(path)).model.generator.type == "SpyncoGenerator"


def test_mmagics_cyclegan(tmp_path):
    generator = dict(type="ResnetGenerator", in_channels=3, out_channels=3, base_channels=4)
    generator.update(num_blocks=1, init_cfg=dict(type="normal", gain=0.02))
    model = dict(
        type="CycleGAN",
        default_domain="color",
        reachable_domains=["color", "gray"],
        related_domains=["color", "gray"],
        generator=generator,
        discriminator=dict(type="PatchDiscriminator", in_channels=3, base_channels=4),
        data_preprocessor=dict(type="DataPreprocessor", mean=127.5, std=127.5),
    )
    cyclegan = MODELS.build(model).eval()
    cyclegan.init_weights()
    content = dict(meta=dict(cfg=f"model = {model}"), state_dict=cyclegan.state_dict())
    colorize = Colorizer(saved(content, tmp_path / "cyclegan.pth"), device="cpu", raw=True)

    gray = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        bgr = cyclegan.generators["color"]((gray * 2 - 1).expand(-1, 3, -1, -1))
    torch.testing.assert_close(colorize(gray), bgr.flip(1) / 2 + 0.5, rtol=0, atol=1e-5)
    assert colorize.num_outputs == 1
    with pytest.raises(ValueError, match="working size, or allow more memory"):
        Colorizer(tmp_path / "cyclegan.pth", device="cpu", memory=1)(torch.rand(1, 64, 64))


def test_a_config_of_ones_own_is_executed(tiny_checkpoint, tmp_path):
    content = torch.load(tiny_checkpoint, weights_only=True)
    text = content["meta"].pop("cfg")
    bare = saved(content, tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match="no config in it; name the config"):
        Colorizer(bare)
    config = tmp_path / "config.py"
    config.write_text(text + "\nwidth = 2 + 2\nmodel['generator']['base_channels'] = width\n")
    gray = torch.rand(1, 20, 20)
    want = Colorizer(tiny_checkpoint, device="cpu")(gray)
    for given in (config, Config.fromfile(config)):
        assert torch.equal(Colorizer(given, bare, device="cpu")(gray), want)
    with pytest.raises(ValueError, match="is a config and has no weights"):
        Colorizer(config)
    with pytest.raises(ValueError, match="give the config first"):
        Colorizer(bare, config)


# ---------------------------------------------------------------------------------- not honest ones


@pytest.mark.parametrize("place", ["state_dict", "meta", "message_hub"])
def test_a_pickle_is_not_run(tiny_checkpoint, trap, tmp_path, place):
    content = torch.load(tiny_checkpoint, weights_only=True)
    content[place] = trap
    path = saved(content, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"holds more than weights.*posix.mkdir"):
        Colorizer(path)
    assert not trap.folder.exists()
    torch.load(path, weights_only=False)  # the checkpoint is what it seems
    assert trap.folder.exists()


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch {run}')",
        "model = __import__('os').system('touch {run}')",
        "model = dict(type=__import__('os').system('touch {run}'))",
        "model = [open('{run}', 'w') for _ in range(1)]",
        "model = (lambda: open('{run}', 'w'))()",
        "model = f\"{{open('{run}', 'w')}}\"",
        "model = dict(**open('{run}', 'w'))",
        "model = dict(open('{run}', 'w'))",
        "model = dict().get(open('{run}', 'w'))",
        "import os; os.system('touch {run}')",
        "from os import system\nmodel = system('touch {run}')",
        "def f(x=open('{run}', 'w')): pass",
        "class A(metaclass=open('{run}', 'w').close): pass",
        "model = dict\nmodel.x = open('{run}', 'w')",
        "dict = open\nmodel = dict('{run}', 'w')",
        "if open('{run}', 'w'): pass",
        "model: open('{run}', 'w') = 1",
    ],
)
def test_a_config_is_not_executed(tiny_checkpoint, tmp_path, text):
    run = tmp_path / "run"
    path = with_config(
        tiny_checkpoint, tmp_path / "evil.pth", lambda cfg: cfg + "\n" + text.format(run=run)
    )
    with pytest.raises(CheckpointError, match=r"evil.pth: (line \d+ (is no|has an)|it cannot be)"):
        Colorizer(path)
    assert not run.exists()


def test_nothing_named_in_a_config_is_imported(tiny_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = with_config(
        tiny_checkpoint,
        tmp_path / "evil.pth",
        lambda cfg: cfg.replace("'spynco_mm'", "'evil_module'"),
    )
    assert "evil_module" in torch.load(path, weights_only=True)["meta"]["cfg"]
    Colorizer(path, device="cpu")(torch.rand(1, 16, 16))
    assert not (tmp_path / "run").exists()


def test_weights_named_in_a_config_are_not_loaded(tiny_checkpoint, trap, tmp_path):
    evil = saved(dict(state_dict=trap), tmp_path / "weights.pth")
    pretrained = dict(type="Pretrained", checkpoint=str(evil))
    path = with_generator(tiny_checkpoint, tmp_path / "evil.pth", init_cfg=pretrained)
    Colorizer(path, device="cpu")(torch.rand(1, 16, 16))
    assert not trap.folder.exists()


@pytest.mark.parametrize(
    "changes",
    [
        dict(type="Runner"),
        dict(type="os.system"),
        dict(type="mmagic.SpyncoGAN"),
        dict(type=["SpyncoGenerator"]),
        dict(norm_cfg=dict(type="StableDiffusion")),
        dict(consistency=dict(type="ExactConsistency", translation=dict(type="LPIPS"))),
        dict(consistency=dict(type="SpyncoGAN", generator=dict(type="SpyncoGenerator"))),
        # Allowed as a generator, but here they would be allocated before any comparison.
        dict(consistency=dict(type="SpyncoGenerator", base_channels=1024, num_blocks=1024)),
        dict(
            consistency=dict(
                type="ExactConsistency",
                translation=dict(type="SpyncoGenerator", base_channels=1024, num_blocks=1024),
            )
        ),
        dict(_scope_="mmengine"),
        dict(base_channels=10**9),
        dict(base_channels=1024, num_down=1024, num_outputs=1),
        dict(base_channels=1024, num_blocks=1024),
        dict(num_blocks=10**6),
        dict(num_blocks=1e300),
        dict(base_channels=float("inf")),
        dict(stem_kernel=1023, base_channels=1024),
        dict(consistency=dict(type="ExactConsistency", right_inverse=[[0.1] * 100] * 100)),
        dict(unknown_argument=1),
    ],
)
def test_only_networks_of_a_sane_size_are_built(tiny_checkpoint, tmp_path, changes):
    path = with_generator(tiny_checkpoint, tmp_path / "evil.pth", **changes)
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=r"^\S+evil\.pth: "):
        Colorizer(path)
    assert time.perf_counter() - started < 20


def test_no_network_stands_in_for_the_translation(tiny_checkpoint, tmp_path):
    """Before anything could be compared with it, it would have taken 600 GB."""
    huge = dict(type="SpyncoGenerator", base_channels=1024, num_blocks=1024)
    generator = dict(type="SpyncoGenerator", base_channels=4)
    model = dict(type="SpyncoGAN", generator=generator, handcrafted_translation=huge)
    path = with_config(tiny_checkpoint, tmp_path / "evil.pth", lambda cfg: f"model = {model}")
    with pytest.raises(CheckpointError, match="handcrafted_translation is no HandcraftedTransla"):
        Colorizer(path)


def test_a_model_without_a_preprocessor(tmp_path):
    """Its model takes RGB then, and so does the colorizer."""
    model = dict(type="SpyncoGAN", generator=dict(type="SpyncoGenerator", base_channels=4))
    model["generator"]["num_blocks"] = 1
    built = MODELS.build(model).eval()
    content = dict(meta=dict(cfg=f"model = {model}"), state_dict=built.state_dict())
    gray = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        rgb = built.translation(gray * 2 - 1) / 2 + 0.5
    colorize = Colorizer(saved(content, tmp_path / "bare.pth"), device="cpu", raw=True)
    torch.testing.assert_close(colorize(gray), rgb, rtol=0, atol=1e-5)


def test_a_model_that_is_no_colorizer(tiny_checkpoint, tmp_path):
    path = with_config(
        tiny_checkpoint,
        tmp_path / "other.pth",
        lambda cfg: cfg.replace("type='SpyncoGAN'", "type='StyleGAN3'"),
    )
    with pytest.raises(CheckpointError, match="of the type 'StyleGAN3', not SpyncoGAN, "):
        Colorizer(path)


@pytest.mark.parametrize(
    "text", ["model = " + "(" * 5000, "model = " + "[" * 150 + "]" * 150, "a = 1\n" * 300_000, ""]
)
def test_a_config_that_is_no_config(tiny_checkpoint, tmp_path, text):
    path = with_config(tiny_checkpoint, tmp_path / "odd.pth", lambda cfg: text)
    with pytest.raises(CheckpointError):
        Colorizer(path)


def test_odd_tensors(tiny_checkpoint, tmp_path):
    name = "generator.residual.0.conv.weight"

    def edited(edit):
        content = torch.load(tiny_checkpoint, weights_only=True)
        content["state_dict"][name] = edit(content["state_dict"][name])
        return saved(content, tmp_path / "odd.pth")

    with pytest.raises(CheckpointError, match="not stored as its shape says"):
        Colorizer(edited(lambda weight: torch.zeros(1).expand(weight.shape)))
    with pytest.raises(CheckpointError, match="not stored as its shape says"):
        Colorizer(edited(lambda weight: weight.to_sparse()))
    with pytest.raises(CheckpointError, match="not finite: the training had diverged"):
        Colorizer(edited(lambda weight: weight * float("nan")))
    with pytest.raises(CheckpointError, match=r"has shape \(5, 16, 3, 3\) in the checkpoint"):
        Colorizer(edited(lambda weight: weight[:5].clone()))
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(
            CheckpointError, match=rf"is {dtype} in the checkpoint and torch\.float"
        ):
            Colorizer(edited(lambda weight, dtype=dtype: weight.to(dtype)))
    half = Colorizer(edited(lambda weight: weight.half()), device="cpu")
    assert {p.dtype for p in half.generator.parameters()} == {torch.float32}


def test_the_first_form_of_exact_consistency_is_named(tiny_checkpoint, tmp_path):
    content = torch.load(tiny_checkpoint, weights_only=True)
    versions = content["state_dict"]._metadata
    # As several processes saved it at first.
    versions["generator.module.consistency"] = versions.pop("generator.consistency")
    Colorizer(saved(content, tmp_path / "wrapped.pth"))
    versions["generator.module.consistency"]["version"] = 1
    with pytest.raises(CheckpointError, match=r"old.pth: this checkpoint.* its first form, and"):
        Colorizer(saved(content, tmp_path / "old.pth"))
    content["state_dict"] = dict(content["state_dict"])
    with pytest.raises(CheckpointError, match=r"old.pth: this checkpoint.* another or none, and"):
        Colorizer(saved(content, tmp_path / "old.pth"))


def test_no_checkpoint_of_a_colorizer(tmp_path):
    path = tmp_path / "other.pth"
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        Colorizer(path)
    for content in (dict(weights={}), dict(state_dict={"a": 1}), dict(state_dict=[])):
        with pytest.raises(CheckpointError, match="has no 'state_dict' of tensors"):
            Colorizer(saved(content, path))
    with pytest.raises(CheckpointError, match=r"no weights under the name generator\.\*"):
        cfg = "model = dict(type='SpyncoGAN', generator=dict(type='SpyncoGenerator'))"
        Colorizer(saved(dict(state_dict={"x": torch.zeros(1)}, meta=dict(cfg=cfg)), path))


def test_a_checkpoint_behind_an_address(tiny_checkpoint, server, trap, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    server.files["/good.pth"] = tiny_checkpoint.read_bytes()
    gray = torch.rand(1, 20, 20)
    want = Colorizer(tiny_checkpoint, device="cpu")(gray)
    assert torch.equal(Colorizer(f"{server.url}/good.pth", device="cpu")(gray), want)
    server.files["/evil.pth"] = saved(dict(state_dict=trap), tmp_path / "evil.pth").read_bytes()
    with pytest.raises(CheckpointError, match="holds more than weights"):
        Colorizer(f"{server.url}/evil.pth")
    assert not trap.folder.exists()
