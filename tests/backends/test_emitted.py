import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backends import emission
from backends.emitted import Emitted

SLOW = "import time\ntime.sleep(0.01)\nvalue = 1\n"
PACKAGE = Emitted("from .one import value\n", {"one.py": SLOW})


def test_threads_may_run_packages_of_one_name():
    finders = list(sys.meta_path)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(PACKAGE.run, "of_one_name", "p/x.py") for _ in range(32)]
    assert {run.result().value for run in runs} == {1}
    assert sys.meta_path == finders


def test_a_layer_may_not_take_the_name_of_a_kernels_class():
    kernels = Path(emission.__file__).parent / "tpu" / "kernels"
    assert "Fetched" in emission._top_names(kernels / "row_blocks.py")
    assert "grouped_rows" in emission._top_names(kernels / "rows.py")
