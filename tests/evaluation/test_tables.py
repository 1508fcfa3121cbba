import json

import pytest

from spynco_mm.evaluation import format_table, results_dict, save_results

FLAT = {
    "G2/MSE": 700.5, "G2/PSNR": 19.7, "G2/SSIM": 0.84,
    "G1/MSE": 497.25, "G1/PSNR": 21.2, "G1/SSIM": 0.87,
    "FID": 12.0,
    "gray/MSE": 617.0, "gray/PSNR": 20.2, "gray/SSIM": 0.9,
}  # fmt: skip


def test_results_dict():
    results = results_dict(FLAT)
    assert list(results) == ["gray", "G1", "G2"]
    assert results["G1"] == {"MSE": 497.25, "PSNR": 21.2, "SSIM": 0.87}
    prefixed = {f"val/{name}": value for name, value in FLAT.items()}
    assert results_dict(prefixed, "val") == results
    with pytest.raises(ValueError, match="No rows gray and G1"):
        results_dict(prefixed)


def test_format_table():
    results = results_dict(FLAT)
    lines = format_table(results).splitlines()
    assert lines == [
        "| output     |  MSE ↓ | PSNR (dB) ↑ | SSIM ↑ |",
        "| ---------- | -----: | ----------: | -----: |",
        "| grey input | 617.00 |       20.20 | 0.9000 |",
        "| G_2        | 700.50 |       19.70 | 0.8400 |",
        "| G_1        | 497.25 |       21.20 | 0.8700 |",
        "",
        "G_1 beats the grey input in MSE and PSNR only.",
    ]
    settings = dict(num_images=7, data_range=255, ssim_window="uniform", ssim_window_size=7)
    assert format_table({**results, "settings": settings}).splitlines()[-1] == (
        "7 images; MSE on 0-255; SSIM with a 7×7 uniform window, mean over channels."
    )


def test_colours_and_the_projected_row():
    names = ("CIEDE2000", "concordance", "colorfulness", "colorfulness_error", "luma_error")
    rows = {row: {name: 1.0 for name in names} for row in ("G1_projected", "gray", "G1", "G2")}
    flat = {
        f"{row}/{name}": value for row, scores in rows.items() for name, value in scores.items()
    }
    projected = {"G1_projected/MSE": 400.0, "G1_projected/PSNR": 22.0, "G1_projected/SSIM": 0.9}
    results = results_dict({**flat, **FLAT, **projected})
    assert list(results) == ["gray", "G1", "G2", "G1_projected"]
    table = format_table(results)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:6]] == [
        "grey input",
        "G_2",
        "G_1",
        "G_1, projected",
    ]
    assert "| CIEDE2000 ↓ | concordance ↑ | colourfulness | its error ↓ | luma error ↓ |" in table
    assert "Hasler and Süsstrunk): √(σ²(rg) + σ²(yb)) + 0.3 √(μ²(rg) + μ²(yb))" in table


@pytest.mark.parametrize(
    "mse, psnr, ssim, verdict",
    [
        (600, 21, 0.95, "G_1 beats the grey input in MSE, PSNR and SSIM."),
        (600, 20, 0.95, "G_1 beats the grey input in MSE and SSIM only."),
        (700, 20, 0.95, "G_1 beats the grey input in SSIM only."),
        (617, 20.2, 0.9, "G_1 does not beat the grey input."),
        (*[float("nan")] * 3, "G_1 does not beat the grey input."),
    ],
)
def test_verdict(mse, psnr, ssim, verdict):
    scores = {"G1/MSE": mse, "G1/PSNR": psnr, "G1/SSIM": ssim}
    table = format_table(results_dict({**FLAT, **scores}))
    assert table.splitlines()[-1] == verdict


def test_json_is_strict(tmp_path):
    path = tmp_path / "new" / "results.json"
    save_results({"G1": {"MSE": float("nan"), "PSNR": float("inf"), "SSIM": 0.5}}, path)
    assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
    assert json.loads(path.read_text()) == {"G1": {"MSE": None, "PSNR": None, "SSIM": 0.5}}
