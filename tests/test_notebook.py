"""The notebook runs from top to bottom, with a network as small as can be."""

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
TINY = """
EPOCHS = 1
WORK_DIR = "run"
SETTINGS = {
    "model.generator.base_channels": 4,
    "model.generator.num_blocks": 1,
    "model.discriminator.channels": (4, 8, 8, 8),
    "train_dataloader.dataset.crops_per_photo": 2,
    "log_level": "WARNING",
}
"""


def test_the_notebook(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    # It is kept without what it has shown, which would change with every run.
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    (parameters,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
    names = {}
    for cell in cells:
        code = TINY if cell is parameters else "".join(cell["source"])
        exec(compile(code, NOTEBOOK.name, "exec"), names)
    own: dict = {}
    exec("".join(parameters["source"]), own)
    assert own.keys() <= names.keys()
    assert "max |H_t(O) − I| of G_1, G_2, ...: 0." in capsys.readouterr().out
    assert (tmp_path / "run" / "hinted.png").is_file()
