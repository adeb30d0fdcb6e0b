"""One seed, many independent streams, each derived by name and index.

Nothing in the library reseeds a global generator: a stream is asked for where it is used, so adding
a consumer of randomness in one place never changes the numbers drawn in another.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names`.

    >>> derive_seed(1, "batches", 0) == derive_seed(1, "batches", 0)
    True
    >>> derive_seed(1, "batches", 0) == derive_seed(1, "batches", 1)
    False
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *names: str | int, device: str = "cpu") -> "torch.Generator":
    """A torch generator for the stream called `names`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def uniforms(key: int, counter: int, indices: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """A number in (0, 1) for every (key, counter, index), the same whenever and with whomever it is asked for.

    A counter-based generator (Salmon et al. 2011): the finaliser of SplitMix64 (Steele et al. 2014), applied to
    key and counter, then to that and each index.
    """
    import numpy as np

    start = _mixed(_mixed((key ^ 0x9E3779B97F4A7C15) & _MASK) + (counter + 1) * 0x9E3779B97F4A7C15 & _MASK)
    x = indices.astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + np.uint64(start)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


_MASK = 2**64 - 1


def _mixed(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)
