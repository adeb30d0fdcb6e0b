"""Small changes to what a model reads, new ones each time: little data, seen in many ways.

Tokens that become another (noise) and tokens that are left out (deletion), as in Wei & Zou 2019 (random swap and
deletion) and in the noised sources of Edunov et al. 2018, section 4.3.
"""

import numpy as np

from wenloom.training.columns import Column, Example, Tokens


class Noise:
    """Changes the tokens of sources and of texts to classify; never special ones, never what is to be predicted.

    Args:
        vocab_size: what another token is drawn from.
        special: tokens that stay.
        noise: part of the tokens that become another.
        deletion: part of the tokens that are left out.
    """

    def __init__(self, vocab_size: int, special: frozenset[int], noise: float, deletion: float):
        self.vocab_size, self.noise, self.deletion = vocab_size, noise, deletion
        self._ordinary = np.setdiff1d(np.arange(vocab_size), [*special])

    def __call__(self, example: Example, seed: int) -> Example:
        """The example with other changes for every seed."""
        name, mask = ("source_BS", "source_mask_BS") if "source_BS" in example else ("inputs_BT", "mask_BT")
        tokens, drawn = np.array(example[name]), np.random.default_rng(seed)
        fate, ordinary = drawn.random(len(tokens)), np.isin(tokens, self._ordinary)
        other = drawn.choice(self._ordinary, len(tokens))
        tokens = np.where(ordinary & (fate < self.noise), other, tokens)
        stays = ~ordinary | (fate < 1 - self.deletion)
        if not (ordinary & stays).any():  # never all of a text
            stays = np.ones(len(tokens), bool)
        kept = tokens[stays].tolist()
        return example | {name: Tokens(kept), mask: Column([1] * len(kept))}
