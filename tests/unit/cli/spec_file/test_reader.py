"""Deployment files as requests: every value as it is written, every refusal with its line."""

from __future__ import annotations

import json
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.cli.core.failures import WrongUsage, describe
from hypervisor.cli.spec_file import values
from hypervisor.cli.spec_file.fields import CONVERTERS, OLD_NAMES
from hypervisor.cli.spec_file.reader import read_file
from hypervisor.deployments.schemas.requests import DeploymentCreate

# What YAML 1.1 turns into another value, or what a person may take for one.
SPELLINGS = [
    *(
        "NO",
        "no",
        "yes",
        "Yes",
        "on",
        "off",
        "true",
        "FALSE",
        "y",
        "0644",
        "1.10",
        "1.0",
        "12:30:45",
        "190:20:30",
    ),
    *(
        "1_000",
        "0o17",
        "0x1F",
        "0b101",
        "1e3",
        "1E+3",
        "+1",
        "-1",
        ".5",
        "5.",
        ".inf",
        "-.Inf",
        ".NaN",
        "nan",
        "00",
    ),
    *(
        "2026-01-01",
        "2026-01-01T10:00:00Z",
        "=",
        "685.230_15e+03",
        "1,000",
        "0.1.2",
        "1:2",
        "a:b",
        "a#b",
        "x!y",
    ),
    *("123456789012345678901234567890", "--", "--flag", "-x"),
]


def write_file(folder: Path, text: str | bytes) -> str:
    path = folder / "work.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def read_one(folder: Path, text: str) -> dict[str, Any]:
    (request,) = read_file(write_file(folder, text)).requests
    return request


def refusal(folder: Path, text: str | bytes) -> str:
    """The error line without the path, which stands first."""
    path = write_file(folder, text)
    with pytest.raises(WrongUsage) as caught:
        read_file(path)
    code, line = describe(caught.value)
    assert code == 2
    assert line.startswith(f"{path}:")
    assert "\n" not in line
    return line.removeprefix(path)


def test_a_file_with_one_deployment(tmp_path: Path) -> None:
    text = "name: train\nimage: busybox\ncpu: 2\nram: 4\ngpu: 0.5\ncommand: [python, t.py, 'a b']\n"
    assert read_one(tmp_path, text) == {
        "name": "train",
        "docker_image": "busybox",
        "required_cpu_cores": 2,
        "required_ram_gb": 4,
        "required_gpu_count": 0.5,
        "command": ["python", "t.py", "a b"],
    }


def test_keys_beside_the_list_are_defaults_for_every_deployment(tmp_path: Path) -> None:
    text = "cluster: lab\npriority: LOW\ngpu: 1\ndeployments:\n- name: a\n- name: b\n  priority: HIGH\n"
    text += "  required_gpu_count: 2\n"
    assert read_file(write_file(tmp_path, text)).requests == [
        {"cluster": "lab", "priority": "LOW", "required_gpu_count": 1, "name": "a"},
        {"cluster": "lab", "priority": "HIGH", "required_gpu_count": 2, "name": "b"},
    ]


def test_several_documents_and_lists(tmp_path: Path) -> None:
    names = [
        each["name"]
        for each in read_file(write_file(tmp_path, "name: a\n---\n- name: b\n- name: c\n")).requests
    ]
    assert names == ["a", "b", "c"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_text_keeps_its_spelling_in_every_field(tmp_path: Path, spelling: str) -> None:
    request = read_one(
        tmp_path,
        f"name: {spelling}\nimage: {spelling}\ngpu_model: {spelling}\ncluster: {spelling}\n"
        f"env:\n  A: {spelling}\n  S:\n    value: {spelling}\n    secret: true\n"
        f"labels:\n  a: {spelling}\nnode_selector:\n  a: {spelling}\n"
        f"command:\n- {spelling}\n- {spelling}\n",
    )
    secret = {"value": spelling, "secret": True}
    assert request["env"] == {"A": spelling, "S": secret}
    assert request["labels"] == request["node_selector"] == {"a": spelling}
    assert request["command"] == [spelling, spelling]
    assert {request[name] for name in ("name", "docker_image", "gpu_model", "cluster")} == {spelling}


@pytest.mark.parametrize("key", ["NO", "0644", "1.10", "2026-01-01", "on"])
def test_a_key_keeps_its_spelling(tmp_path: Path, key: str) -> None:
    assert read_one(tmp_path, f"name: a\nlabels:\n  {key}: x\n")["labels"] == {key: "x"}


def test_nothing_is_an_empty_text_and_null_is_refused_with_the_fix(tmp_path: Path) -> None:
    assert read_one(tmp_path, "name: a\nenv:\n  A:\n  B: ''\n")["env"] == {"A": "", "B": ""}
    for null in ("~", "null", "Null", "NULL"):
        line = refusal(tmp_path, f"name: a\nenv:\n  A: {null}\n")
        assert line == f':3: env.A is null: write "{null}" in quotes, or "" for an empty text'
        assert read_one(tmp_path, f'name: a\nenv:\n  A: "{null}"\n')["env"] == {"A": null}
    assert "command[1] is null" in refusal(tmp_path, "name: a\ncommand: [ls, ~]\n")
    assert "labels.a is null" in refusal(tmp_path, "name: a\nlabels: {a: null}\n")


def test_a_field_without_a_value_is_left_out(tmp_path: Path) -> None:
    assert read_one(tmp_path, "name: a\nimage:\nenv: ~\ncommand: null\n") == {"name": "a"}


def test_block_scalars_keep_their_lines_and_folded_ones_are_folded(tmp_path: Path) -> None:
    text = "name: a\nenv:\n  A: |\n    one  \n    two\n  B: >-\n    one\n    two\n  C: plain   \n"
    assert read_one(tmp_path, text)["env"] == {"A": "one  \ntwo\n", "B": "one two", "C": "plain"}
    windows = read_one(tmp_path, "name: a\ncommand: |\n  one\n  two\n".replace("\n", "\r\n"))
    assert windows["command"] == "one\ntwo\n"


@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40))
def test_what_another_program_writes_arrives_unchanged(
    value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = {"name": "a", "env": {"A": value}, "command": ["echo", value], "labels": {"l": value}}
    folder = tmp_path_factory.getbasetemp()
    for text in (
        json.dumps(document),
        yaml.safe_dump(document),
        yaml.safe_dump(document, allow_unicode=False),
    ):
        assert read_one(folder, text) == document


@given(value=st.text("0123456789abefinoxyNOY._:+-~=,", min_size=1, max_size=8))
def test_a_plain_scalar_is_its_spelling_or_is_refused(
    value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = f"name: a\nenv:\n  A: {value}\n"
    try:
        spelled = yaml.load(text, yaml.BaseLoader)["env"]["A"]
    except yaml.YAMLError:
        return
    if not isinstance(spelled, str) or spelled == "~":
        return
    assert read_one(tmp_path_factory.getbasetemp(), text)["env"] == {"A": spelled}


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("+1", 1), ("0.5", 0.5), (".5", 0.5), ("1.", 1.0), ("1e-1", 0.1), ("1E1", 10.0), ("-1", -1)],
)
def test_numbers_are_decimal(tmp_path: Path, text: str, value: float) -> None:
    assert read_one(tmp_path, f"name: a\ncpu: {text}\n")["required_cpu_cores"] == value


@pytest.mark.parametrize(
    "text",
    ["0644", "0x1F", "0o17", "1_000", "12:30", ".inf", ".nan", "1e999", "yes", "two", '"2"', "[2]", "1 2"],
)
def test_a_number_that_is_not_decimal_is_refused_by_name(tmp_path: Path, text: str) -> None:
    for field in ("cpu", "ram", "replicas", "max_runtime_seconds"):
        assert f":2: {field} must be" in refusal(tmp_path, f"name: a\n{field}: {text}\n")


def test_a_port_mapping_is_not_a_number(tmp_path: Path) -> None:
    line = refusal(tmp_path, "name: a\nports:\n- 80\n- 22:22\n")
    assert line == ":4: ports[1] must be a whole number in decimal digits, not '22:22'"
    assert read_one(tmp_path, "name: a\nports: [80, 8080]\n")["ports"] == [80, 8080]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("yes", True), ("No", False), ("off", False)])
def test_booleans(tmp_path: Path, text: str, value: bool) -> None:
    assert read_one(tmp_path, f"name: a\npreemptible: {text}\n")["preemptible"] is value
    assert "preemptible must be true or false" in refusal(tmp_path, f"name: a\npreemptible: x{text}\n")


def test_a_reference_is_an_id_or_a_name(tmp_path: Path) -> None:
    text = 'name: a\ndepends_on: [12, "12", 0644, 2026-01-01, prep, {deployment: 7, condition: running}]\n'
    condition = {"deployment": 7, "condition": "running"}
    assert read_one(tmp_path, text)["depends_on"] == [12, "12", "0644", "2026-01-01", "prep", condition]


@pytest.mark.parametrize(("text", "value"), [("HIGH", "HIGH"), ("750", 750), ('"750"', "750")])
def test_a_priority_is_a_name_or_a_number(tmp_path: Path, text: str, value: str | int) -> None:
    assert read_one(tmp_path, f"name: a\npriority: {text}\n")["priority"] == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\ncpu: 1\ncpu: 2\n", ":3: 'cpu' is given twice, in lines 2 and 3: keep one"),
        (
            "name: a\ngpu: 1\nrequired_gpu_count: 1\n",
            ":3: 'gpu' and 'required_gpu_count', in lines 2 and 3, are the same field: keep one",
        ),
        (
            "name: a\nreplica_placement: pack\nplacement: pack\n",
            ":3: 'replica_placement' and 'placement', in lines 2 and 3, are the same field: keep one",
        ),
        ("name: a\nenv:\n  A: 1\n  B: 2\n  A: 1\n", ":5: 'A' is given twice, in lines 3 and 5: keep one"),
        ("name: a\nenv: {A: 1, A: 2}\n", ":2: 'A' is given twice, in line 2: keep one"),
        ("name: a\nlabels: {x: 1, 'x': 2}\n", ":2: 'x' is given twice, in line 2: keep one"),
        (
            "name: a\nenv:\n  S: {value: a, value: b}\n",
            ":3: 'value' is given twice, in line 3: keep one",
        ),
        (
            "deployments: []\ndeployments:\n- name: a\n",
            ":2: 'deployments' is given twice, in lines 1 and 2: keep one",
        ),
        (
            "name: a\nenv:\n  <<: {A: 1}\n  <<: {A: 2}\n",
            ":4: '<<' is given twice, in lines 3 and 4: keep one",
        ),
        ("name: a\n---\nname: b\nram: 1\nname: c\n", ":5: 'name' is given twice, in lines 3 and 5: keep one"),
        (
            "- &base\n  name: a\n  cpu: 1\n  cpu: 2\n- <<: *base\n  name: b\n",
            ":4: 'cpu' is given twice, in lines 3 and 4: keep one",
        ),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_places(tmp_path: Path, text: str, line: str) -> None:
    assert refusal(tmp_path, text) == line


def test_a_merge_is_overridden_by_the_mapping_itself(tmp_path: Path) -> None:
    text = (
        "- &base\n  name: a\n  gpu: 1\n  env: &env {A: 1, B: base}\n"
        "- <<: *base\n  name: b\n  required_gpu_count: 2\n  env: {<<: [*env, {B: later, C: 3}], A: own}\n"
    )
    first, second = read_file(write_file(tmp_path, text)).requests
    assert first == {"name": "a", "required_gpu_count": 1, "env": {"A": "1", "B": "base"}}
    assert second == {"name": "b", "required_gpu_count": 2, "env": {"A": "own", "B": "base", "C": "3"}}


def test_a_text_as_command_stays_a_text(tmp_path: Path) -> None:
    text = "name: a\ncommand: |\n  X=5\n  echo one && echo $X | tr a-z A-Z > out\n"
    assert read_one(tmp_path, text)["command"] == "X=5\necho one && echo $X | tr a-z A-Z > out\n"
    assert read_one(tmp_path, "name: a\ncommand: python t.py 'a b'\n")["command"] == "python t.py 'a b'"
    assert read_one(tmp_path, "name: a\ncommand: true\n")["command"] == "true"


def test_an_unknown_key_gets_the_nearest_one(tmp_path: Path) -> None:
    for key, near in (
        ("comand", "command"),
        ("imgae", "image"),
        ("docker-image", "docker_image"),
        ("Name", "name"),
        ("maxRetries", "max_retries"),
        ("deployment", "deployments"),
    ):
        line = refusal(tmp_path, f"name: a\n{key}: x\n")
        assert line == f":2: there is no field {key!r}; did you mean {near!r}?"
    assert refusal(tmp_path, "name: a\nqqq: x\n") == ":2: there is no field 'qqq'"
    assert "takes value and secret" in refusal(tmp_path, "name: a\nenv: {A: {valeu: x}}\n")


LAUGHS = "\n".join(
    [
        "  - &a0 [x, x, x, x, x, x, x, x, x]",
        *(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)),
    ]
)
MERGES = "\n".join(
    ["a0: &a0 {A: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30))]
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ": no deployment in this file"),
        ("deployments: []\n", ": no deployment in this file"),
        ("deployments:\n", ": no deployment in this file"),
        ("just words", ":1: a deployment must be a mapping with a name, not 'just words'"),
        ("- 1\n", ":1: a deployment must be a mapping with a name, not '1'"),
        ("cpu: 1\nimage: x\n", ":1: this deployment has no name"),
        ("name:\nimage: x\n", ":1: this deployment has no name"),
        ("deployments: 5\n", ":1: deployments must be a list of mappings, not '5'"),
        ("deployments: {name: a}\n", ":1: deployments must be a list of mappings, not a mapping"),
        ("- name: a\n- [b]\n", ":2: a deployment must be a mapping with a name, not a list"),
        ("&a [*a]\n", ":1: a deployment must be a mapping with a name, not a list"),
        ("name: a\nenv: &e {A: *e}\n", ":2: env.A takes value and secret, not 'A'"),
        ("name: a\nenv: &e\n  <<: *e\n", "<< is nested more than 50 levels deep, or merges itself"),
        ("name: a\nenv: {<<: 5}\n", ":2: << takes mappings, not '5'"),
        ("name: a\nenv: [A=1]\n", ":2: env must be a mapping such as {KEY: value}, not a list"),
        ("name: a\nenv: {A: [1]}\n", ":2: env.A must be a text, not a list"),
        ("name: a\ncommand: {a: b}\n", ":2: command must be a text, not a mapping"),
        ("name: a\ncommand: [a, [b]]\n", ":2: command[1] must be a text, not a list"),
        ("name: a\nports: 80\n", ":2: ports must be a list such as [a, b], not '80'"),
        ("name: a\n? [a, b]\n: 1\n", ":2: a key must be a text, not a list"),
        ('name: a\ncommand: ["\\ud800"]\n', ":2: command[0] must not contain half of a surrogate pair"),
        ('name: a\nenv: {A: "\\0"}\n', ":2: env.A must not contain the NUL character"),
        ("name: a\nenv: {A: !!binary aGk=}\n", ":2: the tag !!binary has no meaning here"),
        ("name: a\nenv: {A: !!set {b, c}}\n", ":2: the tag !!set has no meaning here"),
        ("name: a\nenv: {A: !!int 0644}\n", ":2: the tag !!int has no meaning here"),
        ("name: a\nenv: {A: !!python/object:os.system x}\n", ":2: the tag !!python/object:os.system has no"),
        ("name: a\nenv: {A: !Ref x}\n", ":2: the tag !Ref has no meaning here"),
        ("name: a\ncommand: " + "[" * 5000, ":2: nested more than 50 levels deep"),
        ("- " * 5000, "nested more than 50 levels deep"),
        (f"name: a\ncommand:\n{LAUGHS}\n", ":3: command[0] must be a text, not a list"),
        (f"name: a\n{MERGES}\n", ":2: there is no field 'a0'"),
        (
            f"name: a\nenv:\n  X: &x\n    {MERGES.replace(chr(10), chr(10) + '    ')}\n",
            "env.X takes value and",
        ),
        ("name: 'a\ncpu: 1\n", ":1: not valid YAML: a quote opens here and is never closed"),
        ("name: a\nenv:\n\tA: 1\n", ":3: not valid YAML: found character '\\t' that cannot start any token"),
        ("name: a\nenv: {A: 1\n", "not valid YAML"),
        ("name: a\nenv: *nothing\n", ":2: not valid YAML: found undefined alias 'nothing'"),
        ("name: a\n bad: indent\n", ":2: not valid YAML: mapping values are not allowed here"),
        ('name: a\ncommand: "echo \'x"\n', ":2: command: a quote opens here and is never closed"),
        (
            'name: a\ncommand: |\n  echo ok\n  echo "x\n',
            ":4: command: a quote opens here and is never closed",
        ),
        ("name: a\ncpu: " + "9" * 5000, ":2: cpu must be a decimal number, not '99999"),
    ],
)
def test_a_file_that_is_not_a_deployment_is_refused_with_its_line(
    tmp_path: Path, text: str, line: str
) -> None:
    assert line in refusal(tmp_path, text)


def test_merges_of_merges_are_expanded_once(tmp_path: Path) -> None:
    labels = "\n".join(f"    {one.partition(': ')[2]}," for one in MERGES.splitlines())
    text = f"name: a\nlabels:\n  <<: [\n{labels}\n  ]\n"
    assert read_one(tmp_path, text)["labels"] == {"A": "1"}


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("name: a\nplacement: spread\n", 1),
        ("placement: spread\ndeployments:\n- name: a\n- name: b\n", 1),
        ("name: a\n---\nname: b\nplacement: pack\n", 1),
        ("name: a\nreplica_placement: spread\n", 0),
        ("name: placement\nlabels: {placement: x}\n", 0),
    ],
)
def test_an_old_name_in_a_file_gets_one_note(
    tmp_path: Path, text: str, notes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    requests = read_file(write_file(tmp_path, text)).requests
    assert not any("placement" in request for request in requests)
    note = "note: placement is now replica_placement; the next version removes the old name\n"
    assert capsys.readouterr() == ("", notes * note)


def test_a_file_knows_every_field_of_a_request_and_every_old_name() -> None:
    assert CONVERTERS.keys() == DeploymentCreate.model_fields.keys() | {"cluster", "organization"}
    assert DeploymentCreate.old_names == OLD_NAMES


def test_the_type_of_a_field_decides_how_it_is_read() -> None:
    assert CONVERTERS["required_ram_gb"] is values.number
    assert CONVERTERS["working_dir"] is values.text
    assert CONVERTERS["retry_exit_codes"] is values.wholes


MANY = ",".join(["x"] * 30_000)


@pytest.mark.parametrize(
    "text",
    [
        f"- &a {{name: a, command: [{MANY}]}}\n" + "- *a\n" * 1000,
        f"command: [{MANY}]\ndeployments:\n" + "- name: a\n" * 1000,
        f"- &a {{name: a, command: [{MANY}]}}\n" + "- {<<: *a, name: b}\n" * 1000,
        f"- name: a\n  command: &c [{MANY}]\n" + "- name: b\n  command: *c\n" * 1000,
        "---\n".join([f"- &a {{name: a, command: [{MANY[:1400]}]}}\n" + "- *a\n" * 500] * 5),
        f"- name: a\n  command: [&t {'x' * 500_000}{', *t' * 10_000}]\n",
        f"- name: a\n  env: {{A: &v {{value: {'x' * 500_000}}}}}\n" + "- name: b\n  env: {A: *v}\n" * 1000,
        f"- name: a\n  env: &e {{{','.join(f'A{n}: x' for n in range(9000))}}}\n"
        + "- name: b\n  env: {<<: *e}\n" * 1000,
    ],
    ids=["deployments", "defaults", "merged", "commands", "documents", "texts", "values", "environments"],
)
def test_a_short_file_that_stands_for_millions_of_values_is_refused_at_once(
    text: str, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(text)
    started = process_time()
    with pytest.raises(WrongUsage, match=r"jobs\.yaml:\d+: more than 2 MiB with what aliases repeat"):
        read_file(str(file))
    assert process_time() - started < 10


def test_a_thousand_deployments_may_share_their_values(tmp_path: Path) -> None:
    file = tmp_path / "jobs.yaml"
    arguments = ",".join(["x"] * 100)
    file.write_text(
        f"command: [{arguments}]\nlabels: &l {{a: b}}\ndeployments:\n"
        + "- {name: a, env: {<<: *l, c: d}}\n" * 1000
    )
    requests = read_file(str(file)).requests
    assert len(requests) == 1000
    assert requests[999] == {
        "name": "a",
        "command": ["x"] * 100,
        "labels": {"a": "b"},
        "env": {"a": "b", "c": "d"},
    }
