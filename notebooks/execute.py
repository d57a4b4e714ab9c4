"""Execute the notebooks and keep their outputs: `python notebooks/execute.py`.

The outputs are committed, so that a code host shows them. Widgets cannot run there, so only their picture is kept.
Large pictures are reduced; whoever runs the notebook sees them in full size.
"""

import sys
import tempfile
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).parent
SECONDS = 300  # that one cell may take on a busy machine
KEPT = ("image/png", "text/html", "text/plain")
"""Kinds of output that are kept."""
LARGEST = 60_000  # bytes of a picture that is kept as it is
SIDE = 800  # pixels of the longer side of one that is reduced
QUALITIES = (75, 60, 45, 30)  # of JPEG; the first that gives a small file is taken
SMALL = 90_000  # bytes


def executed(path: Path, folder: Path) -> NotebookNode:
    """A notebook with the outputs of a run in another folder, without what differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources)
    client.coalesce_streams = True  # else the lines of a cell are parted by the moments at which they arrive
    client.execute()
    return tidy(notebook)


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Without times, the state of widgets, and kinds of output that a code host does not show."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.clear()
        for output in cell.get("outputs", ()):
            output.get("metadata", {}).clear()
            if "data" in output:
                output.data = {kind: output.data[kind] for kind in KEPT if kind in output.data}
                reduce(output.data)
    return notebook


def reduce(data: dict[str, str]) -> None:
    """Put a small JPEG in the place of a large PNG."""
    png = b64decode(data.get("image/png", ""))
    if len(png) <= LARGEST:
        return
    with Image.open(BytesIO(png)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    jpegs = (_jpeg(small, quality) for quality in QUALITIES)
    del data["image/png"]
    data["image/jpeg"] = b64encode(next(jpeg for jpeg in jpegs if len(jpeg) <= SMALL)).decode()


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def main() -> None:
    """Execute the notebooks that are named, or all."""
    for path in map(Path, sys.argv[1:] or sorted(FOLDER.glob("*.ipynb"))):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(path.name)


if __name__ == "__main__":
    main()
