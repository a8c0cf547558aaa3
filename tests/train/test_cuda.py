"""CUDA's missing piece is named: the wheel, the driver, or the library with the wheel that brings it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnx.errors import MnxError
from mnx.train import cuda, onnxruntime_sessions
from mnx.train.onnxruntime_sessions import require_device


def library(path: Path, needs: str = "") -> Path:
    """A shared library that does nothing, and needs another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text("int nothing(void) { return 0; }\n")
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", str(path), str(source)]
    if needs:
        stub = library(path.parent / "stubs" / needs)
        command += ["-Wl,--no-as-needed", str(stub)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler to make shared libraries with")
    if needs:
        stub.unlink()
    return path


def test_a_wheel_without_cuda_is_named(tmp_path: Path) -> None:
    assert "pip install 'mothernets[cuda]'" in cuda.missing(tmp_path)


def test_a_missing_driver_is_named_before_the_provider_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / cuda.PROVIDER).write_bytes(b"loading this would fail")
    monkeypatch.setattr(cuda, "DRIVER", "libno-such-driver.so.1")
    assert cuda.missing(tmp_path).startswith("NVIDIA's driver is missing (libno-such-driver.so.1: cannot open")


def in_a_process(tmp_path: Path, program: str) -> None:
    """Run in a process of its own, where what is loaded stays, and nothing is loaded yet."""
    driver = library(tmp_path / "driver.so")
    begin = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(tmp_path)!r})
from mnx.train import cuda
cuda.DRIVER, folder = {str(driver)!r}, Path({str(tmp_path)!r})
"""
    subprocess.run([sys.executable, "-c", begin + program], check=True)


def test_a_missing_library_is_named_with_its_wheel(tmp_path: Path) -> None:
    library(tmp_path / cuda.PROVIDER, needs="libcufft.so.10")
    program = """
found = cuda.missing(folder)
assert "libcufft.so.10: cannot open shared object file" in found, found
assert found.endswith("pip install nvidia-cufft-cu11"), found
"""
    in_a_process(tmp_path, program)


@pytest.mark.parametrize("part", ["ops_infer", "adv_infer"])
def test_a_part_of_cudnn_that_is_missing_is_named(tmp_path: Path, part: str) -> None:
    """cuDNN would end the process when it first needs one."""
    library(tmp_path / cuda.PROVIDER)
    for name in [name for name in cuda.WHEELS if "cudnn" in name and part not in name]:
        library(tmp_path / "nvidia" / "cudnn" / "lib" / name)
    program = f"""
cuda.load_libraries()
found = cuda.missing(folder)
assert found.startswith("libcudnn_{part}.so.8: cannot open shared object file"), found
assert found.endswith("pip install 'nvidia-cudnn-cu11<9'"), found
"""
    in_a_process(tmp_path, program)


def test_libraries_in_wheels_are_loaded(tmp_path: Path) -> None:
    library(tmp_path / "nvidia" / "cufft" / "lib" / "libcufft.so.10")
    for name in [name for name in cuda.WHEELS if "cudnn" in name]:
        library(tmp_path / "nvidia" / "cudnn" / "lib" / name)
    library(tmp_path / cuda.PROVIDER, needs="libcufft.so.10")
    program = """
assert cuda.missing(folder)
cuda.load_libraries()
assert not cuda.missing(folder), cuda.missing(folder)
"""
    in_a_process(tmp_path, program)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="no runtime is installed")
def test_a_device_with_a_missing_piece_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(
        __file__=str(tmp_path / "__init__.py"),
        __version__="1.19.2",
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(onnxruntime_sessions, "_runtime", lambda: fake)
    require_device("cpu")
    with pytest.raises(
        MnxError, match=r"device 'cuda': onnxruntime-training 1\.19\.2 wants CUDA 11\.8 .* is missing: pip"
    ):
        require_device("cuda")
