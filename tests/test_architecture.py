"""The layers of CONTRIBUTING.md: a module imports only what lies below it, and each foreign package has its owners."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fgseg"

# Low to high. Modules of one floor do not import each other. What is not named here still lies flat in the package.
FLOORS = (
    ("errors", "_version", "scenes"),
    ("_checks",),
    ("prompts",),
    ("types", "_files", "upsample"),
    ("images", "similarity", "regions", "scoring", "metrics"),
    ("encoders", "drawing", "formats", "datasets"),
    ("segmentation", "training"),
    ("large", "recipes"),
    ("segmenter",),
    ("evaluation", "web", "explorer"),
    ("commands",),
    ("__main__",),
)
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}


def part_of(path):
    """The layer name of a file: its module, or the folder it lies in."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports_of(path):
    """(module, whether it is only for annotations) for every import in a file, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"fgseg.{alias.name}" for alias in node.names] if node.module == "fgseg" else [node.module]
            yield from ((name, id(node) in typing_only) for name in names)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_floors(path):
    own = part_of(path)
    for name, _ in imports_of(path):
        if name.split(".")[0] == "fgseg":
            other = name.split(".")[1]
            if own != other and own in HEIGHT and other in HEIGHT:
                assert HEIGHT[other] < HEIGHT[own], f"{own} imports {other}"


def test_no_module_imports_itself_through_others():
    """No cycles between modules, inside packages neither."""
    names = {".".join(("fgseg", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    above = {name: set() for name in names}
    for name, path in names.items():
        for other, typing_only in imports_of(path):
            if not typing_only:
                above[name] |= {known for known in (other, f"{other}.__init__") if known in names}
    while free := [name for name, needed in above.items() if not needed]:
        for name in free:
            del above[name]
        for needed in above.values():
            needed.difference_update(free)
    assert not above


def loaded_after(code):
    """Top-level packages that a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_fgseg_loads_no_heavy_package():
    heavy = {"torch", "matplotlib", "numpy", "cv2", "PIL", "transformers"}
    assert not loaded_after("import fgseg; fgseg.__version__") & heavy


def test_importing_the_command_line_loads_no_heavy_package():
    heavy = {"torch", "matplotlib", "numpy", "cv2", "PIL", "transformers", "huggingface_hub", "gradio", "fastapi"}
    assert not loaded_after("import fgseg.commands.main") & heavy


def test_loading_the_segmenter_loads_neither_transformers_nor_the_hub_nor_torchvision():
    assert not loaded_after("import fgseg.segmenter") & {"transformers", "huggingface_hub", "torchvision"}
