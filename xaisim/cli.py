"""The command line: explain, profile, sweep, diff, bits, validate, show, list. Errors are one line each, exit code 2.

xaisim explain                       explains a shipped test image and writes pictures, page and report
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaisim.cli_explore import explore as explore_command
from xaisim.cli_sweep import sweep
from xaisim.cli_tools import learn_path, list_choices, rtl, study, validate
from xaisim.config import UserError
from xaisim.progress import RESULTS, Progress
from xaisim.version import __version__

if TYPE_CHECKING:
    from xaisim.experiment import Experiment
    from xaisim.report.diff import Diff
    from xaisim.report.report import Report


class _Group(click.Group):
    """Turns user errors of any command into one line per problem and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            problems = str(error).splitlines()
        except click.UsageError as error:
            message = " ".join(error.format_message().split()).rstrip(".")
            where = (error.ctx or ctx).command_path
            problems = [f"{message[:1].lower()}{message[1:]} (see '{where} --help')"]
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
        raise click.exceptions.Exit(2)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(name="xaisim", cls=_Group, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="xaisim")
def main() -> None:
    """Cycle-level simulator for explainable-AI accelerators: bit-accurate attributions, cycles and energy."""


main.add_command(explore_command)


def _experiment_options(command: Callable[..., None], *, numerics: bool = True) -> Callable[..., None]:
    """Add the options that describe an experiment; each overrides the workload's value."""
    options = [
        click.option("--workload", metavar="NAME|FILE", help="Named experiment to start from (see 'xaisim list')."),
        click.option("--model", metavar="NAME", help="Network.  [default: resnet18_tiny]"),
        click.option("--weights", metavar="FILE|random", help="A .safetensors or .pth file.  [default: what ships]"),
        click.option("--method", metavar="NAME", help="Attribution method.  [default: integrated_gradients]"),
        click.option(
            "--n-steps", metavar="N", type=int, help="integrated_gradients: points on the path.  [default: 50]"
        ),
        click.option("--rule", metavar="NAME", help="integrated_gradients: quadrature.  [default: riemann_middle]"),
        click.option(
            "--baseline",
            metavar="NAME|NUMBER",
            help="integrated_gradients: start of the path: black, white, mean, noise or a number after normalisation.  "
            "[default: black]",
        ),
        click.option("--layer", metavar="NAME", help="gradcam: feature map.  [default: the last one]"),
        click.option(
            "-O",
            "--option",
            "options",
            metavar="NAME=VALUE",
            multiple=True,
            help="Any other option of the method, e.g. -O n_intervals=8 (see 'xaisim list').",
        ),
        click.option("--target", metavar="CLASS", type=int, help="Class to explain.  [default: the predicted one]"),
        click.option("--arch", metavar="NAME|FILE", help="Architecture.  [default: pynq_z2]"),
        click.option(
            "--objective",
            type=click.Choice(["latency", "energy", "edp"]),
            help="What the mapping is chosen for.  [default: latency]",
        ),
        click.option("--mapping", metavar="FILE", help="A mapping, as 'xaisim show mapping' prints it."),
        click.option("--seed", metavar="N", type=int, help="Seed of random weights.  [default: 0]"),
    ]
    if numerics:
        help = "fixed16, fixed8, q16.8, a .yaml file; changed: fixed8:gradients=16,rounding=trn  [default: fixed16]"
        options.insert(-1, click.option("--numerics", metavar="NAME|FORMAT|FILE", help=help))
    for option in reversed(options):
        command = option(command)
    return command


def _remap_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option that makes sensitivity thorough."""
    help = "For 10% more of each resource also search for the best mapping anew, sizes of memories included (slow)."
    return click.option("--remap", is_flag=True, help=help)(command)


def _result_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options on where the result goes."""
    command = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON and nothing else.")(
        command
    )
    command = click.option("--force", is_flag=True, help="Replace an existing result in the output directory.")(command)
    return click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Where results go.")(
        command
    )


def _experiment(workload: str | None, settings: dict[str, Any]) -> Experiment:
    """Return the workload with the given options on top."""
    from xaisim.api import experiment_of
    from xaisim.experiment import load_experiment

    with suppress(ValueError, TypeError):  # a name, or nothing
        settings["baseline"] = float(settings["baseline"])
    settings["options"] = _named_values(settings["options"]) or None
    if workload is None:
        return experiment_of(**settings)
    base: Experiment = load_experiment(workload)
    start = base.model_dump(exclude_defaults=True, mode="json")
    given = {name: value for name, value in settings.items() if value is not None}
    if given.get("method", base.method) != base.method:
        start.pop("options", None)  # they were meant for another method
    return experiment_of(**{**start, **given})


def _named_values(texts: tuple[str, ...]) -> dict[str, Any]:
    """Read NAME=VALUE as YAML would: numbers as numbers."""
    from ruamel.yaml import YAML

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f"--option {text!r}: an option is written NAME=VALUE, e.g. n_intervals=8")
        found[name.replace("-", "_")] = YAML(typ="safe").load(value)
    return found


@main.command(short_help="Explain an image on an accelerator: maps, fidelity, cycles, energy.")
@click.argument("image", required=False)
@_experiment_options
@_remap_option
@click.option("--check-memory", is_flag=True, help="Also run the schedule on modelled memories; every bit must agree.")
@_result_options
def explain(
    image: str | None,
    output: Path | None,
    workload: str | None,
    force: bool,
    as_json: bool,
    remap: bool,
    check_memory: bool,
    **settings: Any,
) -> None:
    """Explain IMAGE in fixed point on an accelerator, against a float64 reference.

    IMAGE is a PNG, JPEG or .npy file, or scene:N for a shipped test scene (scene:0 if not given). Writes
    heatmap.png, report.html, report.json, attribution.npy, attribution_raw.npy and timeline.json into DIR, by default
    a folder under xaisim-results/ that is named after the experiment.

    \b
    xaisim explain photo.png --method saliency --arch zcu104
    xaisim explain --workload cifar_cnn_ig --numerics fixed8 -o result
    """
    from xaisim.flow import check_memory as run_on_memories
    from xaisim.flow import explain as run
    from xaisim.report.cycles import with_sensitivity
    from xaisim.report.save import check_directory, save_report

    experiment = _experiment(workload, {"image": image, **settings})
    check_directory(output or RESULTS / "any", force=force)  # before a minute of work, not after
    with Progress(quiet=as_json) as progress:
        checked = run_on_memories(experiment, progress=progress) if check_memory else ()
        report = run(experiment, progress=progress)
        progress("what more of each resource would buy", 0, 1)
        report = with_sensitivity(report, remap=remap)
        progress("write the pictures and the page", 0, 1)
        # A directory named by its content hash can only ever hold this very result.
        where = output or RESULTS / f"{report.model}-{report.method}-{report.architecture}-{report.meta.hash}"
        save_report(report, where, force=force or output is None, command=_command())
    _show(report, where, as_json=as_json)
    for each in checked:
        click.echo(f"modelled memories: {each}", err=as_json)
    if as_json and output is None:
        click.echo(f"written to {where}", err=True)  # a script that names no folder has to learn which it is


@main.command(short_help="Time a model, method and architecture without computing values.")
@_experiment_options
@_remap_option
@_result_options
def profile(
    output: Path | None, workload: str | None, force: bool, as_json: bool, remap: bool, **settings: Any
) -> None:
    """Time a model, method and architecture without computing values: cycles, traffic and energy alone.

    Writes report.html, report.json and timeline.json into DIR, if given.

    \b
    xaisim profile --model inception_v3 --method integrated_gradients --arch edge_systolic_32
    """
    from xaisim.flow import profile as run
    from xaisim.report.cycles import with_sensitivity

    experiment = _experiment(workload, settings)
    if output is not None:
        from xaisim.report.save import check_directory, save_report

        check_directory(output, force=force)
    with Progress(quiet=as_json) as progress:
        report = run(experiment, progress=progress)
        progress("what more of each resource would buy", 0, 1)
        report = with_sensitivity(report, remap=remap)
        if output is not None:
            save_report(report, output, force=force, command=_command())
    _show(report, output, as_json=as_json)


@main.command(short_help="Find where two runs part: float, number formats, rounding modes.")
@click.argument("a")
@click.argument("b")
@click.option("--image", metavar="FILE|scene:N", help="A PNG, JPEG or .npy file, or a test scene.  [default: scene:0]")
@click.option("--split/--no-split", default=None, help="Run each half alone as in B.  [default: where A or B is float]")
@click.option("--rows", metavar="N", type=click.IntRange(min=1), default=60, help="Lines to print.  [default: 60]")
@partial(_experiment_options, numerics=False)
@_result_options
@click.pass_context
def diff(
    context: click.Context,
    a: str,
    b: str,
    split: bool | None,
    rows: int,
    output: Path | None,
    workload: str | None,
    force: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run one method as A and as B and compare every tensor that both make, forward and backward.

    A and B are "float" or what --numerics takes elsewhere, changed key by key behind a colon; with ":naive" at the end
    the definitions compute instead of the fast kernels. A is the reference.
    Prints the first difference, where the SQNR falls most, and per tensor SQNR, largest error in LSB (of B, or of A
    where B is float), saturated and zero values, flipped ReLU masks and pool indices. Writes diff.json, diff.png and
    diff.html into DIR, if given. Exits with 0 where nothing differs, 1 where something does, 2 after an error.

    \b
    xaisim diff --model cifar_cnn --method saliency float fixed8
    xaisim diff --model cifar_cnn --method saliency fixed16 fixed16:overrides.relu3=trn
    """
    from xaisim.compare import diff as run
    from xaisim.report.diff_page import DIFF_FILES, save_diff

    experiment = _experiment(workload, settings)
    if output is not None:
        from xaisim.report.save import check_directory

        check_directory(output, DIFF_FILES, force=force)
    with Progress(quiet=as_json) as progress:
        found = run(experiment, a, b, split=split, progress=progress)
        if output is not None:
            save_diff(found, output, force=force, command=_command())
    if as_json:
        click.echo(found.to_json())
    else:
        _show_diff(found, rows)
        if output is not None:
            click.echo(f"\nwritten to {output}")
    context.exit(0 if found.equal else 1)


def _show_diff(found: Diff, rows: int) -> None:
    """Print the facts and the table."""
    from rich.console import Console

    from xaisim.report.diff_text import facts_of, table_of

    for name, text in facts_of(found):
        click.echo(f"{name:14s}{text}")
    click.echo()
    table = table_of(found, rows)
    width = Console(width=1000).measure(table).maximum  # a narrow terminal wraps lines: nothing is cut off
    Console(highlight=False, width=width).print(table)


@main.command(short_help="Print the graph, architecture, mapping or schedule of an experiment.")
@click.argument("noun", type=click.Choice(["graph", "arch", "mapping", "schedule"]))
@click.option("--rows", metavar="N", type=click.IntRange(min=1), default=40, help="Tiles of a schedule.  [default: 40]")
@_experiment_options
def show(noun: str, rows: int, workload: str | None, **settings: Any) -> None:
    """Print a noun on the way from model to cycles.

    \b
    graph     the kernels that are launched, every tensor with its fixed-point format
    arch      the architecture: clock, array, memories
    mapping   the loop nest of every layer, as a file for --mapping
    schedule  the tiles in program order and what each waits for
    """
    from xaisim.show import show_noun

    click.echo(show_noun(noun, _experiment(workload, settings), rows))


@main.command(short_help="Find the fewest bits with which explanations are as faithful as wished.")
@click.option("--sqnr", metavar="DB", type=float, help="Least median signal-to-noise ratio against float64.")
@click.option("--spearman", metavar="R", type=float, help="Least median rank correlation with float64.")
@click.option("--scenes", metavar="N", type=int, default=8, help="Calibration scenes to search on.  [default: 8]")
@click.option("--validate", metavar="N", type=int, default=32, help="Test scenes to judge it on.  [default: 32]")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the numerics as YAML.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
@_experiment_options
def bits(
    sqnr: float | None,
    spearman: float | None,
    scenes: int,
    validate: int,
    output: Path | None,
    force: bool,
    as_json: bool,
    workload: str | None,
    **settings: Any,
) -> None:
    """Find the fewest bits per class of tensors with which explanations are as faithful to float64 as wished.

    Starts from --numerics and lowers the widths that move the most bits first. Every point tried is printed, and what
    was found is judged on scenes that the search did not see. The file it writes is one for --numerics.

    \b
    xaisim bits --model cifar_cnn --method saliency --sqnr 30 -o mine.yaml
    xaisim explain --model cifar_cnn --method saliency --numerics mine.yaml
    """
    from xaisim.bits import fewest_bits
    from xaisim.report.bits import bits_text, numerics_yaml
    from xaisim.report.save import check_yaml

    wish = {"sqnr_db": sqnr, "spearman": spearman}
    experiment = _experiment(workload, settings)
    if output is not None:
        check_yaml(output, force=force)
    with Progress(quiet=as_json) as progress:
        given = {name: least for name, least in wish.items() if least is not None}
        found = fewest_bits(experiment, given, scenes=scenes, validation=validate, progress=progress)
    if output is not None:
        output.write_text(numerics_yaml(found), encoding="utf-8")
    click.echo(found.to_json() if as_json else bits_text(found))
    if output is not None and not as_json:
        click.echo(f"\nwritten to {output}")


for command in (sweep, learn_path, validate, study, rtl, list_choices):
    main.add_command(command)


def _command() -> str:
    return shlex.join(["xaisim", *sys.argv[1:]])


def _show(report: Report, where: Path | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.to_json())
        return
    from xaisim.show import report_text

    click.echo(report_text(report))
    if where is not None:
        click.echo(f"\nwritten to {where}")
