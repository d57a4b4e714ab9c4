"""The layers of CONTRIBUTING.md: a module imports only what lies below it, and each foreign package has its owners."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fgseg"

# Low to high. Modules of one layer do not import each other.
LAYERS = (
    ("errors", "_status", "_version"),
    ("_checks", "_words", "templates"),
    ("types", "_wordfiles", "_files", "_headers"),
    ("prompts",),
    ("colors", "lettering", "_winners"),
    ("similarity", "upsample", "windows", "refine", "masks", "metrics", "legend", "overlay"),
    ("regions", "render", "protocol", "_parts"),
    ("_opening", "_to_rgb"),
    ("io",),
    ("_labelled", "_tiled"),
    ("_standard_sets",),
    ("_presets", "_own_folders", "_coco_labels", "_preflight"),
    ("export", "plotting", "datasets", "heatmaps"),
    ("charts",),
    ("encoders",),
    ("encoded", "segmentation"),
    ("field",),
    ("_strips", "queries", "views"),
    ("large",),
    ("segmenter", "diagnosis"),
    ("explorer", "ahead"),
    ("training",),
    ("benching",),
    ("console",),
    ("arguments", "options", "web"),
    ("image_commands", "bench_cli", "train_command", "serving"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}

OWNERS = {
    "transformers": {"encoders", "training"},
    "tokenizers": {"encoders", "training"},
    "huggingface_hub": {"encoders"},
    "safetensors": {"encoders", "training"},
    "PIL": {"_opening", "_to_rgb", "io"},
    "matplotlib": {"plotting", "charts", "colors", "lettering", "training"},  # training: the xkcd colour names
    "cv2": {"upsample", "windows", "masks", "overlay", "legend", "lettering", "render", "refine", "training"},
    "skimage": {"masks", "regions", "refine", "_parts", "web"},  # web: the photographs that come with it
    "scipy": {"_parts", "training"},
    "tifffile": {"_tiled"},
    "pycocotools": {"export", "_coco_labels"},
    "supervision": {"export", "segmentation"},
    "ipywidgets": {"explorer"},
    "yaml": {"_wordfiles"},
    "typer": {"console", "arguments", "options", "image_commands", "bench_cli", "serving", "train_command", "cli"},
    "gradio": {"web"},
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "tqdm": {"console", "bench_cli", "training", "train_command"},
}
TORCH = {
    "types", "similarity", "upsample", "_winners", "windows", "refine", "protocol", "regions", "encoders", "encoded",
    "field", "_strips", "queries", "segmenter", "diagnosis", "training", "benching",
}  # fmt: skip


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


def test_every_module_has_a_layer():
    assert {part_of(path) for path in MODULES} == set(HEIGHT)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_layers(path):
    own = part_of(path)
    for name, _ in imports_of(path):
        if name.split(".")[0] == "fgseg":
            other = name.split(".")[1]
            assert other == own or HEIGHT[other] < HEIGHT[own], f"{own} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_foreign_packages_are_imported_by_their_owners_alone(path):
    own = part_of(path)
    for name, typing_only in imports_of(path):
        package = name.split(".")[0]
        assert own in OWNERS.get(package, {own}), f"{own} imports {package}"
        assert package != "torch" or typing_only or own in TORCH, f"{own} imports torch"
        assert package not in {"torchvision", "mmcv", "mmseg", "ultralytics"}


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
    assert not loaded_after("import fgseg.cli") & heavy


def test_loading_the_segmenter_loads_neither_transformers_nor_the_hub_nor_torchvision():
    assert not loaded_after("import fgseg.segmenter") & {"transformers", "huggingface_hub", "torchvision"}
