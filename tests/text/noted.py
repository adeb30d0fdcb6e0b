"""What steps that compare documents noted of texts, in memory."""

from collections.abc import Sequence

import numpy as np

from wenloom.text.steps.comparing import measured, ranks
from wenloom.text.steps.step import CorpusStep, Notes


def notes_of(step: CorpusStep, texts: Sequence[str], n_protected: int = 0) -> Notes:
    noted = step.note(texts)
    starts = np.concatenate(([0], np.cumsum([len(each) for each in noted])))
    values = np.concatenate([*noted, np.zeros(0, np.uint64)])
    rank = ranks(np.array([measured(text) for text in texts]), n_protected)
    return Notes(
        values, starts, [str(number) for number in range(len(texts))], rank, np.zeros(len(texts), bool), n_protected
    )
