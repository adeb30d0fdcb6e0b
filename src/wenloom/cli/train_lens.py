"""`wenloom train-lens`. torch is loaded when there is work, so that --help answers at once."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wenloom.cli.options import Device, Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, say, table
from wenloom.core.errors import InputError
from wenloom.core.files import check_no_folder
from wenloom.core.progress import progress


def train_lens(
    model: str,
    /,
    *texts: Annotated[str, Parameter(name="texts")],
    out: Path,
    steps: int = 250,
    seed: int = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a tuned lens: a map for each block through which its answer can be read, for `wenloom explain --lens`.

    The logit lens reads every block as if it were the last, in whose coordinates early blocks do not write. The tuned lens (Belrose
    et al. 2023) learns to translate: the least KL divergence from what the model answers in the end. Shown is how near both
    come, block by block, on every tenth passage of the text, which is held out.

        wenloom train-lens runs/mine my-texts/ --out lens.safetensors
        wenloom explain runs/mine "The lamp was" --lens lens.safetensors

    Parameters
    ----------
    model
        A model folder, or a hub model.
    texts
        Files and folders of text, as `wenloom prepare` reads them.
    out
        The file to write, such as lens.safetensors.
    steps
        Steps of 128 tokens each.
    seed
        Seed of the order of passages.
    """
    if not texts:
        raise InputError("name the text to learn from: wenloom train-lens MODEL TEXTS --out FILE.")
    if steps < 1:
        raise InputError(f"--steps {steps}: must be at least 1.")
    check_no_folder(out)
    from wenloom.explanation import tuned_lens
    from wenloom.explanation.subject import subject_of

    subject = subject_of(model, device)
    with progress("Training", steps, "steps") as bar:
        found = tuned_lens.train_lens(subject, texts, steps, seed, bar.advance)
    tuned_lens.save_lens(found.lens, out)
    if json:
        print_json(
            {
                "model": model,
                "out": str(out),
                "tokens": found.n_tokens,
                "kl_tuned": found.kl_tuned,
                "kl_logit": found.kl_logit,
            }
        )
        return
    columns = ("block", "tuned lens", "logit lens")
    shown = table(*columns, right=columns)
    for layer, (tuned, logit) in enumerate(zip(found.kl_tuned, found.kl_logit, strict=True)):
        shown.add_row(str(layer), f"{tuned:.3f}", f"{logit:.3f}")
    console.print(shown)
    say(f"KL from the model's own answer, nats, on {found.n_tokens:,} tokens held out\n{out}: the lens")
