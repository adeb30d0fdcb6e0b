"""Where is the next token decided? A logit lens (nostalgebraist 2020): every block's residual stream is read as if it were the last.

python examples/look_inside.py runs/mine "The cat sat on the"
"""

import sys

import torch

import wenloom
from wenloom.model.taps import Taps


@torch.inference_mode()
def main(name: str, text: str) -> None:
    model = wenloom.load(name)
    decoder, tokenizer = model.decoder, model.tokenizer
    tokens_BT = torch.tensor([tokenizer.prompt_ids(text)])

    streams: dict[int, torch.Tensor] = {}
    blocks = {f"blocks.{layer}.resid_post": layer for layer in range(decoder.config.n_layers)}
    taps = Taps(
        {place: lambda x, layer=layer: streams.update({layer: x}) for place, layer in blocks.items()}, decoder.places
    )
    decoder.hidden(tokens_BT, taps=taps)

    for layer, x_BTD in streams.items():
        probabilities_V = decoder.unembed(decoder.final_norm(x_BTD[0, -1])).softmax(-1)
        best = probabilities_V.topk(3)
        guesses = ", ".join(
            f"{tokenizer.decode([token])!r} {p:.1%}" for p, token in zip(*map(torch.Tensor.tolist, best), strict=True)
        )
        print(f"after block {layer}: {guesses}")


if __name__ == "__main__":
    main(*sys.argv[1:])
