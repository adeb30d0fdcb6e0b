"""`wenloom rescore`. torch is loaded when there is work, so that --help answers at once."""

import math
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from wenloom.cli.options import Device, Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.progress import progress
from wenloom.core.quantities import counted


def rescore(
    model: str,
    nbest: Path,
    /,
    *,
    second: str | None = None,
    case: Literal["lower", "upper", "sentence", "keep"] = "lower",
    weight: float | None = None,
    bonus: float = 0.0,
    mix: float = 0.0,
    out: Path | None = None,
    strict: Annotated[bool, Parameter(negative="--skip-bad")] = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Choose among a speech recognizer's hypotheses with a language model, and measure the word error rate.

    The best of score + weight (log P + bonus words) is chosen. The weights are tuned on one half of the
    utterances and applied to the other, and the other way round. Shown are the word error rates of the recogniser's own
    choice, of the new one, and of the best hypotheses (oracle).

        wenloom rescore runs/books dev_clean.jsonl.gz
        wenloom rescore runs/books dev_clean.jsonl.gz --second runs/bert
        wenloom rescore runs/books test.jsonl --weight 0.3 --bonus 1.5 --out chosen.txt

    Parameters
    ----------
    model
        A model folder, or a hub model: a decoder or a masked model.
    nbest
        jsonl with "utt_id", "ref" and "nbest": [{"text", "score"}, ...] per line, also compressed.
    second
        Another model, whose log P is mixed with the first's: a masked model beside a decoder.
    case
        How the hypotheses are written for the model: lower, upper, sentence (a capital and a full stop) or keep.
    weight
        Apply this, found on other speech, instead of tuning; references are then not needed.
    bonus
        With --weight: nats per word.
    mix
        With --weight: the part of the second model.
    out
        Write the chosen texts here, one per line.
    strict
        Stop at the first row that cannot be used.
    """
    if weight is None and (bonus or mix):
        raise InputError("--bonus and --mix go with --weight; without it all three are tuned.")
    if not math.isfinite(bonus) or (weight is not None and not math.isfinite(weight)):
        raise InputError("--weight and --bonus must be finite numbers.")
    if (mix and second is None) or not 0 <= mix <= 1:
        raise InputError(f"--mix {mix:g}: the part of the --second model, from 0 to 1.")
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.evaluation.scorers import scorer_of
    from wenloom.model.decoder import Decoder
    from wenloom.model.packed import packed
    from wenloom.tasks import rescoring
    from wenloom.tasks.rows import RowReader

    reader = RowReader(strict)
    utterances = rescoring.read_utterances(nbest, reader)
    reader.report()
    scores = []
    for folder in [resolve(name) for name in (model, second) if name is not None]:
        loaded, tokenizer = load_model(folder, probe(device).device), load_tokenizer(folder)
        with progress("Scoring", sum(len(each.hypotheses) for each in utterances), "texts") as bar:
            scorer = scorer_of(packed(loaded) if isinstance(loaded, Decoder) else loaded, tokenizer)
            scores.append(rescoring.log_probabilities(scorer, utterances, case, bar.advance))
    given = None if weight is None else rescoring.Fusion(weight, bonus, mix)
    found = None
    if given is not None and not all(each.reference for each in utterances):
        chosen = rescoring.choose(utterances, scores, given)
    else:
        found = rescoring.rescore(utterances, scores, given)
        chosen = found.chosen
    texts = [each.hypotheses[index].text for each, index in zip(utterances, chosen, strict=True)]
    if out is not None:
        write_atomically(out, "".join(f"{text}\n" for text in texts))
    if found is None:
        print_json({"model": model, "chosen": texts}) if json else say(
            f"{out}: {counted(len(texts), 'line')}." if out is not None else "\n".join(texts), verbatim=out is None
        )
    elif json:
        print_json({
            "model": model, "second": second, "utterances": len(utterances), "wer_before": found.before,
            "wer_after": {"value": found.after.value, "low": found.after.low, "high": found.after.high},
            "wer_oracle": found.oracle, "gain": {"low": found.gain.low, "high": found.gain.high},
            **found.fusion._asdict(),
        })  # fmt: skip
    else:
        fusion = found.fusion
        again = f"--weight {fusion.weight:g} --bonus {fusion.bonus:g}" + f" --mix {fusion.mix:g}" * (second is not None)
        say(
            f"{len(utterances):,} utterances; word error rate in percent\n"
            f"  recogniser  {found.before:6.2f}\n"
            f"  rescored    {found.after.value:6.2f}   ({found.after.low:.2f} to {found.after.high:.2f}; "
            f"lower by {found.gain.low:.2f} to {found.gain.high:.2f})\n"
            f"  oracle      {found.oracle:6.2f}\n"
            f"for other speech: {again}"
        )
