"""A Chinese and a German model, trained here in a minute each on public sentences, audited with their own lists: counts of the corpus
against plain ones, differences against transformers in float64."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.cli.calling import call
from tests.fairness.held import held
from tests.fairness.test_audits import oracle
from wenloom.fairness.swapped_prompts import SwappedPrompts
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import ModelSettings, TrainSettings

_PAIRS = 12


def sentences(shared_data: Path, language: str) -> tuple[list[str], list[str]]:
    """To learn from, and to ask with: Tatoeba's Chinese sentences, the German captions of Multi30k."""
    if language == "de":
        learned = gzip.decompress((shared_data / "multi30k/train.de.gz").read_bytes()).decode().splitlines()
        return learned, (shared_data / "multi30k/test_2016_flickr.de").read_text("utf-8").splitlines()
    lines = gzip.decompress((shared_data / "tatoeba_cmn_eng/cmn.txt.gz").read_bytes()).decode().splitlines()
    unique = list(dict.fromkeys(line.split("\t")[1] for line in lines))
    return unique[:-2000], unique[-2000:]


def rows_file(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in texts), "utf-8")
    return str(path)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("language", ["zh", "de"])
def test_a_model_of_another_language_is_audited_with_its_own_list(language: str, shared_data: Path, tmp_path: Path):
    learned, asked = sentences(shared_data, language)
    prepare([rows_file(tmp_path / "learned.jsonl", learned)], tmp_path / "data", PrepareOptions(vocab_size=2000))
    pretrain(tmp_path / "data", tmp_path / "run", ModelSettings(layers=3, width=96, heads=4, context=64),
             TrainSettings(steps=200, batch=16, compile="off", evaluations=1))  # fmt: skip
    (tmp_path / "asked.txt").write_text("\n".join(asked) + "\n", "utf-8")
    done = call("audit", "run", "--prompts", "asked.txt", "--on", "seat", "--corpus", "learned.jsonl", "--lexicon", language, "--axis", "gender",
                "--json", cwd=tmp_path)  # fmt: skip
    assert done.code == 0, done
    found = json.loads(done.out)
    by_measure = {each["measure"]: each for each in found["figures"] if each["suite"] == "prompts"}
    assert by_measure["difference"]["n"] > 300 and by_measure["difference"]["low"] < by_measure["difference"]["high"]
    named = [each["group"] for each in found["figures"] if each["suite"] == "seat"]
    assert {"zh": "性别与工作", "de": "Geschlecht und Beruf"}[language] in named
    (gender,) = found["corpus"]
    assert list(gender["words"]) == {"zh": ["女", "男"], "de": ["weiblich", "männlich"]}[language]
    if language == "zh":
        plain = [sum(word in each for each in learned) for word in ("她", "他")]
    else:
        plain = [sum(bool(re.search(rf"\b{word}\b", each)) for each in learned) for word in ("Frau", "Mann")]
    assert all(gender["words"][side] >= count > 500 for side, count in zip(gender["words"], plain, strict=True))
    # the model follows its corpus: most of either speaks of men
    assert by_measure["difference"]["value"] < 0 and by_measure["difference"]["high"] < 0.2
    audit, scored = SwappedPrompts(tmp_path / "asked.txt", language, ("gender",)), oracle(tmp_path / "run")
    samples, bits = audit.samples(tmp_path, _PAIRS), list[float]()
    for sample in samples:
        logs = [scored("", each)[1] for each in sample[:2]]
        (one, _), (other, _) = held(tmp_path / "run", sample[:2], logs, sample.words)
        bits.append((one - other) / np.log(2))
    few = json.loads(call("audit", "run", "--prompts", "asked.txt", "--lexicon", language, "--axis", "gender", "--limit", _PAIRS, "--json",
                          cwd=tmp_path).out)["figures"]  # fmt: skip
    (difference,) = [each for each in few if each["measure"] == "difference"]
    assert difference["value"] == pytest.approx(np.mean(bits), abs=1e-3) and difference["n"] == _PAIRS
