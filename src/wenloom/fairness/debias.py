"""Making a model prefer less, at the points where a model is made: its data, its loss, its weights.

- `filter`: the model goes on training on the texts without the passages in which a word of a group stands in one sentence with a word
  that speaks well or ill of somebody, see `text.steps.groups`.
- `cda` (counterfactual data augmentation, Zhao et al. 2018): the model goes on training on texts beside the same texts with the words of
  one group exchanged for those of the other, and on sentences about people of whom the word does not say the group.
- `equalize` (Qian et al. 2019): a penalty beside the loss where a word of one group is more probable than its counterpart.
- `leace` (Belrose et al. 2023): which group's word follows is erased from what the output matrix reads, see `erasure`.

What acts while writing, Self-Debias, is an option of every request (`generation.options.Search.self_debias`).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wenloom.checkpoint.folder import load_decoder, load_tokenizer, read_config, write_model_files
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.files import check_free, folder_aside, write_atomically
from wenloom.core.progress import progress
from wenloom.evaluation.perplexity import data_hash
from wenloom.fairness.cost import passages
from wenloom.fairness.erasure import MOST_WORDS_PER_NUMBER, ConceptRow, Erasure, concept_rows, divided, erase
from wenloom.fairness.unfinished import (
    Unfinished,
    how_to_go_on,
    note_unfinished,
    read_unfinished,
    refuse_unfinished,
    training_folder,
    unfinished_file,
)
from wenloom.text.documents import find_files, read_documents
from wenloom.text.encoding import only_utf8
from wenloom.text.group_axis import GroupAxis
from wenloom.text.lexicon import Lexicon, lexicon
from wenloom.text.sentences import sentences
from wenloom.text.steps.groups import Groups
from wenloom.tokens.prepare import prepare
from wenloom.training.checkpoints import latest_checkpoint
from wenloom.training.equalized import has_word_pairs
from wenloom.training.interrupt import Interrupted
from wenloom.training.loop import Show
from wenloom.training.pretrain import finished_result, pretrain
from wenloom.training.pretrain import resume as go_on_training
from wenloom.training.run_result import RunResult
from wenloom.training.settings import InitSettings, TrainSettings

TRAINED = ("filter", "cda", "equalize")
METHODS = (*TRAINED, "leace")
_MOST_STRENGTH = 1000


@dataclass(frozen=True)
class Augmented:
    """Texts for a training that is to prefer less."""

    texts: list[str]
    exchanged: int
    """Texts that stand there twice, with the words of either group."""
    unclear: int
    """Texts whose words could not surely be exchanged: they stand there as they are."""
    people: int
    """Sentences about people of whom the word does not say the group, both ways."""


def augmented(texts: Iterable[str], axis: GroupAxis, known: Lexicon) -> Augmented:
    """Every passage that speaks of a group beside its counterpart, the others as they are, and the lexicon's sentences about people."""
    found, exchanged, unclear = list[str](), 0, 0
    for text in texts:
        for passage in passages(text):
            other = axis.swapped(passage)
            found.append(passage)
            if other is not None and other != passage:
                found.append(other)
                exchanged += 1
            elif any(axis.sides_of(passage)):
                unclear += 1
    people = list(known.people) if known.people_axis == axis.name else []
    both = [text for each in people for text in (each, axis.swapped(each)) if text]
    return Augmented([*found, *both], exchanged, unclear, len(both))


def sentences_of(texts: Iterable[str]) -> Iterator[str]:
    """Texts in sentences or lines, of 20 to 400 characters."""
    for text in texts:
        for each in sentences(text):
            if 20 <= len(each) <= 400 or (20 > len(each) >= 6 and re.search(r"[\u3400-\u9fff]", each)):
                yield each


def without_groups(texts: Iterable[str], request: "DebiasRequest") -> tuple[list[str], int]:
    """The passages that say nothing of a group, and how many are left out.

    Raises:
        InputError: none is left out, or all are.
    """
    step = Groups(request.words.rpartition(":")[0], request.axis.name)
    all_passages = [each for text in texts for each in passages(text)]
    kept = [each for each in all_passages if step.said(each) is None]
    if len(kept) in (0, len(all_passages)):
        raise InputError(
            f"--method filter: {'all' if not kept else 'none'} of {len(all_passages):,} passages have a word of {request.axis.name} beside "
            "one that speaks well or ill; name other text with --data, or a list of your own with prepare --set groups.file=FILE."
        )
    return kept, len(all_passages) - len(kept)


@dataclass(frozen=True)
class Debiased:
    """What was done to a model."""

    folder: Path
    model: Path
    """The one that it was made of."""
    augmented: Augmented | None = None
    left_out: int | None = None
    """Passages that were filtered out."""
    training: RunResult | None = None
    erasure: Erasure | None = None


@dataclass(frozen=True)
class DebiasRequest:
    """How a model is to prefer less.

    Raises:
        InputError: an unknown method, or options of another one.
    """

    methods: tuple[str, ...]
    lexicon: Lexicon
    words: str
    """LEXICON:AXIS, the lexicon by its language or file, as in en:gender."""
    tuning: str = "lora"
    strength: float = 1.0
    """Of `equalize`: above 0, at most 1,000."""
    data: tuple[str, ...] = ()
    """Files and folders that the texts are of, by which an interrupted call reads them again."""

    def __post_init__(self):
        if not 0 < self.strength <= _MOST_STRENGTH:
            raise InputError(f"--strength {self.strength:g}: must be above 0 and at most {_MOST_STRENGTH:,}.")
        for each in self.methods:
            if each == "self-debias":
                raise InputError(
                    "--method self-debias changes no weights, it acts while the model writes: wenloom generate MODEL --self-debias "
                    '"The following text is sexist:"'
                )
            if each not in METHODS:
                raise InputError(
                    f"--method {each}: there are {', '.join(METHODS)} (several with commas), and generate --self-debias."
                )
        if not self.methods:
            raise InputError(f"--method: name one of {', '.join(METHODS)}.")

    @property
    def axis(self) -> GroupAxis:
        """Whose words are meant.

        Raises:
            InputError: the lexicon has no such axis.
        """
        return self.lexicon.axis(self.words.rpartition(":")[2])

    @property
    def trains(self) -> bool:
        """Whether the model goes on training."""
        return any(each in TRAINED for each in self.methods)


def debias(
    model: Path,
    out: Path,
    request: DebiasRequest,
    texts: Sequence[str],
    training: TrainSettings | None = None,
    show: Show | None = None,
    started: float | None = None,
) -> Debiased:
    """Train on with counterfactual texts or a penalty, then erase, as the request says; the folder is a model like any other.

    Args:
        model: folder of a decoder.
        out: folder to write; new or empty. Texts and corpus of a training stand beside it (`OUT-texts.jsonl`, `OUT-data`), and what
            was asked for until it is done (`OUT-debias.json`).
        texts: of the language and kind that the model is to go on writing; without any, the lexicon's sentences about people alone.
        training: length and the like; see `training.settings`.

    Raises:
        InputError: the model, the texts or the settings cannot be used.
        Interrupted: it was stopped; `resume` goes on with it.
    """
    refuse_unfinished(out)
    check_free(out)
    training = training or TrainSettings()
    _check_model(model, request)
    asked = Unfinished(str(model.resolve()), request.methods, request.words, request.tuning, request.strength,
                       request.data, data_hash("\0".join(texts)), training)  # fmt: skip
    note_unfinished(out, asked)
    return _finished(asked, out, request, texts, show, started, is_new=True)


def resume(out: Path, show: Callable[[Lexicon], Show] | None = None, started: float | None = None) -> Debiased:
    """Go on with a debiasing that was interrupted, to the same end: with its training, where there is one, then with the erasing.

    Args:
        out: the folder that it is to make.
        show: from the lexicon what `training.loop` shows while it trains.

    Raises:
        InputError: nothing was interrupted, or the model or the texts are gone or others; see `debias`.
        Interrupted: it was stopped again.
    """
    asked = read_unfinished(out)
    known = lexicon(asked.words.rpartition(":")[0])
    request = DebiasRequest(asked.methods, known, asked.words, asked.tuning, asked.strength, asked.data)
    texts = texts_of(asked.data)
    if data_hash("\0".join(texts)) != asked.texts:
        raise InputError(
            f"{out}: the texts of {', '.join(asked.data) or 'its --data'} are not those that it was begun with; put them back, or begin "
            "anew with another --out."
        )
    return _finished(asked, out, request, texts, None if show is None else show(known), started, is_new=False)


def texts_of(data: Sequence[str]) -> list[str]:
    """The texts of files and folders.

    Raises:
        InputError: a file that cannot be read.
    """
    with only_utf8():
        return [each.text for each in read_documents(find_files(list(data)))] if data else []


def _check_model(model: Path, request: DebiasRequest) -> None:
    """
    Raises:
        InputError: a model, or a vocabulary, that a method is not for.
    """
    config = read_config(model)
    if config.kind != "decoder" or config.labels:
        raise InputError(f"{model}: does not go on with a text; debias takes a decoder that predicts the next token.")
    if "equalize" in request.methods:
        if config.mlp.experts is not None:
            raise InputError(
                "--method equalize: is for models without experts, whose routers have losses of their own."
            )
        if not has_word_pairs(request.axis, load_tokenizer(model)):
            raise InputError(
                f"--method equalize: no word of {request.axis.name} and its counterpart are one token each in the vocabulary of {model}; "
                "--lexicon and --axis name others."
            )


def _finished(
    asked: Unfinished,
    out: Path,
    request: DebiasRequest,
    texts: Sequence[str],
    show: Show | None,
    started: float | None,
    is_new: bool,
) -> Debiased:
    """All steps, less those that are done; what was asked for stays written down where something of it can go on."""
    target = out if "leace" not in request.methods else training_folder(out)
    try:
        done = _made(Path(asked.model), out, target, request, texts, asked.training, show, started, is_new)
    except KeyboardInterrupt:
        saved = latest_checkpoint(target) is not None
        stopped = (
            "Stopped; what was trained is saved."
            if saved
            else "Stopped before anything was saved but what was asked for."
        )
        raise Interrupted(stopped, how_to_go_on(out)) from None
    except Interrupted as stop:
        raise Interrupted(stop.stopped, how_to_go_on(out)) from None
    except WenloomError:
        if is_new and latest_checkpoint(target) is None:
            unfinished_file(out).unlink(missing_ok=True)
        raise
    unfinished_file(out).unlink(missing_ok=True)
    return done


def _made(
    model: Path,
    out: Path,
    target: Path,
    request: DebiasRequest,
    texts: Sequence[str],
    training: TrainSettings,
    show: Show | None,
    started: float | None,
    is_new: bool,
) -> Debiased:
    """
    Args:
        target: folder of the training.
    """
    axis = request.axis
    made, left_out, result, source = None, None, None, model
    rows = list[ConceptRow]()
    if "leace" in request.methods:
        config = read_config(model)
        rows = concept_rows(load_tokenizer(model), axis, sentences_of(texts), config.context_length)
        divided(rows, config.d_model)  # too few are told before a training
    if request.trains:
        if "filter" in request.methods:
            texts, left_out = without_groups(texts, request)
        if request.methods != ("filter",):
            made = augmented(texts, axis, request.lexicon)
            if not made.exchanged + made.people:
                raise InputError(
                    f"no text has words of {axis.name} in the lexicon {request.lexicon.language}; name text that speaks of people with "
                    "--data."
                )
        kept = made.texts if made is not None and ("cda" in request.methods or not texts) else list(texts)
        result, source = None if is_new else finished_result(target), target
        if result is None and not is_new and latest_checkpoint(target) is not None:
            result = go_on_training(target, show)
        result = result or _trained(model, target, request, kept, training, show, started, is_new)
    erasure = None
    if "leace" in request.methods:
        erasure = _erase(source, out, rows)
    return Debiased(out, model, made, left_out, result, erasure)


def _trained(
    model: Path,
    target: Path,
    request: DebiasRequest,
    texts: Sequence[str],
    training: TrainSettings,
    show: Show | None,
    started: float | None,
    is_new: bool,
) -> RunResult:
    if is_new:
        check_free(target)
    rows, data = target.with_name(f"{target.name}-texts.jsonl"), target.with_name(f"{target.name}-data")
    write_atomically(rows, "".join(json.dumps({"text": each}, ensure_ascii=False) + "\n" for each in texts))
    prepare([str(rows)], data, tokenizer=load_tokenizer(model))
    init = InitSettings(init=str(model), method="lora" if request.tuning == "lora" else "full")
    if "equalize" in request.methods:
        init = replace(init, equalize=request.strength, equalize_words=request.words)
    return pretrain(data, target, None, training, show, started, init)


def _erase(model: Path, out: Path, rows: Sequence[ConceptRow]) -> Erasure:
    decoder, tokenizer = load_decoder(model).eval(), load_tokenizer(model)
    order = np.random.default_rng(0).permutation(len(rows))
    before = np.cumsum([0, *(len(rows[place].sides) for place in order)])
    chosen = order[: int((before[:-1] < MOST_WORDS_PER_NUMBER * decoder.config.d_model).sum())]
    with progress("Erasing", int(before[len(chosen)]), "words") as bar:
        erasure = erase(decoder, [rows[place] for place in chosen], bar.advance)
    with folder_aside(out) as folder:
        write_model_files(erasure.decoder, folder)
        tokenizer.save_pretrained(folder)
    return erasure
