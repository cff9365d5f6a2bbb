"""The project's own files: nothing of one machine in them, and documents that are true."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from commands import COMMANDS, load_command
from tests.helpers import REPOSITORY
from whirr import __version__

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
# Folders of one person or machine, and hosts of package registries.
OF_ONE_MACHINE = re.compile(
    "/(?:root|work|home/[a-z]+|Users/[A-Za-z]+)/"
    r"|[\w.-]*(?:pypi\.org|pythonhosted\.org|npmjs\.org|crates\.io|maven\.org|repo\.maven\.apache|proxy\.golang)"
)
FENCE = re.compile(r"^```(?:console|bash|sh)\n(?P<block>.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("**/*.md"))]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """Return the files that are part of the project: those that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := REPOSITORY / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # a picture
        return ""


def test_no_file_names_a_place_on_one_machine_or_a_registry():
    found = [
        f"{path.relative_to(REPOSITORY)}: {match.group()}"
        for path in tracked()
        if path != Path(__file__)
        for match in OF_ONE_MACHINE.finditer(text_of(path))
    ]
    assert found == []


def test_no_file_is_large():
    assert [path for path in tracked() if path.stat().st_size > 1_000_000] == []


def test_every_package_says_that_it_is_typed():
    assert [name for name in PACKAGES if not (REPOSITORY / name / "py.typed").is_file()] == []


def test_the_wheel_holds_every_package_that_is_shipped_and_no_harness():
    shipped = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert set(PACKAGES) == shipped - {"benchmarks", "examples", "scripts", "tests"}


def test_a_script_is_an_entry_point_of_a_few_lines():
    long = {
        path.name: lines
        for path in (REPOSITORY / "scripts").rglob("*.py")
        if (lines := len(text_of(path).splitlines())) > 15
    }
    assert long == {}


def test_every_module_says_what_it_is_for():
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in tracked()
        if path.suffix == ".py" and path.stat().st_size and not text_of(path).lstrip().startswith(('"""', 'r"""'))
    ]
    assert [name for name in silent if not name.startswith("tests/")] == []


def sources() -> list[Path]:
    """Return the modules that are shipped."""
    return [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]


def test_the_names_in_the_glossary_are_those_of_the_code():
    files = [*sources(), *(REPOSITORY / "schemas" / "json").glob("*.json")]
    words = set(re.findall(r"\w+", "\n".join(map(text_of, files))))
    named = re.findall(r"`-*([\w-]+)`", text_of(REPOSITORY / "docs" / "glossary.md"))
    assert [name for name in named if name.replace("-", "_") not in words] == []


def test_no_class_name_means_two_things():
    homes: dict[str, list[str]] = {}
    for path in sources():
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


# Modules of one name in several packages, and why that confuses nobody.
SAME_NAMES = {
    "__init__": "Python's own",
    **dict.fromkeys(("detector", "graphs", "lightning_model", "torch_model"), "each detector's folder has one"),
    **dict.fromkeys(
        (
            "broker",
            "compare",
            "evaluate",
            "features",
            "maintenance",
            "publish",
            "replay",
            "settings",
            "topics",
            "train",
            "verdict",
            "verdicts",
        ),
        "a command, and what it runs, reads or reports",
    ),
}


def test_no_module_name_means_two_things():
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    homes: dict[str, list[str]] = {}
    for path in sources():
        relative = path.relative_to(REPOSITORY)
        if relative.parts[0] in packages:  # demo and benchmarks are named for what of Whirr they show or measure
            homes.setdefault(path.stem, []).append(relative.as_posix())
    repeated = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert {name: paths for name, paths in repeated.items() if name not in SAME_NAMES} == {}
    assert SAME_NAMES.keys() == repeated.keys(), "no name is allowed that needs no leave"
    of_commands = [paths for name, paths in repeated.items() if SAME_NAMES[name].startswith("a command")]
    assert all(len(paths) == 2 and paths[0].startswith(("backtest/", "commands/")) for paths in of_commands)


def test_the_version_is_the_same_everywhere():
    assert PROJECT["project"]["version"] == __version__
    compose = (REPOSITORY / "docker-compose.kafka.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"image: whirr(?:-mlflow)?:(\S+)", compose)) == {__version__}


def test_every_package_of_every_extra_is_pinned():
    project = PROJECT["project"]
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=!; ]", name, maxsplit=1)[0].lower() for name in wanted}
    assert names - pinned == set()


def test_tests_wait_for_what_happens_and_not_for_time():
    found = []
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        text = text_of(path)
        waits = re.findall(r"asyncio\.sleep\((?!0\))[^)]*\)", text) if "virtual_time" not in text else []
        waits += re.findall(r"\btime\.sleep\([^)]*\)", text) if path != Path(__file__) else []
        found += [f"{path.name}: {wait}" for wait in waits]
    assert found == []


def test_the_changelog_has_a_place_for_what_is_new():
    assert "\n## [Unreleased]\n" in CHANGELOG


def test_the_changelog_has_a_section_for_each_version_newest_first_and_for_this_one():
    found = re.findall(r"^## \[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    versions = [tuple(map(int, parts)) for parts in found]
    assert versions == sorted(versions, reverse=True)
    assert ".".join(map(str, versions[0])) == __version__
    kinds = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_a_release_says_what_the_changelog_says():
    done = subprocess.run(
        ["make", "--silent", "release-notes"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    notes = done.stdout
    assert notes.strip()
    assert f"## [{__version__}] - " not in notes
    assert notes in CHANGELOG


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        *[("vendor.github-workflows", f"workflows/{name}.yml") for name in ("bench", "ci", "release")],
        *[("vendor.github-issue-forms", f"ISSUE_TEMPLATE/{name}.yml") for name in ("bug", "idea")],
        ("vendor.github-issue-config", "ISSUE_TEMPLATE/config.yml"),
        ("vendor.dependabot", "dependabot.yml"),
    ],
)
def test_what_github_reads_is_as_its_schema_says(schema: str, name: str):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(REPOSITORY / ".github" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_hooks_run_tools_that_are_installed():
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"].split()[0] for repo in config["repos"] for hook in repo["hooks"]]
    assert {Path(entry).name for entry in entries} == {"ruff", "lint-imports", "mypy"}
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config"], cwd=REPOSITORY, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["bench", "ci", "release"])
def test_workflows_call_tasks_that_there_are(name: str):
    text = (REPOSITORY / ".github" / "workflows" / f"{name}.yml").read_text()
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    called = set(re.findall(r"\bmake (?:--silent )?([a-z-]+)", text))
    assert called
    assert called <= targets


# What the documents tell people to type


def commands(path: Path) -> Iterator[list[str]]:
    """Yield each simple command of a document's console blocks, split into words."""
    for fence in FENCE.finditer(path.read_text(encoding="utf-8")):
        lines = fence["block"].replace("\\\n", " ").splitlines()
        # A block with prompts shows output too.
        prompted = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if line.strip() and (not prompted or line.startswith("$ ")):
                yield from simple_commands(line.removeprefix("$ "))


def simple_commands(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;"):
            yield words
            words = []
        else:
            words.append(word)


def program(words: list[str]) -> list[str]:
    """Return a command without the variables set before it."""
    first = next((index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return words[first:]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_whirr_commands_in_documents_exist_with_their_options(path: Path):
    for words in map(program, commands(path)):
        if len(words) < 2 or words[0] != "whirr" or words[1].startswith("-"):
            continue
        assert words[1] in COMMANDS, f"{path.name}: {shlex.join(words)}"
        command = load_command(words[1])
        parts = getattr(command, "commands", None)
        if parts is not None and len(words) > 2 and not words[2].startswith("-"):
            assert words[2] in parts, f"{path.name}: {shlex.join(words)}"
            command = parts[words[2]]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        used = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
        assert used <= known | {"--help"}, f"{path.name}: {shlex.join(words)}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_make_targets_in_documents_exist(path: Path):
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for words in map(program, commands(path)):
        if words and words[0] == "make":
            named = {word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)}
            assert named <= targets, f"{path.name}: {shlex.join(words)}"


def test_simple_commands_are_told_apart():
    line = "WHIRR_X=1 arecord -f S16 | whirr edge --stdin --rate=16000 && make test  # and so on"
    found = [program(words) for words in simple_commands(line)]
    assert found == [["arecord", "-f", "S16"], ["whirr", "edge", "--stdin", "--rate=16000"], ["make", "test"]]


@pytest.mark.xdist_group("guard")
def test_tests_of_a_group_share_a_process(request: pytest.FixtureRequest):
    if not request.config.getoption("loadgroup", False):
        pytest.skip("pytest-xdist's --dist loadgroup is not asked for")
    assert request.node.nodeid.endswith("@guard")
