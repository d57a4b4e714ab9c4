"""What is built from the repository, and the files by which others join in."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

import fgseg

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
LARGEST_WHEEL = 14_000_000  # bytes; 11.7 MB of them are the embedded model, which does not compress

# setuptools' own view of the project: what build_py copies into a wheel, and the files of a source distribution. In a
# process of its own, because it changes the modules that Python imports, and its warnings are not ours.
LISTING = """
import sys
from setuptools.dist import Distribution

distribution = Distribution({"script_name": "setup.py"})
distribution.parse_config_files()
sources = distribution.get_command_obj("egg_info")
sources.egg_base = sys.argv[1]
copied = distribution.get_command_obj("build_py")
copied.build_lib = "wheel"
copied.ensure_finalized()
print("\\n".join(copied.get_outputs(include_bytecode=False)))
print("\\n".join("sdist/" + name for name in sources.filelist.files))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("egg")
    command = [sys.executable, "-W", "ignore", "-c", LISTING, str(folder)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = {"wheel": set(), "sdist": set()}
    for line in listed:
        kind, _, name = line.replace("\\", "/").partition("/")
        if kind in kinds:
            kinds[kind].add(name)
    return kinds


def tree(folder):
    """The files of a folder of the repository, without what a run leaves."""
    left = {"__pycache__", ".hypothesis", "generated", "egg-info"}
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and not left & set(path.parts))
    return {path.relative_to(ROOT).as_posix() for path in found if path.suffix not in (".pyc", ".pyo")}


def test_a_wheel_holds_the_whole_package_and_nothing_else(built):
    assert built["wheel"] == tree("fgseg")


def test_a_wheel_is_small_enough_to_be_fetched_by_everyone(built):
    assert sum((ROOT / name).stat().st_size for name in built["wheel"]) < LARGEST_WHEEL


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "notebooks", "recipes", "tests"])
def test_a_source_distribution_holds_what_the_tests_and_the_figures_need(built, folder):
    assert tree(folder) <= built["sdist"]


def test_a_source_distribution_holds_no_page_that_is_made_from_others(built):
    assert not [name for name in built["sdist"] if name.startswith("docs/generated")]


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_hash_and_the_hash_names_its_version(workflow):
    used = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v[\d.]+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_keeps_no_credentials(workflow):
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_versions_of_python_that_are_tested_are_those_that_are_promised():
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    promised = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    assert jobs["newest"]["strategy"]["matrix"]["python"] == promised
    assert setup["options"]["python_requires"] == f">={promised[0]}"


def test_the_lowest_versions_are_the_bounds_of_the_packages():
    """`docs`, `ray` and `s3` are tried with constraints.txt alone, and an older torch was run on a GPU only."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = {"install": setup["options"]["install_requires"], **setup["options.extras_require"]}
    lines = "\n".join(text for name, text in lists.items() if name not in ("docs", "ray", "s3"))
    bounds = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=([\d.]+)", lines, re.MULTILINE))
    lowest = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
    assert lowest.keys() == bounds.keys()
    assert all(lowest[name].startswith(bound) for name, bound in bounds.items() if name != "torch")


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_a_name_and_fields_that_differ(form):
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(content)
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_the_citation_names_this_version_and_the_paper_of_the_readme():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (paper,) = citation["references"]
    assert citation["version"] == fgseg.__version__
    assert f"title     = {{{paper['title']}}}" in readme
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert authors in readme


def test_the_hooks_run_tools_that_the_extra_for_tests_installs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for hook in hooks:
        tool = hook["entry"].removeprefix("python -m ").split()[0]
        assert re.search(rf"^    {tool}>=", setup, re.MULTILINE), tool


def test_files_that_the_security_promises_link_to_exist():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", (ROOT / "SECURITY.md").read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
