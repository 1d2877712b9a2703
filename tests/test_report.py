"""Does what the reader sees equal what was computed: heatmap panels, page, timeline, saved files?"""

from __future__ import annotations

import base64
import html
import json
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xaisim import metrics
from xaisim.attribution.device import Tensor
from xaisim.config import UserError
from xaisim.experiment import Experiment, Options
from xaisim.flow import explain, profile
from xaisim.ir.types import FixedPoint, TensorType
from xaisim.mapping.tiles import SEATS
from xaisim.report import figures, heatmap, save
from xaisim.report.cycles import with_sensitivity
from xaisim.report.page import page_figures, page_html
from xaisim.report.report import Report
from xaisim.report.sentences import bytes_text, energy_text, path_text, time_text, verdict

TRIPS = 5


@pytest.fixture(scope="module")
def path_report() -> Report:
    return with_sensitivity(explain(Experiment(model="cifar_cnn", options=Options(n_steps=TRIPS), numerics="q16.10")))


@pytest.fixture(scope="module")
def gradcam_report() -> Report:
    return explain(Experiment(model="cifar_cnn", method="gradcam"))


@pytest.fixture(scope="module")
def forward_report() -> Report:
    return explain(Experiment(model="cifar_cnn", method="forward"))


@pytest.fixture(scope="module")
def profile_report() -> Report:
    return profile(Experiment(model="resnet18_tiny", options=Options(n_steps=TRIPS), arch="ultra96_v2"))


def with_maps(report: Report, attribution: np.ndarray, reference: np.ndarray) -> Report:
    """Return a copy of a report that shows other maps: integers of q8.4, and real numbers."""
    copy = report.model_copy()
    tensor = Tensor(attribution, TensorType(attribution.shape[1:], FixedPoint(8, 4)))
    copy._run = replace(report.run, attribution=tensor, reference=reference)
    return copy


# --- heatmap ----------------------------------------------------------------------------------------------------------


def test_panels_are_the_float_map_the_fixed_map_and_their_difference_summed_over_channels(path_report: Report) -> None:
    info = heatmap.heatmap_info(path_report)
    real, fixed, difference = (panel.values for panel in info.panels)
    np.testing.assert_array_equal(real, path_report.reference[0].sum(axis=0))
    np.testing.assert_array_equal(fixed, path_report.attribution[0].sum(axis=0))
    np.testing.assert_array_equal(difference, fixed - real)
    assert path_report.run.sample is not None
    np.testing.assert_array_equal(info.image, path_report.run.sample.pixels)


def test_float_and_fixed_share_a_symmetric_scale_that_ends_at_the_percentile_of_both(path_report: Report) -> None:
    real, fixed, _ = heatmap.heatmap_info(path_report).panels
    assert real.scale == fixed.scale
    assert real.scale.high == np.percentile(np.abs(np.stack([real.values, fixed.values])), 99.5)
    assert real.scale.low == -real.scale.high


def test_the_difference_has_its_own_scale_which_its_caption_tells(path_report: Report) -> None:
    real, _, difference = heatmap.heatmap_info(path_report).panels
    factor = int(re.fullmatch(r"difference x (\d+) \(fixed - float\)", difference.caption)[1])  # type: ignore[index]
    assert factor == 2 ** round(math.log2(factor)) > 1
    assert difference.scale.high == real.scale.high / factor
    assert np.percentile(np.abs(difference.values), 99.5) <= difference.scale.high


def test_a_map_that_is_nowhere_negative_gets_a_sequential_scale_from_zero(gradcam_report: Report) -> None:
    real, fixed, difference = heatmap.heatmap_info(gradcam_report).panels
    assert real.scale == fixed.scale
    assert (real.scale.low, real.scale.colours) == (0.0, "Viridis")
    assert difference.scale.low == -difference.scale.high


def test_a_forward_run_shows_the_picture_alone(forward_report: Report, tmp_path: Path) -> None:
    info = heatmap.heatmap_info(forward_report)
    assert info.panels == ()
    heatmap.draw_heatmap(info, tmp_path / "heatmap.png")
    with Image.open(tmp_path / "heatmap.png") as picture:
        assert picture.height > 256


def test_a_profile_has_no_picture(profile_report: Report) -> None:
    with pytest.raises(ValueError, match="a profile sees no picture"):
        heatmap.heatmap_info(profile_report)


def test_equal_maps_and_maps_of_zeros_are_drawn(path_report: Report, tmp_path: Path) -> None:
    zeros = np.zeros((1, 3, 32, 32), np.int64)
    for fixed, real in ((zeros, zeros / 16), (zeros + 3, (zeros + 3) / 16), (zeros - 1, zeros / 16)):
        info = heatmap.heatmap_info(with_maps(path_report, fixed, real))
        assert all(panel.scale.low < panel.scale.high for panel in info.panels)
        heatmap.draw_heatmap(info, tmp_path / "heatmap.png")
    info = heatmap.heatmap_info(with_maps(path_report, zeros, zeros / 16))
    assert info.panels[2].caption == "no difference"


def test_one_outlier_does_not_wash_out_the_map() -> None:
    values = np.full(1000, 0.5)
    values[7] = 1e6
    assert heatmap.clip_bound(values) == 0.5


def test_a_map_of_few_points_is_scaled_to_its_largest() -> None:
    values = np.zeros(10_000)
    values[:3] = (1.0, -4.0, 2.0)
    assert heatmap.clip_bound(values) == 4.0


def test_the_outline_runs_along_the_borders_between_inside_and_outside() -> None:
    mask = np.zeros((4, 5), bool)
    mask[1, 2] = mask[1, 3] = True
    segments = {tuple(map(int, row)) for row in heatmap.outline_segments(mask)}
    assert segments == {(2, 1, 2, 2), (4, 1, 4, 2), (2, 1, 3, 1), (3, 1, 4, 1), (2, 2, 3, 2), (3, 2, 4, 2)}


def test_the_outline_closes_where_a_mask_touches_the_edge() -> None:
    assert len(heatmap.outline_segments(np.ones((3, 7), bool))) == 2 * (3 + 7)


def test_the_outline_of_a_ring_has_an_inner_and_an_outer_border() -> None:
    mask = np.ones((3, 3), bool)
    mask[1, 1] = False
    assert len(heatmap.outline_segments(mask)) == 12 + 4


def test_zero_is_the_middle_colour_and_values_beyond_the_scale_get_its_ends() -> None:
    scale = heatmap.Scale(-2.0, 2.0, "RdBu_r")
    low, under, zero, high, over = heatmap.colourise(np.array([[-2.0, -9.0, 0.0, 2.0, 9.0]]), scale)[0].tolist()
    assert low == under == [5, 48, 97]
    assert high == over == [103, 0, 31]
    assert min(zero) >= 245


def test_the_picture_has_four_panels_of_at_least_256_pixels_with_square_pixels(
    path_report: Report, tmp_path: Path
) -> None:
    info = heatmap.heatmap_info(path_report)
    heatmap.draw_heatmap(info, tmp_path / "heatmap.png")
    with Image.open(tmp_path / "heatmap.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    zoom = 11  # 32 pixels to about 340
    assert pixels.shape[1] >= 4 * 32 * zoom > 4 * 256
    top, left = 36 + 26 + 22 + 19 + 12, 36 + 32 * zoom + 28
    row, column = 3, 5  # far from the outline
    inside = pixels[top + row * zoom + 2 : top + (row + 1) * zoom - 2, left + column * zoom + 2 : left + 6 * zoom - 2]
    colour = heatmap.colourise(info.panels[0].values, info.panels[0].scale)[row, column]
    assert (inside == colour).all()


# --- where the cycles go ----------------------------------------------------------------------------------------------

REPORTS = ["path_report", "gradcam_report", "forward_report", "profile_report"]


@pytest.mark.parametrize("name", REPORTS)
def test_the_critical_path_spends_every_cycle_of_the_run(name: str, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(name)
    path = report.critical_path
    assert path.cycles == report.cycles.total == sum(part.cycles for part in path.spent)
    assert [part.cycles for part in path.spent] == sorted((part.cycles for part in path.spent), reverse=True)
    for launch in report.launches:
        assert sum(part.cycles for part in path.spent if part.kernel == launch.kernel) == launch.cycles
    for period in path.periods:
        (launch,) = (launch for launch in report.launches if launch.kernel == period.kernel)
        assert launch.trips > 1
        assert sum(part.cycles for part in period.spent) == period.trips * launch.period_cycles
    assert path_text(path).split("; most in ")[0].split()[1] in ("busy", "latency", "hold")


@pytest.mark.parametrize("name", REPORTS)
def test_the_layers_share_out_the_path_and_the_stalls(name: str, request: pytest.FixtureRequest) -> None:
    report: Report = request.getfixturevalue(name)
    host = sum(launch.host_cycles for launch in report.launches)
    assert sum(row.path_cycles for row in report.layers) + host == report.cycles.total
    stalls: Counter[tuple[str, str]] = Counter()
    for row in report.layers:
        assert row.slack_cycles >= 0
        assert row.slack_cycles == 0 or row.path_cycles == 0
        for unit, causes in row.stall_cycles.items():
            stalls.update({(unit, cause): cycles for cause, cycles in causes.items()})
    for unit, account in report.units.items():
        for cause, cycles in account.idle.items():
            before_launches = host if cause == "host" and unit != "host" else 0
            if cause != "finished":
                assert stalls[unit, cause] + before_launches == cycles


# --- page -------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects what a page links to, its figures, headings and tables, and checks that tags are balanced."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.places: list[str] = []
        self.labelled = 0
        self.headers = 0
        self.figures = ""
        self._in_figures = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [values[name] or "" for name in ("src", "href", "srcset", "data", "action") if name in values]
        if "data-figure" in values:
            self.places.append(values["data-figure"] or "")
            self.labelled += bool(values.get("aria-label")) and values.get("role") == "img"
        self.headers += tag == "th" and "scope" in values
        self._in_figures = values.get("id") == "figures"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._in_figures = False

    def handle_data(self, data: str) -> None:
        if self._in_figures:
            self.figures += data


@pytest.mark.parametrize("name", ["path_report", "gradcam_report", "forward_report", "profile_report"])
def test_the_page_is_balanced_html_that_loads_nothing(name: str, request: pytest.FixtureRequest) -> None:
    text = page_html(request.getfixturevalue(name), command="xaisim explain")
    page = Page(text)
    assert page.open == []
    assert [link for link in page.links if not link.startswith(("#", "data:"))] == []
    assert "default-src 'none'" in text
    assert set(page.places) <= set(json.loads(page.figures))
    assert page.labelled == len(page.places)
    assert page.headers > 20
    assert "<code>xaisim explain</code>" in text


def test_links_of_the_page_lead_to_its_sections(path_report: Report) -> None:
    text = page_html(path_report)
    for anchor in re.findall(r'href="#([a-z]+)"', text):
        assert f'<section id="{anchor}">' in text


def test_text_from_outside_is_escaped(path_report: Report) -> None:
    assert path_report.run.sample is not None
    report = path_report.model_copy(update={"weights": "<script>alert(1)</script>.pth"})
    sample = replace(path_report.run.sample, name="</script><b>")
    report._run = replace(path_report.run, sample=sample)
    text = page_html(report, command='xaisim "<i>"')
    assert "<script>alert" not in text
    assert "</script><b>" not in text
    assert "<i>" not in text


def test_energy_bars_add_up_to_the_total(path_report: Report) -> None:
    assert sum(figures.energy_figure(path_report)["data"][0]["x"]) == pytest.approx(path_report.energy_uj.total)


def test_blocks_of_the_timeline_keep_all_tiles_and_busy_cycles(profile_report: Report) -> None:
    for t in profile_report.run.timing.launches:
        info = figures.gantt_info(t)
        prologue = t.schedule.prologue
        ahead = prologue.tiles.rows if prologue else 0
        assert info.tiles.sum() == t.schedule.tiles.rows + ahead
        for unit in range(len(SEATS)):
            once = t.timing.prologue.busy[unit] if t.timing.prologue else 0
            in_a_trip = info.busy[info.unit == unit].sum() - once
            assert in_a_trip * t.timing.trips + once == t.timing.busy[unit]
        assert (info.end - info.start >= info.busy).all()
        assert len(info.unit) < t.schedule.tiles.rows


def test_maps_of_the_page_are_those_of_the_picture(path_report: Report) -> None:
    info = heatmap.heatmap_info(path_report)
    drawn = page_figures(path_report, info)
    for number, panel in enumerate(info.panels):
        z = drawn[f"map{number}"]["data"][0]
        values = np.frombuffer(base64.b64decode(z["z"]["bdata"]), "<f4").reshape(32, 32)
        np.testing.assert_array_equal(values, panel.values.astype(np.float32))
        assert (z["zmin"], z["zmax"]) == (panel.scale.low, panel.scale.high)


def test_fidelity_and_localisation_are_those_of_the_maps_of_the_report(path_report: Report) -> None:
    real, fixed, tensor = path_report.reference, path_report.attribution, path_report.run.attribution
    f, where = path_report.fidelity, path_report.localisation
    assert f is not None
    assert where is not None
    assert tensor is not None
    assert path_report.run.sample is not None
    assert f.nrmse == metrics.nrmse(real, fixed)
    assert f.max_error_lsb == np.abs(tensor.values - real * 2.0**tensor.type.format.frac).max()  # type: ignore[union-attr]
    assert f.pearson == metrics.pearson(real, fixed)
    assert f.ssim == metrics.ssim(real, fixed)
    assert f.topk_1000 == metrics.top_count_intersection(real, fixed, 1000)
    assert where.relevance_rank == metrics.relevance_rank(fixed, path_report.run.sample.mask)


def test_figures_that_a_map_is_too_small_for_are_left_out_of_the_page(path_report: Report) -> None:
    assert path_report.fidelity is not None
    small = path_report.fidelity.model_copy(update={"ssim": None, "topk_1000": None})
    for report, shown in ((path_report, True), (path_report.model_copy(update={"fidelity": small}), False)):
        report._run = path_report.run
        text = page_html(report)
        assert all((f">{name}<" in text) is shown for name in ("SSIM", "top 1000"))
        assert all(f">{name}<" in text for name in ("NRMSE", "largest error", "Pearson", "rank accuracy"))


def test_figures_are_plain_json(path_report: Report, profile_report: Report) -> None:
    for drawn in (page_figures(path_report, heatmap.heatmap_info(path_report)), page_figures(profile_report, None)):
        assert json.loads(json.dumps(drawn, allow_nan=False)).keys() == drawn.keys()


def test_the_verdict_follows_the_figures(path_report: Report, forward_report: Report, profile_report: Report) -> None:
    def judged(sqnr_db: float, spearman: float) -> str:
        fidelity = path_report.fidelity.model_copy(  # type: ignore[union-attr]
            update={"sqnr_db": sqnr_db, "spearman": spearman}
        )
        return verdict(path_report.model_copy(update={"fidelity": fidelity}))

    assert judged(35.0, 0.99).startswith("The fixed-point map says what float64 says (SQNR 35.0 dB, Spearman 0.9900).")
    assert judged(29.9, 0.99).startswith("The fixed-point map follows float64 roughly")
    assert judged(29.9, 0.5).startswith("The fixed-point map departs from float64")
    assert verdict(forward_report).startswith("Inference alone takes ")
    assert verdict(profile_report).startswith("The whole takes ")
    times = f"{profile_report.overhead:.3g} times as many again to explain it."
    assert verdict(profile_report).endswith(f": the cycles of inference, and {times}")
    assert verdict(profile_report.model_copy(update={"overhead": 0.00491})).endswith("and 0.49 % more to explain it.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (time_text(0.0123), "12.3 µs"),
        (time_text(12.34), "12.3 ms"),
        (time_text(1234.0), "1.23 s"),
        (energy_text(0.5), "0.5 µJ"),
        (energy_text(234_567.0), "235 mJ"),
        (energy_text(17_000_000.0), "17 J"),
        (bytes_text(96.0), "96 B"),
        (bytes_text(98_304.0), "96 KiB"),
        (bytes_text(3 * 2.0**31), "6 GiB"),
    ],
)
def test_quantities_are_written_with_a_fitting_unit(text: str, expected: str) -> None:
    assert text == expected


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

PROBE = """<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
addEventListener("load", () => setTimeout(() => {
  const table = document.querySelector("#layers table");
  const button = [...table.querySelectorAll("th button")].find((b) => b.textContent === "MACs");
  const column = [...table.tHead.rows[0].cells].indexOf(button.parentElement);
  button.click();
  const choices = [...document.querySelectorAll("select.launch")];
  choices[0].value = "0";
  choices[0].dispatchEvent(new Event("change"));
  const followed = [...document.querySelectorAll("[data-per-launch]")];
  const macs = [...table.tBodies[0].rows].map((row) => Number(row.cells[column].dataset.value));
  parent.postMessage({
    wide: innerWidth, needed: document.documentElement.scrollWidth, errors,
    fetched: performance.getEntriesByType("resource").length,
    places: document.querySelectorAll("[data-figure]").length,
    drawn: document.querySelectorAll("[data-figure] .cartesianlayer > .subplot").length,
    switched: followed.length === 3 && choices.every((choice) => choice.value === "0")
      && followed.every((place) => place.dataset.figure === place.dataset.perLaunch + "0"),
    sorted: macs.every((value, index) => !index || macs[index - 1] >= value),
  }, "*");
}, 500));
</script></head>"""

FRAMES = """<!DOCTYPE html><body><pre></pre><script>
const answers = [];
addEventListener("message", (event) => {
  answers.push(event.data);
  document.querySelector("pre").textContent = JSON.stringify(answers);
});
for (const width of [1280, 390]) {
  const frame = document.createElement("iframe");
  frame.src = "report.html"; frame.width = width; frame.height = 900;
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("name", ["path_report", "profile_report"])
def test_a_browser_draws_every_figure_without_errors_and_without_overflow(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    text = page_html(request.getfixturevalue(name)).replace("</head>", PROBE, 1)
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    (tmp_path / "frames.html").write_text(FRAMES, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += "--disable-component-update --disable-sync --virtual-time-budget=20000 --window-size=1400,2000 --dump-dom"
    command = [
        str(CHROMIUM),
        *flags.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"file://{tmp_path}/frames.html",
    ]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    answers = json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", page)[1]))  # type: ignore[index]
    assert sorted(answer["wide"] for answer in answers) == [390, 1280]
    for answer in answers:
        assert answer["needed"] <= answer["wide"]
        assert answer["errors"] == []
        assert answer["fetched"] == 0
        assert answer["drawn"] >= answer["places"] > 3
        assert answer["sorted"]
        assert answer["switched"]


# --- saving -----------------------------------------------------------------------------------------------------------


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_an_explanation_saves_six_files_and_the_maps_round_trip(path_report: Report, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    paths = save.save_report(path_report, out, command="xaisim explain")
    assert names_in(out) == set(save.RESULT_FILES) == {path.name for path in paths}
    assert names_in(out.parent) == {"out"}
    assert path_report.run.attribution is not None
    values, raw = np.load(out / "attribution.npy"), np.load(out / "attribution_raw.npy")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, path_report.attribution)
    assert raw.dtype == np.int16
    np.testing.assert_array_equal(raw, path_report.run.attribution.values)
    assert Report.load(out / "report.json").to_json() == path_report.to_json()
    with Image.open(out / "heatmap.png") as picture:
        picture.verify()


def test_a_profile_saves_page_report_and_timeline(profile_report: Report, tmp_path: Path) -> None:
    save.save_report(profile_report, tmp_path / "out")
    assert names_in(tmp_path / "out") == {"report.html", "report.json", "timeline.json"}


def test_a_forward_run_saves_a_picture_but_no_attribution(forward_report: Report, tmp_path: Path) -> None:
    save.save_report(forward_report, tmp_path / "out")
    assert names_in(tmp_path / "out") == {"report.html", "report.json", "timeline.json", "heatmap.png"}


@pytest.mark.parametrize(
    ("bits", "signed", "dtype"), [(8, True, "int8"), (8, False, "uint8"), (9, True, "int16"), (17, False, "uint32"),
                                  (33, True, "int64")],
)  # fmt: skip
def test_raw_integers_have_the_smallest_type_that_holds_the_format(bits: int, signed: bool, dtype: str) -> None:
    format = FixedPoint(bits, 4, signed)
    tensor = Tensor(np.array([[format.low, format.high]]), TensorType((2,), format))
    raw = save.raw_integers(tensor)
    assert raw.dtype == dtype
    assert raw.tolist() == [[format.low, format.high]]


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(profile_report: Report, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty \(it has notes.txt\); choose another folder or use --force"):
        save.save_report(profile_report, tmp_path)
    assert names_in(tmp_path) == {"notes.txt"}


def test_force_replaces_results_only_and_drops_those_of_another_run(profile_report: Report, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.json").write_text("old")
    (tmp_path / "attribution.npy").write_text("of an explanation that this profile is not")
    save.save_report(profile_report, tmp_path, force=True)
    assert names_in(tmp_path) == {"notes.txt", "report.html", "report.json", "timeline.json"}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert Report.load(tmp_path / "report.json").to_json() == profile_report.to_json()


def test_an_empty_folder_is_filled_without_force(profile_report: Report, tmp_path: Path) -> None:
    save.save_report(profile_report, tmp_path)
    assert names_in(tmp_path) == {"report.html", "report.json", "timeline.json"}


@pytest.mark.parametrize("existing", [False, True])
def test_nothing_half_written_is_left_when_writing_fails(
    existing: bool, profile_report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "report.json").write_text("old")
    monkeypatch.setattr(save, "write_timeline", full)
    with pytest.raises(UserError, match=r"out: cannot be written: No space left on device$"):
        save.save_report(profile_report, out, force=True)
    assert names_in(tmp_path) == ({"out"} if existing else set())
    if existing:
        assert names_in(out) == {"report.json"}
        assert (out / "report.json").read_text() == "old"


def test_a_file_in_the_way_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: is a file; results need a folder$"):
        save.check_directory(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot be made, .*file is a file$"):
        save.check_directory(tmp_path / "file" / "below" / "it")
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(UserError, match=r"report.html: is a folder where a result file should go$"):
        save.check_directory(tmp_path / "out", force=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    for path in (tmp_path / "locked", tmp_path / "locked" / "new"):
        with pytest.raises(UserError, match=r"permission denied$"):
            save.check_directory(path)


def test_new_folders_get_ordinary_permissions(profile_report: Report, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    save.save_report(profile_report, tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode
