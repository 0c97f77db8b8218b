"""Run a notebook as Jupyter would, from its first cell to its last: python run_notebook.py FILE OUT.

What cells show goes into OUT: pictures as NN.png, text and web pages as lines of output.txt.
"""

import base64
import json
import os
import sys
from pathlib import Path

import matplotlib
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib_inline.backend_inline import configure_inline_support
from traitlets.config import Config

INLINE = "module://matplotlib_inline.backend_inline"
"""Figures of matplotlib go beneath their cell."""


class Silent(DisplayHook):
    """Prints nothing of what a cell ends with: `main` shows that."""

    def __call__(self, result: object = None) -> None:
        self.fill_exec_result(result)


def main(file: Path, out: Path) -> None:
    """Stops at the first cell that fails, with its traceback."""
    os.environ["IPYTHONDIR"] = str(out / "ipython")
    matplotlib.use(INLINE)
    InteractiveShell.displayhook_class = Silent
    shell = InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    configure_inline_support(shell, INLINE)
    formatter = shell.display_formatter
    formatter.active_types = formatter.format_types
    texts, pictures = [], 0
    for cell in json.loads(file.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        with capture_output() as shown:
            done = shell.run_cell("".join(cell["source"]))
        texts += [shown.stdout, shown.stderr]
        done.raise_error()
        last = [] if done.result is None else [formatter.format(done.result)[0]]
        for data in [*(output.data for output in shown.outputs), *last]:
            if png := data.get("image/png"):
                pictures += 1
                png = png if isinstance(png, bytes) else base64.b64decode(png)
                (out / f"{pictures:02d}.png").write_bytes(png)
            else:
                texts.append(data.get("text/html") or data.get("text/plain", ""))
    (out / "output.txt").write_text("\n".join(texts))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
