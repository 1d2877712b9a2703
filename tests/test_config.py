"""Does every mistake in a file get one clear line, and does every right file load?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from xaisim.config import (
    Bytes,
    Config,
    RuleError,
    UserError,
    choose,
    data_root,
    find_named,
    format_bytes,
    json_schema,
    load_data,
    load_yaml,
    parse_bytes,
    shipped_names,
)


class Shade(StrEnum):
    DARK = "dark"
    LIGHT = "light"


class Disk(Config):
    kind: Literal["disk"]
    size: Bytes


class Tape(Config):
    kind: Literal["tape"]
    metres: float = Field(gt=0)


class Machine(Config):
    name: str
    cores: int = Field(ge=1)
    shade: Shade = Shade.DARK
    turbo: bool = False
    stores: tuple[Annotated[Disk | Tape, Field(discriminator="kind")], ...] = ()
    fans: dict[str, int] = Field(default_factory=dict)
    spare: Tape | None = None

    @model_validator(mode="after")
    def _check(self) -> Machine:
        if self.turbo and self.cores < 2:
            raise RuleError([(("turbo",), "turbo needs two cores"), ((), "so it cannot start")])
        return self


def load(text: str) -> Machine:
    return load_yaml(Machine, "m.yaml", text=text)


def problems(text: str) -> list[str]:
    with pytest.raises(UserError) as error:
        load(text)
    return str(error.value).splitlines()


def test_a_right_file_becomes_the_noun(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "name: big\ncores: 0x10\nshade: light\nturbo: true\nfans: {a: 1}\nspare: {kind: tape, metres: 2}\n"
        "stores:\n  - {kind: disk, size: 1.5MiB}\n  - kind: tape\n    metres: 3\n",
        encoding="utf-8",
    )
    machine = load_yaml(Machine, path)
    assert machine == Machine(
        name="big",
        cores=16,
        shade=Shade.LIGHT,
        turbo=True,
        fans={"a": 1},
        spare=Tape(kind="tape", metres=2.0),
        stores=(Disk.model_validate({"kind": "disk", "size": "1536KiB"}), Tape(kind="tape", metres=3.0)),
    )


def test_yaml_1_2_reads_no_and_010_and_12_30_as_written() -> None:
    machine = load("name: no\ncores: 010\nspare:\nshade: light")
    assert (machine.name, machine.cores, machine.spare) == ("no", 10, None)
    assert load("name: 12:30\ncores: 1").name == "12:30"
    assert load("name: 2020-01-01\ncores: 1").name == "2020-01-01"


def test_every_problem_is_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
name: 7
cors: 4
shade: drak
stores:
  - kind: disk
    size: 128
  - kind: tap
  - {kind: tape, metres: -1, colour: red}
fans: {left: x}
"""
    assert problems(text) == [
        "m.yaml:1:1: cores: required key missing",
        "m.yaml:1:7: name: must be a valid string (got 7)",
        "m.yaml:2:1: cors: unknown key; did you mean 'cores'? choices: name, cores, shade, turbo, stores, fans, spare",
        "m.yaml:3:8: shade: must be one of dark, light (got 'drak'); did you mean 'dark'?",
        "m.yaml:6:11: stores[0].size: missing unit; write e.g. 128KiB (got 128)",
        "m.yaml:7:11: stores[1].kind: must be one of disk, tape (got 'tap'); did you mean 'tape'?",
        "m.yaml:8:26: stores[2].metres: must be greater than 0 (got -1)",
        "m.yaml:8:30: stores[2].colour: unknown key; choices: kind, metres",
        "m.yaml:9:14: fans.left: must be a valid integer (got 'x')",
    ]


GOOD = "name: a\ncores: 1\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "m.yaml:1:1: empty file; expected a mapping of keys to values"),
        ("# nothing\n", "m.yaml:1:1: empty file; expected a mapping of keys to values"),
        ("- a\n", "m.yaml:1:1: expected a mapping of keys to values"),
        ("\n17", "m.yaml:2:1: expected a mapping of keys to values"),
        ("a: [1\nb: 2", "m.yaml:2:2: YAML syntax: expected ',' or ']', but got ':', while parsing a flow sequence"),
        ("a: 1\n  b: 2", "m.yaml:2:4: YAML syntax: mapping values are not allowed here"),
        (GOOD + "---\nb: 1", "m.yaml:3:1: YAML syntax: but found another document, "
         "expected a single document in the stream"),
        ("a: *b", "m.yaml:1:4: YAML syntax: found undefined alias 'b'"),
        ("a: " + "[" * 5000, "m.yaml: nested too deeply"),
        (GOOD + "cores: 2", "m.yaml:3:1: cores: duplicate key; first given in line 2"),
        (GOOD + "fans: {a: 1, a: 2}", "m.yaml:3:14: fans.a: duplicate key; first given in line 3"),
        (GOOD + "? [x]\n: 1", "m.yaml:3:3: a key must be a plain word"),
        ("name: &x a\ncores: *x", "m.yaml:2:1: cores: aliases (*name) are not read; write the value out"),
        ("name: !!python/name:os.system a\ncores: 1",
         "m.yaml:1:7: name: tags such as python/name:os.system are not read"),
        ('name: "\\ud800"\ncores: 1', "m.yaml:1:7: name: not Unicode text"),
        ("name: a\ncores: 1.0", "m.yaml:2:8: cores: must be a valid integer (got 1.0)"),
        ("name: a\ncores: '1'", "m.yaml:2:8: cores: must be a valid integer (got '1')"),
        ("name: a\ncores: true", "m.yaml:2:8: cores: must be a valid integer (got true)"),
        ("name: a\ncores: 0", "m.yaml:2:8: cores: must be greater than or equal to 1 (got 0)"),
        ("name: a\ncores:", "m.yaml:2:7: cores: must be a valid integer (got nothing)"),
        ("name: [a]\ncores: 1", "m.yaml:1:7: name: must be a valid string (got a list)"),
        (GOOD + "turbo: yes", "m.yaml:3:8: turbo: must be a valid boolean (got 'yes')"),
        (GOOD + "spare: {kind: tape, metres: .inf}", "m.yaml:3:29: spare.metres: must be a finite number (got inf)"),
        (GOOD + "spare: {kind: tape}", "m.yaml:3:8: spare.metres: required key missing"),
        (GOOD + "spare: {kind: tape, metres: 1, meters: 1}",
         "m.yaml:3:32: spare.meters: unknown key; did you mean 'metres'? choices: kind, metres"),
        (GOOD + "stores: [{size: 1KiB}]", "m.yaml:3:10: stores[0].kind: required key missing"),
        (GOOD + "stores: [{kind: disk, size: 1kb}]",
         "m.yaml:3:29: stores[0].size: unknown unit 'kb'; choices: B, KiB, MiB, GiB (got '1kb')"),
        (GOOD + "stores: [{kind: disk, size: big}]",
         "m.yaml:3:29: stores[0].size: must be a size such as 128KiB (got 'big')"),
        (GOOD + "stores: [{kind: disk, size: 0B}]",
         "m.yaml:3:29: stores[0].size: must be a whole number of bytes, at least 1 (got '0B')"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(text: str, line: str) -> None:
    assert problems(text) == [line]


def test_rules_between_keys_point_at_the_key() -> None:
    assert problems("name: a\ncores: 1\nturbo: true") == [
        "m.yaml:1:1: so it cannot start",
        "m.yaml:3:8: turbo: turbo needs two cores",
    ]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: cannot be read: No such file or directory$"):
        load_yaml(Machine, tmp_path / "absent.yaml")
    with pytest.raises(UserError, match=r": cannot be read: Is a directory$"):
        load_yaml(Machine, tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"cores: 1\nname: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml:2:1: not UTF-8 text \(byte 0xe9\)$"):
        load_yaml(Machine, latin)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\ncores: 3\r\n")
    assert load_yaml(Machine, path).cores == 3


@given(st.text(max_size=60))
def test_any_text_gives_a_noun_or_a_user_error(text: str) -> None:
    lines = ["m.yaml"]
    try:
        load(text)
    except UserError as error:
        lines = str(error).splitlines()
    assert all(line.startswith("m.yaml") for line in lines)


def test_plain_data_loads_and_its_errors_name_the_options() -> None:
    assert load_data(Machine, {"name": "a", "cores": 2}).cores == 2
    with pytest.raises(UserError) as error:
        load_data(Machine, {"name": "a", "cores": 0, "x": 1}, "--set")
    assert str(error.value).splitlines() == [
        "--set: cores: must be greater than or equal to 1 (got 0)",
        "--set: x: unknown key; choices: name, cores, shade, turbo, stores, fans, spare",
    ]


def test_a_noun_is_frozen_and_survives_a_dump() -> None:
    machine = load(GOOD + "stores: [{kind: disk, size: 4MiB}]")
    with pytest.raises(ValidationError, match="frozen"):
        machine.cores = 2  # type: ignore[misc]
    assert machine.model_dump(mode="json")["stores"] == [{"kind": "disk", "size": "4MiB"}]
    assert load_data(Machine, machine.model_dump(mode="json")) == machine


@given(st.integers(1, 1 << 50))
def test_a_formatted_size_reads_back(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


def test_sizes_are_binary() -> None:
    assert [parse_bytes(text) for text in ("512B", "128KiB", "4 MiB", "2GiB")] == [512, 131072, 4194304, 2147483648]
    assert format_bytes(131072) == "128KiB"


def test_choose_names_the_nearest_and_all_choices() -> None:
    assert choose("model", "resnet18", ["resnet18", "cifar_cnn"]) == "resnet18"
    with pytest.raises(UserError) as error:
        choose("model", "resnt18", ["resnet18", "cifar_cnn"])
    assert str(error.value) == "unknown model 'resnt18'; did you mean 'resnet18'? choices: resnet18, cifar_cnn"
    with pytest.raises(UserError) as error:
        choose("model", "vit", ["resnet18", "cifar_cnn"])
    assert str(error.value) == "unknown model 'vit'; choices: resnet18, cifar_cnn"
    with pytest.raises(UserError, match="did you mean 'ResNet'"):
        choose("model", "RESNET", ["ResNet"])


def test_a_shipped_name_or_a_path_finds_its_file(tmp_path: Path) -> None:
    assert find_named("arch_configs", "pynq_z2") == data_root() / "arch_configs" / "pynq_z2.yaml"
    mine = tmp_path / "mine.yaml"
    mine.write_text(GOOD, encoding="utf-8")
    assert find_named("arch_configs", mine) == mine
    assert "pynq_z2" in shipped_names("arch_configs")
    assert shipped_names("arch_configs/costs") == ("asic_45nm",)


def test_an_unknown_name_or_path_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^unknown architecture 'pynq'; did you mean 'pynq_z2'\? choices: edge_"):
        find_named("arch_configs", "pynq", kind="architecture")
    with pytest.raises(UserError, match=r"none\.yaml: no such file; architecture choices: edge_"):
        find_named("arch_configs", tmp_path / "none.yaml", kind="architecture")
    with pytest.raises(UserError, match=r": is a folder; arch_configs choices: "):
        find_named("arch_configs", tmp_path)


def test_the_schema_for_editors_refuses_unknown_keys_and_wants_units() -> None:
    schema = json_schema(Machine)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Disk"]["properties"]["size"]["pattern"].endswith("(B|KiB|MiB|GiB)$")


@pytest.mark.parametrize("number", ["100000000000000000000", "-1e13", "1e-30"])
def test_a_number_that_no_machine_has_is_told(number: str) -> None:
    class Rate(Config):
        rate: float

    with pytest.raises(UserError, match=r"rate: must be 0 or between 1e-09 and 1e\+12 in size \(got "):
        load_yaml(Rate, "a.yaml", text=f"rate: {number}\n")
