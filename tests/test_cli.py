"""What the command line prints and writes, and that every mistake is told in one line per problem with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.numpy import load_file, save_file

from xaisim.cli import main
from xaisim.config import data_root
from xaisim.report.report import Report
from xaisim.report.save import RESULT_FILES

CNN = ("--model", "cifar_cnn")
SALIENCY = (*CNN, "--method", "saliency")
IG = (*CNN, "--method", "integrated_gradients")
GRADCAM = (*CNN, "--method", "gradcam")
FAST = (*SALIENCY, "--numerics", "q16.8")  # one format for all: nothing to calibrate


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that file names in messages are short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def assert_refused(result: Result, *lines: str, folder: Path | None = None) -> None:
    """One line per problem on stderr, each beginning as given, nothing on stdout, nothing written, exit code 2."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2
    assert result.stdout == ""
    told = result.stderr.splitlines()
    assert len(told) == len(lines), result.stderr
    for line, expected in zip(told, lines, strict=True):
        assert line.startswith(f"error: {expected}"), line
    if folder is not None:
        assert not list(folder.glob("out*"))
        assert not list(folder.glob("xaisim-results"))


# ---------------------------------------------------------------------------------------------------------------------
# Names, numbers and options

REFUSED_OPTIONS = [
    ((*CNN, "--method", "salience"), "unknown method 'salience'; did you mean 'saliency'? choices: forward, saliency,"),
    (("--model", "resnet"), "unknown model 'resnet'; did you mean 'resnet18'? choices: resnet18, inception_v3,"),
    ((*SALIENCY, "--arch", "pynq"), "unknown architecture 'pynq'; did you mean 'pynq_z2'? choices: edge_systolic_16,"),
    ((*SALIENCY, "--arch", "mine.yaml"), "mine.yaml: no such file; architecture choices: edge_systolic_16,"),
    ((*SALIENCY, "--numerics", "fixed32"), "unknown numerics 'fixed32'; choices: fixed16, fixed8, a format like q16.8"),
    ((*SALIENCY, "--numerics", "quick.yaml"), "quick.yaml: cannot be read: No such file or directory"),
    ((*SALIENCY, "--numerics", "q16"), "numerics 'q16': a fixed-point format is written like q16.8"),
    ((*SALIENCY, "--numerics", "q99.1"), "numerics 'q99.1': "),
    ((*SALIENCY, "--numerics", "q16.65"), "numerics 'q16.65': a tensor has -60 to 60 fraction bits, not 65"),
    ((*SALIENCY, "--numerics", "u16.8"), "numerics 'u16.8': weights and gradients have a sign; write q16.8"),
    ((*SALIENCY, "--numerics", "q17.8"), "pynq_z2 has 16-bit multipliers; too wide: weights 17, activations 17, grad"),
    (
        (*SALIENCY, "--arch", "gemmini_16"),
        "gemmini_16 has 8-bit multipliers; too wide: weights 16, activations 16, gradients 16 bits; numerics that fit: "
        "fixed8",
    ),
    ((*SALIENCY, "--target", "10"), "target 10 does not exist: cifar_cnn has classes 0 to 9"),
    ((*SALIENCY, "--target", "-1"), "options: target: must be greater than or equal to 0 (got -1)"),
    ((*SALIENCY, "--target", "cat"), "invalid value for '--target': 'cat' is not a valid integer (see 'xaisim explain"),
    ((*SALIENCY, "--seed", "-1"), "options: seed: must be greater than or equal to 0 (got -1)"),
    ((*SALIENCY, "--n-steps", "5"), "method saliency takes no option 'n_steps'; it takes no options"),
    (
        (*IG, "--layer", "conv1"),
        "method integrated_gradients takes no option 'layer'; it takes baseline, n_steps, rule",
    ),
    ((*IG, "--n-steps", "0"), "options: n_steps: must be greater than or equal to 1 (got 0)"),
    ((*IG, "--n-steps", "-3"), "options: n_steps: must be greater than or equal to 1 (got -3)"),
    ((*IG, "--n-steps", "1000000"), "options: n_steps: must be less than or equal to 4095 (got 1000000)"),
    ((*IG, "--n-steps", "1", "--rule", "riemann_trapezoid"), "n_steps must be at least 2 for riemann_trapezoid, got 1"),
    ((*IG, "--rule", "riemann"), "unknown rule 'riemann'; did you mean 'riemann_left'? choices: riemann_left, "),
    (
        (*IG, "--baseline", "blak"),
        "options: baseline: must be black, white, mean, noise or a number; did you mean 'black'?",
    ),
    ((*IG, "--baseline", "nan"), "options: baseline: must lie in -1000 to 1000, where normalised pixels are (got nan)"),
    ((*IG, "--baseline", "1e308"), "options: baseline: must lie in -1000 to 1000, where normalised pixels are"),
    ((*GRADCAM, "--layer", "conv9"), "unknown layer of cifar_cnn 'conv9'; did you mean 'conv4'? choices: conv1, relu1"),
    ((*GRADCAM, "--layer", "fc1"), "unknown layer of cifar_cnn 'fc1'; choices: conv1, relu1, conv2"),
    (
        ("--workload", "cifar_ig"),
        "unknown workload 'cifar_ig'; did you mean 'cifar_cnn_ig'? choices: cifar_cnn_forward",
    ),
    (("--workload", "mine.yaml"), "mine.yaml: no such file; workload choices: cifar_cnn_forward"),
    (("--bogus",), "no such option"),
]


@pytest.mark.parametrize(("options", "line"), REFUSED_OPTIONS, ids=[" ".join(o) for o, _ in REFUSED_OPTIONS])
def test_a_wrong_option_is_told_in_one_line(here: Path, options: tuple[str, ...], line: str) -> None:
    assert_refused(run("explain", "-o", "out", *options), line, folder=here)


def test_wrong_names_are_told_all_at_once(here: Path) -> None:
    result = run("explain", "--model", "cifar", "--method", "salincy", "--arch", "pynq", "--numerics", "q9")
    expected = ("unknown model 'cifar'", "unknown method 'salincy'", "unknown architecture 'pynq'", "numerics 'q9': ")
    assert_refused(result, *expected, folder=here)


def test_profile_and_show_refuse_alike(here: Path) -> None:
    for command in (("profile",), ("show", "graph")):
        assert_refused(run(*command, *SALIENCY, "--target", "10"), "target 10 does not exist: cifar_cnn has classes")
        assert_refused(run(*command, *SALIENCY, "--weights", "my.pth"), "my.pth: no such weights file")
        assert_refused(run(*command, *IG, "--n-steps", "0"), "options: n_steps: must be greater than or equal to 1")
    assert_refused(run("profile", *SALIENCY, "scene:1"), "got unexpected extra argument (scene:1)")
    assert_refused(run("show", "nodes"), "invalid value for '{graph|arch|mapping|schedule}': 'nodes' is not one of")
    assert_refused(run("show", "schedule", "--rows", "0", *CNN), "invalid value for '--rows': 0 is not in the range")
    assert_refused(run("explian"), "no such command 'explian'")
    assert list(here.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------------
# Images

PIXELS = np.random.default_rng(7).integers(0, 256, (40, 40, 3), np.uint8)


def _files(folder: Path) -> None:
    """Write broken pictures of every kind."""
    Image.fromarray(PIXELS).save(folder / "whole.png")
    (folder / "half.png").write_bytes((folder / "whole.png").read_bytes()[:2000])
    (folder / "text.png").write_text("hello")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    (folder / "folder.npy").mkdir()
    (folder / "text.npy").write_text("hello")
    ones = np.ones((8, 8, 3))
    arrays = {
        "rgba": np.ones((8, 8, 4)), "line": np.ones(5), "number": np.float64(3), "batch": np.ones((1, 3, 8, 8)),
        "nan": ones * np.nan, "bright": ones * 3, "dark": ones * -0.1, "int": np.full((8, 8), 200),
        "object": np.array([{}], object), "letters": np.full((8, 8), "a"), "complex": ones * 1j,
        "none": np.ones((0, 3, 3)), "dates": np.zeros((8, 8), "M8[s]"),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "half.npy").write_bytes((folder / "bright.npy").read_bytes()[:500])
    np.savez(folder / "archive.npz", a=PIXELS)
    (folder / "archive.npz").rename(folder / "archive.npy")


SHAPES = "an image has shape (H, W), (H, W, 3) or (3, H, W), got"
REFUSED_IMAGES = {
    "missing.png": "missing.png: no such image; give a PNG, JPEG or .npy file, or scene:N",
    "half.png": "half.png: not a readable PNG or JPEG image (",
    "text.png": "text.png: not a PNG or JPEG image",
    "empty.png": "empty.png: not a PNG or JPEG image",
    "folder.png": "folder.png: is a folder",
    "folder.npy": "folder.npy: is a folder",
    "text.npy": "text.npy: not a readable .npy array (",
    "half.npy": "half.npy: not a readable .npy array (",
    "archive.npy": "archive.npy: not a readable .npy array (",
    "object.npy": "object.npy: not a readable .npy array (it holds Python objects)",
    "rgba.npy": f"rgba.npy: {SHAPES} (8, 8, 4)",
    "line.npy": f"line.npy: {SHAPES} (5,)",
    "number.npy": f"number.npy: {SHAPES} ()",
    "batch.npy": f"batch.npy: {SHAPES} (1, 3, 8, 8)",
    "none.npy": "none.npy: the array is empty, shape (0, 3, 3)",
    "nan.npy": "nan.npy: pixels must be finite, got 192 that are not",
    "bright.npy": "bright.npy: pixels of dtype float64 must lie in 0 to 1, got 3 to 3",
    "dark.npy": "dark.npy: pixels of dtype float64 must lie in 0 to 1, got -0.1 to -0.1",
    "int.npy": "int.npy: pixels of dtype int64 must lie in 0 to 1, got 200 to 200",
    "letters.npy": "letters.npy: pixels must be uint8 or numbers from 0 to 1, got dtype <U1",
    "complex.npy": "complex.npy: pixels must be uint8 or numbers from 0 to 1, got dtype complex128",
    "dates.npy": "dates.npy: pixels must be uint8 or numbers from 0 to 1, got dtype datetime64[s]",
    "scene:9999": "test scene 9999 does not exist; there are scenes 0 to 319",
    "scene:x": "image 'scene:x': a shipped scene is written scene:N with a number N, e.g. scene:7",
    "scene:-1": "image 'scene:-1': a shipped scene is written scene:N",
    "scene:²": "image 'scene:²': a shipped scene is written scene:N",
    "x" * 300: "x" * 60,
}


def test_a_picture_that_is_none_is_told_in_one_line(here: Path) -> None:
    _files(here)
    for name, line in REFUSED_IMAGES.items():
        assert_refused(run("explain", name, *FAST, "-o", "out"), line, folder=here)


# ---------------------------------------------------------------------------------------------------------------------
# Weights


def test_weights_that_do_not_fit_are_told_in_one_line(here: Path) -> None:
    whole = load_file(data_root() / "workloads" / "weights" / "cifar_cnn.safetensors")
    nan, huge = whole["fc1.bias"] * np.nan, whole["fc1.bias"].astype(np.float64) + 1e300
    files: dict[str, tuple[dict[str, np.ndarray], dict[str, str], str]] = {
        "few": ({k: v for k, v in whole.items() if "conv" not in k}, {}, "8 of 12 tensors are missing: conv1.weight,"),
        "none": ({}, {}, "12 of 12 tensors are missing: conv1.weight, conv1.bias, conv2.weight, conv2.bias, "),
        "cut": ({**whole, "fc1.bias": nan[:9]}, {}, "1 tensor has another shape: fc1.bias is 9 instead of 128"),
        "nan": ({**whole, "fc1.bias": nan}, {}, "1 tensor has values that are no finite float32: fc1.bias"),
        "huge": ({**whole, "fc1.bias": huge}, {}, "1 tensor has values that are no finite float32: fc1.bias"),
        "two": (whole, {"classes": "cat,dog"}, "its metadata name 2 classes; the network has 10"),
        "grey": (whole, {"input_mean": "0.5"}, "its metadata give input_mean '0.5'; expected 3 numbers"),
        "flat": (whole, {"input_std": "1,0,1"}, "its metadata give input_std '1,0,1'; all must be above 0"),
        "good": (whole, {"test_accuracy": "good"}, "its metadata give test_accuracy 'good'; expected 1 numbers"),
    }
    for name, (tensors, metadata, line) in files.items():
        save_file(tensors, f"{name}.safetensors", metadata or None)
        result = run("explain", *FAST, "--weights", f"{name}.safetensors", "-o", "out")
        assert_refused(result, f"{name}.safetensors: {line}", folder=here)


def test_weights_that_are_no_weights_are_told_in_one_line(here: Path) -> None:
    (here / "noise.safetensors").write_bytes(np.random.default_rng(1).bytes(500))
    (here / "empty.safetensors").touch()
    (here / "folder.safetensors").mkdir()
    (here / "photo.png").touch()
    reasons = {
        "noise.safetensors": "noise.safetensors: not a readable .safetensors file (",
        "empty.safetensors": "empty.safetensors: not a readable .safetensors file (",
        "folder.safetensors": "folder.safetensors: is a folder; weights are a .safetensors or .pth file",
        "photo.png": "weights 'photo.png': must be a .safetensors or .pth file, or 'random'",
        "rand": "weights 'rand': must be a .safetensors or .pth file, or 'random'",
        "missing.pth": "missing.pth: no such weights file",
    }
    for name, line in reasons.items():
        assert_refused(run("explain", *FAST, "--weights", name, "-o", "out"), line, folder=here)


def test_weights_of_another_network_are_told_in_one_line(here: Path) -> None:
    other = data_root() / "workloads" / "weights" / "resnet18_tiny.safetensors"
    result = run("profile", *SALIENCY, "--weights", other)
    assert_refused(result, f"{other}: 11 of 12 tensors are missing: conv1.bias, ", folder=here)
    assert "conv1.weight is 16x3x3x3 instead of 32x3x3x3" in result.stderr


# ---------------------------------------------------------------------------------------------------------------------
# YAML files

WORKLOAD = "model: cifar_cnn\nmethod: integrated_gradients\n"
REFUSED_WORKLOADS = {
    "option: {}": "w.yaml:3:1: option: unknown key; did you mean 'options'? choices: description, model, ",
    "options: {n_step: 3}": "w.yaml:3:11: options.n_step: unknown key; did you mean 'n_steps'? choices: n_steps, rule",
    "options: {n_steps: 0}": "w.yaml:3:20: options.n_steps: must be greater than or equal to 1 (got 0)",
    "options: {baseline: grey}": (
        "w.yaml:3:21: options.baseline: must be black, white, mean, noise or a number (got 'grey')"
    ),
    "options: {baseline: .nan}": "w.yaml:3:21: options.baseline: must lie in -1000 to 1000, where normalised pixels ",
    "options: {baseline: true}": (
        "w.yaml:3:21: options.baseline: must be black, white, mean, noise or a number (got true)"
    ),
    "options: {layer: conv1}": "method integrated_gradients takes no option 'layer'; it takes baseline, n_steps, rule",
    "model: cifar_cnn": "w.yaml:3:1: model: duplicate key; first given in line 1",
    "target: -1": "w.yaml:3:9: target: must be greater than or equal to 0 (got -1)",
    "image: scene:400": "test scene 400 does not exist; there are scenes 0 to 319",
    "seed: 1.5": "w.yaml:3:7: seed: must be a valid integer (got 1.5)",
    "numerics: 16": "w.yaml:3:11: numerics: must be a name such as fixed16 or a mapping such as {weights: 8} (got 16)",
    "numerics: {wieghts: 8}": "w.yaml:3:11: numerics: wieghts: unknown key; did you mean 'weights'? choices: weights,",
    "numerics: {weights: 64}": "w.yaml:3:11: numerics: weights: must be less than or equal to 32 (got 64)",
    "numerics: {uniform: q9}": "w.yaml:3:11: numerics: uniform: a fixed-point format is written like q16.8 (bits, ",
    "numerics: {uniform: q32.8}": "pynq_z2 has 16-bit multipliers; too wide: weights 32, activations 32, gradients 32",
    "arch: [": "w.yaml:4:1: YAML syntax: ",
}


@pytest.mark.parametrize(("text", "line"), REFUSED_WORKLOADS.items(), ids=list(REFUSED_WORKLOADS))
def test_a_wrong_workload_is_told_with_line_and_column(here: Path, text: str, line: str) -> None:
    Path("w.yaml").write_text(WORKLOAD + text + "\n")
    assert_refused(run("explain", "--workload", "w.yaml", "-o", "out"), line, folder=here)


REFUSED_NUMERICS = {
    "bogus: 1": "n.yaml:1:1: bogus: unknown key; choices: weights, activations, ",
    "rounding: up": "n.yaml:1:11: rounding: must be one of trn, trn_zero, rnd, ",
    "weights: 1": "n.yaml:1:10: weights: must be greater than or equal to 2 (got 1)",
    "uniform: u16.8": "n.yaml:1:10: uniform: weights and gradients have a sign; write q16.8 (got 'u16.8')",
    "overrides: {fc1.w: q40.8}": "n.yaml:1:20: overrides.fc1.w: a tensor has 2 to 32 bits, not 40 (got 'q40.8')",
    "overrides: {fc1.w: q32.8}": "pynq_z2 has 16-bit multipliers; too wide: fc1.w in 128x4096 q32.8",
    "overrides: {conv1.v: q16.8}": "numerics.overrides: no tensor 'conv1.v' is given a format in saliency on cifar_cnn"
    "; did you mean 'conv1.w'? choices: conv1.w, conv2.w, ",
}


@pytest.mark.parametrize(("text", "line"), REFUSED_NUMERICS.items(), ids=list(REFUSED_NUMERICS))
def test_wrong_numerics_are_told_with_line_and_column(here: Path, text: str, line: str) -> None:
    Path("n.yaml").write_text(text + "\n")
    assert_refused(run("explain", *SALIENCY, "--numerics", "n.yaml", "-o", "out"), line, folder=here)


REFUSED_ARCHITECTURES = {
    ("clock_mhz: 100", "clock_mhz: 0"): ("a.yaml:4:12: clock_mhz: must be greater than 0 (got 0)",),
    ("clock_mhz", "clock_mzh"): (
        "a.yaml:2:1: clock_mhz: required key missing",
        "a.yaml:4:1: clock_mzh: unknown key; did you mean 'clock_mhz'? choices: name, ",
    ),
    ("size: 256KiB", "size: 256"): ("a.yaml:18:11: memories[1].size: missing unit; write e.g. 128KiB (got 256)",),
    ("costs: asic_45nm", "costs: asic_45nm\ncosts: x"): ("a.yaml:53:1: costs: duplicate key; first given in line 52",),
    ("accumulator_bits: 48", "accumulator_bits: 24"): (
        "conv1: the accumulator of 24 bits cannot hold a sum of up to ",
    ),
    ("accumulator_bits: 48", "accumulator_bits: 12"): (
        "a.yaml:46:21: array.accumulator_bits: must be greater than or equal to 16 (got 12)",
    ),
    ("accumulator_bits: 48", "accumulator_bits: 32\n  accumulator: satruate\n  psum_bits: 40"): (
        "a.yaml:47:16: array.accumulator: must be one of proven, wrap, saturate (got 'satruate'); did you mean ",
    ),
    ("accumulator_bits: 48", "accumulator_bits: 32\n  psum_bits: 40"): (
        "a.yaml:47:14: array.psum_bits: a stored sum may not be wider than accumulator_bits 32 (got 40)",
    ),
    ("multiplier_bits: 16", "multiplier_bits: 8"): ("pynq_z2 has 8-bit multipliers; too wide: weights 16, ",),
    ("size: 256KiB", "size: 64B"): (
        "pynq_z2: conv1 does not fit: its smallest tile needs 512 bytes of activations, which has 64 left",
    ),
    ("size: 16KiB", "size: 1B"): (
        "pynq_z2: conv1 does not fit: its smallest tile needs 16 bytes of masks, which has 1 left",
    ),
    ("size: 512MiB", "size: 1MiB"): ("pynq_z2: the kernel needs ",),
}


@pytest.mark.parametrize(("change", "lines"), REFUSED_ARCHITECTURES.items(), ids=[b for _, b in REFUSED_ARCHITECTURES])
def test_an_architecture_that_cannot_be_is_told(here: Path, change: tuple[str, str], lines: tuple[str, ...]) -> None:
    text = (data_root() / "arch_configs" / "pynq_z2.yaml").read_text()
    assert change[0] in text
    Path("a.yaml").write_text(text.replace(*change, 1))
    assert_refused(run("explain", *FAST, "--arch", "a.yaml", "-o", "out"), *lines, folder=here)


# ---------------------------------------------------------------------------------------------------------------------
# Results


def test_an_existing_result_is_kept_without_force(here: Path) -> None:
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    for command in ("explain", "profile"):
        assert_refused(
            run(command, *FAST, "-o", "out"), "out: is not empty (it has notes.txt); choose another folder or"
        )
        assert_refused(run(command, *FAST, "-o", "file"), "file: is a file; results need a folder")
        assert_refused(run(command, *FAST, "-o", "file/x"), "file/x: cannot be made, ")
    assert sorted(path.name for path in here.iterdir()) == ["file", "out"]
    assert [path.name for path in Path("out").iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("here")
def test_explain_writes_all_results_and_prints_a_table() -> None:
    result = run("explain", "scene:3", *FAST, "-o", "new/folder")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.splitlines()[0] == "model        cifar_cnn (cifar_cnn.safetensors)"
    assert result.stdout.splitlines()[-1] == "written to new/folder"
    assert sorted(path.name for path in Path("new/folder").iterdir()) == sorted(RESULT_FILES)
    attribution, raw = (np.load(f"new/folder/{name}.npy") for name in ("attribution", "attribution_raw"))
    assert (attribution.shape, attribution.dtype, raw.dtype) == ((1, 3, 32, 32), np.float64, np.int16)
    assert np.array_equal(attribution, raw / 256)
    again = run("explain", "scene:3", *FAST, "-o", "new/folder", "--force")
    assert (again.exit_code, again.stdout) == (0, result.stdout)


@pytest.mark.usefixtures("here")
def test_without_a_directory_the_result_goes_under_its_own_name() -> None:
    assert run("explain", *FAST).exit_code == 0
    (folder,) = Path("xaisim-results").iterdir()
    report = Report.load(folder / "report.json")
    assert folder.name == f"cifar_cnn-saliency-pynq_z2-{report.meta.hash}"
    assert run("explain", *FAST).exit_code == 0  # the very same result
    assert list(Path("xaisim-results").iterdir()) == [folder]


def test_a_file_in_the_place_of_the_results_is_told(here: Path) -> None:
    Path("xaisim-results").touch()
    assert_refused(run("explain", *FAST), f"xaisim-results/any: cannot be made, {here / 'xaisim-results'} is a file")


@pytest.mark.usefixtures("here")
def test_json_prints_the_report_and_nothing_else() -> None:
    for command in ("explain", "profile"):
        result = run(command, *FAST, "--json", "-o", command)
        assert result.stderr == ""
        assert result.stdout == Path(command, "report.json").read_text(encoding="utf-8")
        assert json.loads(result.stdout)["model"] == "cifar_cnn"


@pytest.mark.usefixtures("here")
def test_the_same_command_gives_the_same_bytes() -> None:
    for options in ((*SALIENCY, "--weights", "random"), (*IG, "--n-steps", "3", "--numerics", "q16.8")):
        for folder in ("one", "two"):
            assert run("explain", "scene:5", *options, "-o", folder, "--force").exit_code == 0
        for name in ("report.json", "attribution.npy", "attribution_raw.npy", "timeline.json", "heatmap.png"):
            assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name


@pytest.mark.usefixtures("here")
def test_options_override_a_workload() -> None:
    def profiled(*options: str) -> Report:
        result = run("profile", "--workload", "cifar_cnn_ig", *options, "--json")
        assert result.exit_code == 0, result.output
        return Report.model_validate_json(result.stdout)

    plain = profiled()
    assert plain.options == {"n_steps": 50, "rule": "riemann_middle", "score": "logit", "baseline": "black"}
    fewer = profiled("--n-steps", "5", "--arch", "zcu104")
    assert (fewer.options["n_steps"], fewer.options["baseline"], fewer.architecture) == (5, "black", "zcu104")
    other = profiled("--method", "gradcam")  # the workload's options were meant for another method
    assert (other.method, other.options) == ("gradcam", {"layer": "relu4", "upsample": "bilinear", "relu": True})


def test_show_prints_every_noun() -> None:
    begins = {
        "graph": "# gradient of class 0, 1 trip\ninput = input : 3x32x32 q16.13\n",
        "arch": "pynq_z2: 128 unrolled 16-bit MACs on a Pynq-Z2\nclock      100 MHz",
        "mapping": "# saliency of cifar_cnn on pynq_z2; use it again with --mapping\nkernels:\n  gradient:  # 1 trip, ",
        "schedule": "# gradient of class 0, 1 trip on pynq_z2\n  row unit    kind     cycles  region",
    }
    for noun, begin in begins.items():
        result = run("show", noun, *SALIENCY)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(begin), result.stdout[:200]
    assert len(run("show", "schedule", "--rows", "7", *SALIENCY).stdout.splitlines()) == 2 + 7 + 1


def test_list_names_what_ships() -> None:
    text = run("list").stdout
    for name in ("cifar_cnn", "integrated_gradients", "pynq_z2", "resnet18_tiny_ig", "gausslegendre", "fixed16"):
        assert f"\n  {name} " in text or f"\n  {name}\n" in text
    assert "`" not in text


def test_the_real_process_is_silent_when_piped_and_exits_2_on_mistakes(tmp_path: Path) -> None:
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "xaisim", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    good = process("explain", *FAST, "--json", "-o", "out")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["cycles"]["total"] == Report.load(tmp_path / "out" / "report.json").cycles.total
    bad = process("explain", "missing.png", *FAST, "-o", "other")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr == "error: missing.png: no such image; give a PNG, JPEG or .npy file, or scene:N\n"
    usage = process("explain", "--bogus")
    assert usage.returncode == 2
    assert usage.stderr.endswith("(see 'xaisim explain --help')\n")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_profile_says_what_more_of_each_resource_would_buy() -> None:
    result = CliRunner().invoke(main, ["profile", "--model", "cifar_cnn", "--method", "saliency", "--json"])
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert {gain["remapped_cycles"] for gain in report["sensitivity"]} == {None}
    assert all(
        gain["predicted_cycles"] <= gain["cycles"] <= report["cycles"]["total"] for gain in report["sensitivity"]
    )


@pytest.mark.slow
def test_remap_also_maps_anew_and_tells_of_the_sizes_of_memories() -> None:
    command = ["profile", "--model", "cifar_cnn", "--method", "forward", "--remap", "--json"]
    report = json.loads(CliRunner().invoke(main, command).output)
    remapped = {gain["resource"]: gain["remapped_cycles"] for gain in report["sensitivity"]}
    assert remapped["DRAM bandwidth"] > 0
    assert remapped["size of weights"] > 0
    assert remapped["array"] is None
