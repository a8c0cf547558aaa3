"""Five torch-exported VGG-like members on Fashion-MNIST, mothered and from scratch.

    python benchmarks/fashion_mnist.py --data FOLDER_OR_NPZ [--out DIR] [--train-limit 12000] [--seed 0] [--set K=V]

The data are Fashion-MNIST's own IDX files or an .npz with x_train, y_train, x_test, y_test. Half of the members are
exported by TorchScript with BatchNorm preserved, half by dynamo without optimisation, so that both are read.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from torch import nn

Blocks = list[list[tuple[int, int]]]

MEMBERS: dict[str, Blocks] = {
    "V13": [[(3, 8)] * 2, [(3, 16)] * 2, [(3, 32)] * 2],
    "V16": [[(3, 8)] * 2, [(3, 16)] * 2, [(3, 32)] * 2 + [(1, 32)]],
    "V16A": [[(3, 12)] * 2, [(3, 16)] * 2, [(3, 24)] * 2 + [(1, 48)]],
    "V16B": [[(5, 8), (3, 8)], [(3, 16)] * 2, [(3, 32)] * 3],
    "V19": [[(3, 8)] * 2, [(3, 16)] * 2, [(3, 32)] * 4],
}
"""V5 of the paper in small: blocks of (kernel, filters), each ended by 2x2 pooling."""


def network(blocks: Blocks) -> nn.Module:
    """Convolutions with BatchNorm and ReLU, then a hidden layer of 64 and ten classes."""
    layers: list[nn.Module] = []
    channels = 1
    for block in blocks:
        for kernel, filters in block:
            conv = nn.Conv2d(channels, filters, kernel, padding=kernel // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 9, 64), nn.ReLU(), nn.Linear(64, 10))


def export(folder: Path) -> list[Path]:
    """Write the members with fresh weights."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (name, blocks) in enumerate(MEMBERS.items()):
        torch.manual_seed(number)
        model, path = network(blocks).eval(), folder / f"{name}.onnx"
        names = {"input_names": ["image"], "output_names": ["logits"]}
        example = (torch.randn(2, 1, 28, 28),)
        if number % 2 == 0:
            torch.onnx.export(
                model,
                example,
                str(path),
                dynamo=False,
                dynamic_axes={"image": {0: "batch"}},
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                **names,
            )
        else:
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                model,
                example,
                str(path),
                dynamo=True,
                optimize=False,
                dynamic_shapes=batch,
                external_data=False,
                **names,
            )
        paths.append(path)
    return paths


def main() -> None:
    """Export, then run mnx."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="Fashion-MNIST: a folder of IDX files, or an .npz")
    parser.add_argument("--out", type=Path, default=Path("mnx-run-fashion"))
    parser.add_argument("--train-limit", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe")
    options = parser.parse_args()
    if options.data is None:
        print("skipped: give --data, the folder of Fashion-MNIST's files or an .npz", file=sys.stderr)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        members = export(options.out / "exported")
    command = [str(Path(sys.executable).with_name("mnx")), "run", *map(str, members), "--data", options.data]
    command += ["--train-limit", str(options.train_limit), "--tau", "0.45", "--compare", "independent"]
    command += ["--threads", "1", "--seed", str(options.seed), "--run", str(options.out / "run")]
    command += [part for each in options.set for part in ("--set", each)]
    raise SystemExit(subprocess.call(command))


if __name__ == "__main__":
    main()
