"""`wenloom prepare`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wenloom.checkpoint.hub import resolve
from wenloom.cli.options import Json, Reading, RecipeChanges, RecipeName, flags, refuse_unused
from wenloom.cli.recipes import chosen_recipe
from wenloom.cli.trial import show_trial
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted
from wenloom.text.documents import ReadOptions
from wenloom.text.executors import Cluster
from wenloom.text.recipe import Recipe
from wenloom.tokens.prepare import Prepared, PrepareOptions
from wenloom.tokens.prepare import prepare as prepare_corpus
from wenloom.tokens.shards import MANIFEST
from wenloom.tokens.tokenizer import TextTokenizer


def prepare(
    paths: list[str],
    /,
    *,
    out: Path | None = None,
    options: Annotated[PrepareOptions, flags("Corpus", 2)] = PrepareOptions(),
    reading: Reading = ReadOptions(),
    tokenizer: Annotated[
        str | None, Parameter(help="Use the tokenizer of this folder (or hub model) instead of learning one.")
    ] = None,
    recipe: RecipeName = None,
    changes: RecipeChanges = (),
    keep_dropped: Path | None = None,
    write_dropped: Path | None = None,
    processes: Annotated[
        int | None, Parameter(help="Processes that run the recipe (on a cluster: tasks at a time); default: all cores.")
    ] = None,
    on: Annotated[
        str | None,
        Parameter(
            help="Run the recipe on a cluster that sees the files and --out: ray, or slurm:PARTITION (wenloom[cluster])."
        ),
    ] = None,
    try_: Annotated[
        int | None, Parameter(name="--try", help="Show what the recipe does to this many documents, and write nothing.")
    ] = None,
    ablate: Annotated[
        list[str] | None,
        Parameter(
            help="Files of held-out text: instead of a corpus, measure what each step of the recipe does to a small model."
        ),
    ] = None,
    ablate_budget: Annotated[
        str | None, Parameter(help="Time that each model of --ablate is trained; default: 1min.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn text files into a training corpus.

    Reads files of any kind (`wenloom read`), also compressed and in archives; normalises Unicode, drops exact
    duplicates, or what a recipe drops; keeps part of the documents for validation, learns a tokenizer, and writes memory-mapped
    token shards. Running it again does nothing unless a file, an option or the tokenizer changed.

        wenloom prepare my-texts/ --out data/mine
        wenloom prepare 'poems/*.jsonl.gz' --text-field title --text-field paragraphs --out data/poems
        wenloom prepare hf:roneneldan/TinyStories:validation --out data/tiny
        wenloom prepare my-texts/ --recipe books --set language=off --out data/books
        wenloom prepare my-texts/ --recipe web-en --try 1000
        wenloom prepare crawl/ --recipe web --on slurm:cpu --out data/web
        wenloom prepare my-texts/ --recipe books --set language=off --ablate chapter.txt --ablate-budget 5s --out ablation
        wenloom prepare stories.txt --separator '<|endoftext|>' --out data/stories

    Parameters
    ----------
    paths
        Files, folders (everything readable below), globs, and data sets of the hub as hf:owner/name, with a configuration
        (hf:owner/name/config) or a split (hf:owner/name:train).
    out
        Folder for the corpus.
    keep_dropped
        Folder for the documents that the recipe drops, whole and with the reason: a file of JSON lines for each step.
    write_dropped
        Write what is left out here, as JSON lines: its file and line, which step dropped it and why, and how it begins.
        Everything is then read again.
    """
    if options.validation_files:
        refuse_unused("--validation-files are the validation text; leave it out",
                      validation=options.validation != PrepareOptions.validation)  # fmt: skip
    if recipe is None:
        refuse_unused("goes with --recipe", set=bool(changes), keep_dropped=keep_dropped is not None,
                      processes=processes is not None, on=on is not None, ablate=bool(ablate), **{"try": try_ is not None})  # fmt: skip
    elif options.text_steps or options.keep_duplicates:
        refuse_unused("a recipe says it itself: --set STEP=on or --set duplicates=off", text_steps=bool(options.text_steps),
                      keep_duplicates=options.keep_duplicates)  # fmt: skip
    if processes is not None and processes < 1:
        raise InputError(f"--processes {processes}: must be at least 1.")
    chosen = None if recipe is None else chosen_recipe(recipe, changes)
    if try_ is not None:
        assert chosen is not None
        refuse_unused("--try writes nothing; leave it out", out=out is not None, keep_dropped=keep_dropped is not None,
                      write_dropped=write_dropped is not None, tokenizer=tokenizer is not None, on=on is not None)  # fmt: skip
        show_trial(paths, reading, chosen, try_, json)
        return
    if not ablate and ablate_budget is not None:
        raise InputError("--ablate-budget: goes with --ablate.")
    if out is None:
        raise InputError("--out: name the folder for the corpus.")
    if ablate:
        assert chosen is not None
        refuse_unused("--ablate makes corpora of its own; leave it out", keep_dropped=keep_dropped is not None,
                      write_dropped=write_dropped is not None, tokenizer=tokenizer is not None, on=on is not None)  # fmt: skip
        _ablate(paths, ablate, chosen, reading, out, ablate_budget or "1min", json)
        return
    given = None
    if tokenizer is not None:
        if options.kind != PrepareOptions.kind or options.vocab_size is not None:
            raise InputError("--tokenizer brings its own vocabulary: leave out --kind and --vocab-size.")
        given = TextTokenizer.from_pretrained(resolve(tokenizer))
    prepared = prepare_corpus(paths, out, options, reading, given, write_dropped, chosen, keep_dropped, processes,
                              None if on is None else Cluster(on, processes))  # fmt: skip
    print_json(prepared.dataset.manifest | {"reused": prepared.reused}) if json else say(summary(prepared))


def _ablate(
    paths: list[str], held_out: list[str], recipe: Recipe, reading: ReadOptions, out: Path, budget: str, as_json: bool
) -> None:
    from wenloom.core.files import check_free
    from wenloom.tasks.ablation import ablate, table
    from wenloom.training.settings import TrainSettings

    check_free(out)
    found = list(ablate(paths, held_out, recipe, reading, out, training=TrainSettings(budget=budget)))
    rows = [asdict(each) | {"verdict": each.verdict} for each in found]
    print_json({"recipe": recipe.name, "steps": rows}) if as_json else say(table(found), verbatim=True)


_COUNTS = ("documents", "bytes", "tokens")


def summary(prepared: Prepared) -> str:
    """What was made, in a few lines."""
    dataset = prepared.dataset
    facts, splits = dataset.manifest, dataset.splits
    lines = [
        f"{dataset.folder}: nothing changed since it was prepared."
        if prepared.reused
        else f"{dataset.folder}: prepared."
    ]
    widths = [max(len(f"{getattr(split, count):,}") for split in splits.values()) for count in _COUNTS]
    for name, split in splits.items():
        cells = [counted(getattr(split, each), each.removesuffix("s")) for each in _COUNTS]
        counts = ", ".join(" " * (width - cell.index(" ")) + cell for cell, width in zip(cells, widths, strict=True))
        lines.append(
            f"  {name:10} {counts} ({split.bytes / max(1, split.tokens):.2f} bytes each)"
            + f", {split.unknown:,} of them unknown" * bool(split.unknown)
        )
    dropped = [counted(facts["duplicates_removed"], "duplicate") * bool(facts["duplicates_removed"]),
               counted(facts["empty_documents"], "empty document") * bool(facts["empty_documents"])]  # fmt: skip
    dropped += [f"{count:,} by {name}" for name, count in facts.get("text_steps", {}).items() if count]
    if n_bad := facts.get("left_out", {}).get("rows"):
        dropped.append(f"{n_bad:,} rows or files that cannot be used (listed in {dataset.folder / MANIFEST})")
    if any(dropped):
        lines.append(f"  left out   {' and '.join(filter(None, dropped))}")
    if "recipe" in facts:
        lines.append(f"  recipe     {facts['recipe']['name']}; see {dataset.folder / 'data-card.html'}")
    tokenizer = facts["tokenizer"]
    lines.append(
        f"  tokenizer  {tokenizer['kind']}, {tokenizer['vocab_size']:,} tokens; validation is {facts['split_rule']}"
    )
    return "\n".join(lines)
