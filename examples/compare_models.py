"""Is the second model better on these texts, or is it chance? A paired test over documents answers.

python examples/compare_models.py runs/old runs/mine my-texts
"""

import sys

import numpy as np

import wenloom
from wenloom.evaluation.significance import paired
from wenloom.text.documents import find_files, read_documents


def main(first: str, second: str, texts: str) -> None:
    documents = [document.text for document in read_documents(find_files([texts]))]
    bits = []
    for name in (first, second):
        model = wenloom.load(name)
        bits.append(np.array([model.score(text).bits_per_byte for text in documents]))
        print(f"{name}: {bits[-1].mean():.3f} bits per byte, mean of {len(documents)} documents")
    test = paired(*bits)
    print(f"difference {test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}], p = {test.p:.3g}")


if __name__ == "__main__":
    main(*sys.argv[1:])
