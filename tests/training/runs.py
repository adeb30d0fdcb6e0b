"""Short runs that several tests make."""

from pathlib import Path

import torch

from wenloom.checkpoint.folder import load_decoder
from wenloom.training.settings import ModelSettings, TrainSettings

MODEL = ModelSettings(arch="llama", layers=2, width=32, heads=2, context=32, dropout=0.0)
TRAINING = TrainSettings(steps=12, batch=4, learning_rate=0.01, evaluations=2, precision="fp32", device="cpu")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_decoder(folder).state_dict()


def same_weights(one: Path, other: Path) -> bool:
    theirs = weights(other)
    return all(tensor.equal(theirs[name]) for name, tensor in weights(one).items())
