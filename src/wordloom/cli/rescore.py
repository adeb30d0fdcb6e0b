"""`wordloom rescore`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path
from typing import Literal

from wordloom.cli.options import Device, Json
from wordloom.core.console import print_json, progress, say
from wordloom.core.files import write_atomically


def rescore(
    model: str,
    nbest: Path,
    /,
    *,
    case: Literal["lower", "upper", "sentence", "keep"] = "lower",
    out: Path | None = None,
    strict: bool = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Choose among the hypotheses of a speech recogniser with a language model, and measure the word errors.

    Weight and word bonus are tuned on one half of the utterances and applied to the other, and the other way round.
    Shown are the word error rates of the recogniser's own choice, of the new one, and of the best hypotheses (oracle).

        wordloom rescore runs/books dev_clean.jsonl.gz

    Parameters
    ----------
    model
        A model folder, or a hub model: one that goes on with texts, or a masked one.
    nbest
        jsonl with "utt_id", "ref" and "nbest": [{"text", "score"}, ...] per line, also compressed.
    case
        How the hypotheses are written for the model: lower, upper, sentence (a capital and a full stop) or keep.
    out
        Write the chosen texts here, one per line.
    strict
        Stop at the first row that cannot be used.
    """
    from wordloom.checkpoint.folder import load_model
    from wordloom.checkpoint.hub import resolve
    from wordloom.core.hardware import probe
    from wordloom.tasks import rescoring
    from wordloom.tasks.rows import Intake
    from wordloom.tokens.tokenizer import TextTokenizer

    intake = Intake(strict)
    utterances = rescoring.read_utterances(nbest, intake)
    intake.report()
    folder = resolve(model)
    loaded, tokenizer = load_model(folder, probe(device).device), TextTokenizer.from_pretrained(folder)
    with progress("Scoring", sum(len(each.hypotheses) for each in utterances), "texts") as bar:
        scores = rescoring.log_probabilities(loaded, tokenizer, utterances, case, bar.advance)
    found = rescoring.rescore(utterances, scores)
    texts = [each.hypotheses[index].text for each, index in zip(utterances, found.chosen, strict=True)]
    if out is not None:
        write_atomically(out, "".join(f"{text}\n" for text in texts))
    if json:
        print_json({
            "model": model, "utterances": len(utterances), "wer_before": found.before,
            "wer_after": {"value": found.after.value, "low": found.after.low, "high": found.after.high},
            "wer_oracle": found.oracle, "gain": {"low": found.gain.low, "high": found.gain.high},
            "weight": found.weight, "bonus": found.bonus,
        })  # fmt: skip
        return
    say(
        f"{len(utterances):,} utterances; word error rate in percent\n"
        f"  recogniser  {found.before:6.2f}\n"
        f"  rescored    {found.after.value:6.2f}   ({found.after.low:.2f} to {found.after.high:.2f}; "
        f"lower by {found.gain.low:.2f} to {found.gain.high:.2f})\n"
        f"  oracle      {found.oracle:6.2f}\n"
        f"for other speech: score + {found.weight:g} (log P + {found.bonus:g} words)"
    )
