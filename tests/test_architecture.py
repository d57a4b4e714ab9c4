"""Layers of packages, no import cycles, which package may import which library, and the names that modules export."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fgseg"

# Low to high: a module imports only from lower layers, and packages of one layer do not import each other.
LAYERS = (
    ("errors", "_version", "scenes"),
    ("_checks",),
    ("prompts",),
    ("types", "_files", "upsample"),
    ("images", "similarity", "regions", "scoring", "metrics"),
    ("encoders", "drawing", "formats", "datasets"),
    ("guides",),
    ("segmentation", "training"),
    ("large", "recipes"),
    ("segmenter",),
    ("evaluation", "web", "explorer", "store"),
    ("commands",),
    ("__init__", "__main__", "benchmarks"),
)
HEIGHT = {room: height for height, layer in enumerate(LAYERS) for room in layer}

OWNERS = {
    "transformers": {"encoders", "guides"},
    "tokenizers": {"encoders", "recipes"},
    "huggingface_hub": {"encoders"},
    "safetensors": {"encoders", "training", "recipes"},
    "PIL": {"drawing", "images"},
    "matplotlib": {"drawing", "training", "scenes"},  # scenes: the colour names of the xkcd survey
    "cv2": {"upsample", "scoring", "regions", "metrics", "images", "drawing", "scenes", "recipes", "store"},
    "skimage": {"scoring", "regions", "guides", "web"},  # web: the photographs that come with it
    "scipy": {"large", "guides", "scenes"},
    "tifffile": {"images", "large"},
    "pycocotools": {"formats", "datasets"},
    "supervision": {"formats", "segmentation"},
    "pandas": {"formats", "large", "segmentation", "store"},
    "ipywidgets": {"explorer"},
    "cachetools": {"segmentation"},
    "platformdirs": {"encoders"},
    "yaml": {"prompts"},
    "jinja2": {"_files"},
    "pyarrow": {"store"},
    "fsspec": {"store"},
    "ray": {"store"},
    "typer": {"commands"},
    "gradio": {"web"},
    "fastapi": {"web"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "tqdm": {"commands", "training"},
    "torch": {
        "types", "similarity", "upsample", "scoring", "regions", "encoders", "guides", "segmentation", "large",
        "segmenter", "training", "evaluation", "commands", "recipes", "store",
    },
}  # fmt: skip
NEVER = {"torchvision", "mmcv", "mmseg", "ultralytics"}

FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "recipes").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])
BENCHMARKS = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}


def module_of(path):
    """The dotted name of a file; a package's for its `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def room_of(module):
    """The name of a module's place in LAYERS: its package below fgseg, or the top-level folder."""
    first, *rest = module.split(".")
    if first != "fgseg":
        return first
    return rest[0] if rest else "__init__"


@cache
def imports_of(module):
    """(module, name or None, whether only for annotations) of every import of a module, inside functions too."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, None, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = (inner, None) if inner in MODULES else (node.module, alias.name)
                found.append((*name, id(node) in typing_only))
    return tuple(found)


def own_imports(module):
    """The imports of a module that are ours; benchmarks import each other by their bare names."""
    for name, entry, typing_only in imports_of(module):
        if name in BENCHMARKS and module.startswith("benchmarks."):
            yield f"benchmarks.{name}", entry, typing_only
        elif name.split(".")[0] in {"fgseg", "recipes"}:
            yield name, entry, typing_only


def test_every_module_belongs_to_a_layer():
    assert {room_of(module) for module in MODULES} == set(HEIGHT)


def test_the_top_of_the_package_holds_packages_and_at_most_nine_modules():
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert len(modules - {"__init__", "__main__"}) <= 9


def test_packages_are_small_enough_to_look_through_and_say_what_they_are_for():
    for init in PACKAGE.rglob("__init__.py"):
        assert len(list(init.parent.glob("*.py"))) <= 13, init.parent  # twelve and the `__init__`
        body = ast.parse(init.read_text(encoding="utf-8")).body
        assert isinstance(body[0], ast.Expr), f"{init} has no docstring"
        assert all(isinstance(node, (ast.Expr, ast.Import, ast.Assign)) for node in body), f"{init} defines something"


def listed_in_contributing():
    """Folder -> names of its modules, as the tree in CONTRIBUTING.md shows them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.split("## Where everything lives")[1].split("```")[1]
    listed, package, folder = {}, "", ""
    for line in tree.strip().splitlines()[1:-1]:  # without fgseg/ and recipes/mini/
        words, indent = line.split(), len(line) - len(line.lstrip())
        if words[0].endswith("/"):
            name = words.pop(0).rstrip("/")
            package = name if indent == 2 else package
            folder = name if indent == 2 else f"{package}/{name}"
        elif indent == 2:
            folder, words = "", [word for word in words if word.endswith(".py")]
        listed.setdefault(folder, set()).update(word.removesuffix(".py") for word in words)
    return listed


def test_the_tree_in_contributing_is_the_code():
    folders = {path.parent for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE}
    expected = {str(folder.relative_to(PACKAGE)): {path.stem for path in folder.glob("*.py")} for folder in folders}
    expected[""] = {path.stem for path in PACKAGE.glob("*.py")} - {"__main__"}
    expected = {folder: names - {"__init__"} for folder, names in expected.items()}
    assert listed_in_contributing() == expected


def test_the_layers_in_contributing_are_those_of_this_test():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    written = text.split("From low to high:")[1].split("`tests/test_architecture.py`")[0]
    layers = [tuple(room.strip(" `\n") for room in layer.split(",")) for layer in written.split("<")]
    assert [set(layer) for layer in layers] == [set(layer) for layer in LAYERS]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_lower_layers(module):
    room = room_of(module)
    for other, _, _ in own_imports(module):
        assert room_of(other) == room or HEIGHT[room_of(other)] < HEIGHT[room] or room == "benchmarks", other


def test_no_module_needs_itself():
    """No cycles, inside packages neither; imports for annotations count."""
    graph = {module: {other for other, _, _ in own_imports(module)} for module in MODULES}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_foreign_packages_are_imported_by_their_owners_alone(module):
    room = room_of(module)
    for name, _, typing_only in imports_of(module):
        package = name.split(".")[0]
        is_annotation = package == "torch" and typing_only
        assert room == "benchmarks" or is_annotation or room in OWNERS.get(package, {room}), package
        assert package not in NEVER


def test_every_owner_of_a_foreign_package_uses_it():
    used = {(name.split(".")[0], room_of(module)) for module in MODULES for name, _, typing_only in imports_of(module)}
    assert {(package, room) for package, rooms in OWNERS.items() for room in rooms} <= used


@cache
def names_of(module):
    """The `__all__` of a module, or of a package's stub."""
    path = MODULES[module]
    stub = path.with_suffix(".pyi")
    if stub.exists():
        nodes = ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        return {alias.asname for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    lists = [
        ast.literal_eval(node.value)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return set(lists[0]) if lists else set()


@pytest.mark.parametrize("module", MODULES)
def test_names_are_imported_from_where_they_are_handed_on(module):
    for other, name, _ in own_imports(module):
        assert name is None or other.startswith("benchmarks.") or name in names_of(other), f"{other}.{name}"


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


def test_scoring_an_image_loads_nothing_that_draws():
    assert not loaded_after("import fgseg.segmentation.score_field") & {"matplotlib", "PIL"}


# What opens or writes pickles. A pickle can run any code when it is read.
PICKLE_MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
PICKLE_CALLS = {"torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter"}
PICKLE_NAMES = {"read_pickle", "to_pickle", "load_state_dict_from_url"}  # whatever they are called on


def imported_by(node):
    """The dotted names that a statement imports."""
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    return [prefix + alias.name for alias in node.names]


def is_pickle(name):
    return name.split(".")[0] in PICKLE_MODULES or name in PICKLE_CALLS or name.split(".")[-1] in PICKLE_NAMES


def allows_pickle(keyword):
    """Whether an argument lets numpy read objects, or is one that only `torch.load` takes."""
    allowed = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
    return allowed or keyword.arg == "weights_only"


def pickles_of(tree):
    """What in a module could open or write a pickle."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from filter(is_pickle, imported_by(node))
        elif isinstance(node, ast.Call):
            yield from filter(is_pickle, [ast.unparse(node.func)])
            yield from (ast.unparse(keyword) for keyword in node.keywords if allows_pickle(keyword))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_opens_a_pickle(module):
    """Files of ours are safetensors, JSON, SQLite, npz and Parquet; `np.load` refuses a pickle unless it is allowed."""
    assert list(pickles_of(ast.parse(MODULES[module].read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "import torch\ntorch.load('a.pt', weights_only=True)",
        "from torch import load",
        "np.load('a.npy', allow_pickle=True)",
        "np.load('a.npy', allow_pickle=allowed)",
        "frame.to_pickle('a')",
        "from torch import serialization as s\ns.load('a.pt', weights_only=True)",
    ],
)
def test_every_way_to_open_a_pickle_is_found(code):
    assert list(pickles_of(ast.parse(code)))
