"""One process at a time in a run folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from mnx.errors import MnxError
from mnx.lock import working_in

HOLD = """
import sys
from pathlib import Path
from mnx.lock import working_in
with working_in(Path(sys.argv[1])):
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_kept_out_until_it_ends_however(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(MnxError, match=r"another mnx is working in .*run"), working_in(folder):
            pass
        with working_in(tmp_path / "other"):
            pass
        holder.kill()
    with working_in(folder):
        pass
    assert not folder.exists()
