"""The commands that run no experiment of the user's: fit-path, validate, study, rtl, list.

xaisim study nuig --quick            regenerates the headline comparison of a published system
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from xaisim.config import UserError
from xaisim.progress import RESULTS, Progress
from xaisim.version import __version__


@click.command(name="fit-path", short_help="Learn where a model's paths bend, for --method riemann_opt.")
@click.argument("model")
@click.option("--weights", metavar="FILE|random", help="A .safetensors or .pth file.  [default: what ships]")
@click.option("--baseline", metavar="NAME|NUMBER", default="black", help="Start of the paths.  [default: black]")
@click.option("--scenes", metavar="N", type=int, default=16, help="Calibration scenes to learn from.  [default: 16]")
@click.option("--parts", metavar="N", type=int, default=32, help="Parts of the path with a density.  [default: 32]")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the table as YAML.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def learn_path(
    model: str, weights: str | None, baseline: str, scenes: int, parts: int, output: Path | None, force: bool
) -> None:
    """Learn once per model how densely points should lie along its paths, so that no picture needs a probe.

    Prints the table, or writes it to FILE for "--method riemann_opt -O table=FILE". It serves any number of points.

    \b
    xaisim fit-path resnet18_tiny -o mine.yaml
    xaisim explain --method riemann_opt -O table=mine.yaml --n-steps 16
    """
    from xaisim.experiment import checked_baseline
    from xaisim.fit_path import fit_path, table_yaml
    from xaisim.report.save import check_yaml

    start: float | str = baseline
    with suppress(ValueError):
        start = float(baseline)
    try:
        checked_baseline(start)
    except ValueError as error:
        raise UserError(f"baseline {baseline!r}: {error}") from None
    if output is not None:
        check_yaml(output, what="a table is", force=force)
    with Progress(quiet=False) as progress:
        table = fit_path(model, weights=weights, baseline=start, scenes=scenes, parts=parts, progress=progress)
    if output is None:
        click.echo(table_yaml(table).rstrip())
    else:
        output.write_text(table_yaml(table), encoding="utf-8")
        click.echo(f"written to {output}")


@click.command(short_help="Hold the simulator against closed forms, RTL and measured chips.")
@click.option("--only", metavar="NAME", multiple=True, help="Run this section only; may be given several times.")
@click.option("-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write the page as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print the sections as JSON and nothing else.")
@click.pass_context
def validate(context: click.Context, only: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Hold the simulator against what others published, measured or simulated, section by section.

    Writes the page, and a picture per section beside it, if FILE is given. A section whose optional packages are not
    installed says so. Exits with 0, with 1 where something that must be equal is not, with 2 after an error.

    \b
    xaisim validate --only closed_forms
    xaisim validate -o docs/validation.md
    """
    from xaisim.validate import chosen, run
    from xaisim.validate.page import check_page, section_text, write_page

    names = chosen(only)
    if output is not None:
        check_page(output)
    with Progress(quiet=as_json) as progress:
        sections = {}
        for number, name in enumerate(names):
            progress("validate", number, len(names))
            sections[name] = run(name)
    holds = all(section.exact is not False for section in sections.values())
    if output is not None:
        write_page(sections, output)
    if as_json:
        data = {"version": __version__, "holds": holds, "sections": {n: s.to_dict() for n, s in sections.items()}}
        click.echo(json.dumps(data, indent=1))
    elif output is None:
        click.echo("\n".join(section_text(section) for section in sections.values()).rstrip())
    else:
        for section in sections.values():
            click.echo(f"{section.title}: {section.verdict}")
        click.echo(f"\nwritten to {output}")
    context.exit(0 if holds else 1)


@click.command(short_help="Regenerate the headline comparison of a published system.")
@click.argument("name")
@click.option("--quick", is_flag=True, help="Fewer pictures, networks and machines: minutes instead of hours.")
@click.option("--model", "models", metavar="NAME", multiple=True, help="This network only; may be given several times.")
@click.option(
    "--arch", "archs", metavar="NAME|FILE", multiple=True, help="This machine only; may be given several times."
)
@click.option("--images", metavar="DIR", type=click.Path(path_type=Path), help="Your pictures instead of the shipped.")
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="How many pictures.")
@click.option("--weights", metavar="FILE", help="Weights of the one network that --model names.")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Where results go.")
@click.option("--json", "as_json", is_flag=True, help="Print the study as JSON and nothing else.")
def study(name: str, output: Path | None, as_json: bool, **settings: Any) -> None:
    """Run a study: a published system's headline comparison, on networks that ship, with a better point beside it.

    \b
    nuig          Integrated Gradients with more points where F changes
    gradcam       static GradCAM beside inference
    edge          saliency, DeconvNet and guided backprop on three boards
    smoothtaylor  SmoothTaylor and adaptive noising
    idg           Integrated Decision Gradients

    Writes a table, a picture and JSON into DIR, by default a folder under xaisim-results/. What is computed is kept
    there piece by piece: a study that was stopped goes on where it was when the command is given again.
    """
    from xaisim.studies.listed import run
    from xaisim.studies.save import opened, save_study
    from xaisim.studies.study import Setting, study_text

    setting = Setting(**settings)
    where = output or RESULTS / f"study-{name}{'-quick' if setting.quick else ''}"
    with Progress(quiet=as_json) as progress, opened(name, where, setting) as cells:
        found = run(name, setting, cells, progress)
        save_study(found, where)
    if as_json:
        click.echo(found.to_json())
    else:
        click.echo(study_text(found))
        click.echo(f"written to {where}")


@click.command(short_help="Write the systolic array of an architecture as Verilog.")
@click.argument("arch")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Where it goes.")
@click.option("--dataflow", metavar="os|ws|is", help="Instead of the architecture's.")
@click.option("--folds", metavar="serialised|pipelined", help="Instead of the architecture's.")
@click.option("--rows", metavar="N", type=int, help="Instead of the architecture's.")
@click.option("--cols", metavar="N", type=int, help="Instead of the architecture's.")
@click.option("--inputs", metavar="FORMAT", help="q8 or u8: 8 bits, signed or not.  [default: as the multipliers]")
@click.option("--weights", metavar="FORMAT", help="As --inputs.")
@click.option("--outputs", metavar="FORMAT", help="As --inputs.")
@click.option("--rounding", metavar="MODE", default="rnd", help="Of the outputs.  [default: rnd]")
@click.option("--overflow", metavar="MODE", default="sat", help="Of the outputs.  [default: sat]")
@click.option("--lift", metavar="BITS", type=int, default=0, help="For weights with a scale per channel.  [default: 0]")
@click.option("--force", is_flag=True, help="Replace an existing result in the output directory.")
@click.option("--json", "as_json", is_flag=True, help="Print parameters and files as JSON and nothing else.")
def rtl(arch: str, output: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Write the systolic array of ARCH as Verilog, with a testbench and a page on its ports.

    ARCH is a name or a file. Cycles and bits are those of the simulator: see docs/rtl.md.

    \b
    xaisim rtl edge_systolic_16_ws -o array
    xaisim rtl edge_systolic_16 -o array --rows 8 --cols 8 --inputs u8 --weights q8 --outputs u8
    """
    from xaisim.report.save import check_directory, save_files
    from xaisim.rtl.generate import RTL_FILES, files_of, write_texts

    check_directory(output, RTL_FILES, force=force)
    design, texts = files_of(arch, options)
    save_files(output, RTL_FILES, partial(write_texts, texts), force=force)
    if as_json:
        click.echo(json.dumps({"parameters": design.parameters(), "files": sorted(texts)}))
    else:
        click.echo(f"{design.array}\n\nwritten to {output}")


@click.command(name="list", short_help="List what ships, by name.")
def list_choices() -> None:
    """List what ships: models, methods, architectures, workloads, spaces, rules, numerics."""
    from xaisim.show import choices_text

    click.echo(choices_text())
