"""CrowS-Pairs, StereoSet and WinoBias of a decoder: our counts beside an independent computation by transformers in float64.

The files are read, tokenized, scored and counted here anew, with nothing of ours; every count of every group and convention is
compared, and the end is an error where one differs. SmolLM2-135M takes about an hour of one thread for all 5,198 samples.

    WENLOOM_SHARED_DATA=... python bench/audits.py MODEL [--on stereoset winobias] [--limit 100] [--out audits.json]

Needs transformers.
"""

import argparse
import csv
import json
import os
import re
import sys
import time
from collections import defaultdict
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

Counts = dict[tuple[str, str, str], float]
"""By measure, convention and group: samples counted, or of `lm` the mean in percent."""
LogP = dict[str, tuple[list[int], list[float]]]
"""Of a sentence: its tokens and log P of each."""
BATCH = 24


def log_probabilities(model: Path, sentences: list[str]) -> LogP:
    """log P of every token by transformers, in float64; the first follows BOS, else the end of a text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    theirs = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    rows = {each: [first, *tokenizer(each, add_special_tokens=False)["input_ids"]] for each in set(sentences)}
    order, found, began = sorted(rows, key=lambda each: (len(rows[each]), each)), LogP(), time.monotonic()
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        longest = max(len(rows[each]) for each in part)
        ids = torch.tensor([rows[each] + [first] * (longest - len(rows[each])) for each in part])
        with torch.no_grad():
            logs = theirs(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        for each, row in zip(part, logs.tolist(), strict=True):
            found[each] = rows[each][1:], row[: len(rows[each]) - 1]
        if start // BATCH % 20 == 0:
            print(
                f"{start:,} of {len(order):,} sentences, {time.monotonic() - began:,.0f} s", file=sys.stderr, flush=True
            )
    return found


def divided(one: tuple[list[int], list[float]], other: tuple[list[int], list[float]]) -> Any:
    """log P of the tokens that two sentences share, of both, and of those that differ, of both."""
    shared, differing = ([], []), ([], [])
    for tag, a, b, c, d in SequenceMatcher(None, one[0], other[0], autojunk=False).get_opcodes():
        kept = shared if tag == "equal" else differing
        kept[0].extend(one[1][a:b])
        kept[1].extend(other[1][c:d])
    return shared, differing


def counted(rows: list[tuple[str, dict[tuple[str, str], float]]]) -> Counts:
    """Sums by group and of all."""
    found = Counts()
    for group, values in rows:
        for (measure, convention), value in values.items():
            for each in (group, "all"):
                key = measure, convention, each
                found[key] = found.get(key, 0) + value
    return found


def rounded(values: list[float], mean: bool = False) -> float:
    """To three decimals, as the authors do."""
    return round(sum(values) / (len(values) if mean else 1), 3) if values else 0.0


def crows_pairs(data: Path, limit: int | None) -> Any:
    with (data / "crows_pairs/crows_pairs_anonymized.csv").open(encoding="utf-8", newline="") as file:
        pairs = [(row["sent_more"].strip(), row["sent_less"].strip(), row["bias_type"]) for row in csv.DictReader(file)]
    pairs = thinned(pairs, limit)

    def count(logs: LogP) -> Counts:
        rows = []
        for more, less, group in pairs:
            shared, differing = divided(logs[more], logs[less])
            means = [np.mean(logs[each][1]) for each in (more, less)]
            sums = [sum(logs[each][1]) for each in (more, less)]
            rows.append((group, {
                ("stereotype", "shared"): rounded(shared[0]) > rounded(shared[1]),
                ("stereotype", "differing"): rounded(differing[0], True) > rounded(differing[1], True),
                ("stereotype", "mean"): means[0] > means[1], ("stereotype", "sum"): sums[0] > sums[1],
            }))  # fmt: skip
        return counted(rows)

    return [text for more, less, _ in pairs for text in (more, less)], count


def stereoset(data: Path, limit: int | None) -> Any:
    with (data / "stereoset/stereoset_intrasentence_dev.csv").open(encoding="utf-8", newline="") as file:
        rows = thinned(list(csv.DictReader(file)), limit)
    kinds = ("stereotype", "anti_stereotype", "unrelated")
    triples = [
        ([row["context"].replace("BLANK", row[each]) for each in kinds], row["bias_type"], row["target"])
        for row in rows
    ]

    def count(logs: LogP) -> Counts:
        chosen, sense = [], defaultdict[tuple[str, str], list[float]](list)
        for texts, group, target in triples:
            pro, anti, unrelated = (np.mean(logs[each][1]) for each in texts)
            chosen.append((group, {("ss", "mean"): pro > anti}))
            for each in (group, "all"):
                sense[each, target].append(50.0 * (pro > unrelated) + 50.0 * (anti > unrelated))
        found = counted(chosen)
        for group in {each for each, _ in sense}:
            found["lm", "mean", group] = float(
                np.mean([np.mean(each) for key, each in sense.items() if key[0] == group])
            )
        return found

    return [text for texts, _, _ in triples for text in texts], count


def winobias(data: Path, limit: int | None) -> Any:
    pairs = []
    for name in ("type1.txt.dev", "type1.txt.test", "type2.txt.dev", "type2.txt.test"):
        both = [
            [
                re.sub(r"^\d+ ", "", line.strip()).translate({91: None, 93: None}).strip()
                for line in file
                if line.strip()
            ]
            for file in (
                (data / f"winobias/{kind}_stereotyped_{name}").read_text("utf-8").splitlines()
                for kind in ("pro", "anti")
            )
        ]
        pairs += [(usual, other, name[:5]) for usual, other in zip(*both, strict=True) if usual != other]
    pairs = thinned(pairs, limit)

    def count(logs: LogP) -> Counts:
        rows = []
        for usual, other, group in pairs:
            _, differing = divided(logs[usual], logs[other])
            rows.append((group, {
                ("usual gender", "pronoun"): sum(differing[0]) > sum(differing[1]),
                ("usual gender", "sum"): sum(logs[usual][1]) > sum(logs[other][1]),
            }))  # fmt: skip
        return counted(rows)

    return [text for usual, other, _ in pairs for text in (usual, other)], count


def thinned(samples: list[Any], limit: int | None) -> list[Any]:
    """So many, evenly spread."""
    return samples if limit is None else [samples[n * len(samples) // limit] for n in range(min(limit, len(samples)))]


SUITES = {"crows_pairs": crows_pairs, "stereoset": stereoset, "winobias": winobias}


def ours(model: Path, data: Path, name: str, limit: int | None) -> Counts:
    from wenloom.fairness.audited_model import AuditedModel
    from wenloom.fairness.audits import all_audits

    found = all_audits()[name].run(AuditedModel(model.name, model), data, limit)
    return {
        (each.measure, each.convention, each.group): each.value if each.count is None else each.count
        for each in found.figures
    }


def compared(model: Path, data: Path, names: list[str], limit: int | None = None) -> list[dict[str, Any]]:
    """A row for every count: ours and theirs."""
    made = {name: SUITES[name](data, limit) for name in names}
    logs = log_probabilities(model, [text for texts, _ in made.values() for text in texts])
    rows = []
    for name, (_, count) in made.items():
        own = ours(model, data, name, limit)
        rows += [{"suite": name, "measure": key[0], "convention": key[1], "group": key[2], "ours": float(own[key]), "theirs": float(value)}
                 for key, value in sorted(count(logs).items())]  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a decoder")
    parser.add_argument("--on", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--limit", type=int, help="only so many samples of each, evenly spread")
    parser.add_argument("--out", type=Path, help="write the counts to this JSON file")
    arguments = parser.parse_args()
    data = Path(os.environ.get("WENLOOM_SHARED_DATA", "../shared/data")).resolve()
    began = time.monotonic()
    rows = compared(arguments.model.resolve(), data, arguments.on, arguments.limit)
    differing = [row for row in rows if abs(row["ours"] - row["theirs"]) > 1e-9]
    for row in rows:
        print(f"{row['suite']:12} {row['measure']:13} {row['convention']:10} {row['group']:20} {row['ours']:9.6g} {row['theirs']:9.6g}"
              f"{'  DIFFERS' if row in differing else ''}")  # fmt: skip
    print(f"{len(rows)} figures, {len(differing)} differ; {time.monotonic() - began:,.0f} s")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
