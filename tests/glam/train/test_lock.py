import os

import pytest

from glam.train.lock import locked
from ir.errors import BadArgument


def test_one_run_at_a_time(tmp_path):
    folder = tmp_path / "run"
    with locked(folder):
        told = rf"process {os.getpid()} is training in .*run: wait for it"
        with pytest.raises(BadArgument, match=told), locked(folder):
            pass
    with locked(folder):
        pass
