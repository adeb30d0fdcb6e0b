"""The model card: README.md of a model folder."""

import json
from pathlib import Path
from typing import Any

from wenloom.core.files import write_atomically
from wenloom.core.quantities import counted, show_unit
from wenloom.text.opening import opening


def write_card(folder: Path, tables: dict[str, dict[str, Any]], samples: list[str]) -> None:
    """Write README.md: what the model is, how it was trained, how good it is and how to use it.

    Args:
        tables: the tables of run.toml.
        samples: texts the model wrote.
    """
    model, data, result = tables["model"], tables["data"], tables["result"]
    settings, environment = tables["settings"], tables["environment"]
    sources = ", ".join(Path(source).name for source in data["sources"][:5])
    prompt = json.dumps(opening(samples[0] if samples else "") or "Once upon a time", ensure_ascii=False)
    more = f" and {len(data['sources']) - 5} more files" if len(data["sources"]) > 5 else ""
    text = f"""---
library_name: transformers
pipeline_tag: text-generation
tags:
- wenloom
- {model["family"]}
---

# {folder.resolve().name}

A {model["family"]} language model with {model["parameters"]:,} parameters, {_origin(settings)} with Wenloom
{environment["wenloom"]}.

| | |
|---|---|
| Text | {sources}{more}: {counted(data["train_documents"], "document")}, {data["train_bytes"]:,} bytes |
| Validation | {counted(data["validation_documents"], "document")}, {data["validation_bytes"]:,} bytes ({data["split"]}) |
{_cards(data)}| Tokenizer | {model["tokenizer"]}, {model["vocab_size"]:,} tokens |
| Training | {counted(result["steps"], "step")}, {result["tokens"]:,} tokens, {result["training_seconds"]:,.0f} s on {environment["device"]} |
| Seed | {settings["seed"]} |
| Validation loss | {result["validation_bits_per_byte"]:.4f} bits per byte, {result["validation_nats_per_character"]:.4f} nats per character, {result["validation_nats_per_token"]:.4f} nats per token |

All settings are in `run.toml`.

## Use

```python
from wenloom import AutoModelForCausalLM, AutoTokenizer  # or, the same: from transformers import ...

model = AutoModelForCausalLM.from_pretrained("{folder.resolve().name}")
tokenizer = AutoTokenizer.from_pretrained("{folder.resolve().name}")
ids = tokenizer.encode({prompt}, return_tensors="pt")
print(tokenizer.decode(model.generate(input_ids=ids, max_length=100, do_sample=True)[0], skip_special_tokens=True))
```

The model repeats what its text says, its errors and its prejudices included. It was not checked for either.
"""
    if samples:
        text += "\n## Samples\n\n" + "\n\n".join(f"```text\n{sample}\n```" for sample in samples) + "\n"
    write_atomically(folder / "README.md", text)


def _cards(data: dict[str, Any]) -> str:
    """A row with the data cards of the corpora, if they have any.

    >>> _cards({}), _cards({"data_cards": ["/data/web/data-card.html"]})
    ('', '| Data card | [web](/data/web/data-card.html) |\\n')
    """
    links = ", ".join(f"[{Path(card).parent.name}]({card})" for card in data.get("data_cards", ()))
    return f"| Data card | {links} |\n" if links else ""


def _origin(settings: dict[str, Any]) -> str:
    """What the model began as.

    >>> _origin({}), _origin({"base": "runs/mine"}), _origin({"init": "runs/mine"})
    ('trained from scratch', 'tuned from `mine`', 'trained further from `mine`')
    """
    for name, how in (("base", "tuned"), ("init", "trained further")):
        if settings.get(name):
            return f"{how} from `{Path(settings[name]).name}`"
    return "trained from scratch"


def write_task_card(folder: Path, tables: dict[str, dict[str, Any]], samples: list[str]) -> None:
    """Write README.md of a model that was made for a task.

    Args:
        tables: the tables of run.toml.
        samples: inputs and what the model made of them.
    """
    model, data, result = tables["model"], tables["data"], tables["result"]
    settings, environment = tables["settings"], tables["environment"]
    origin = _origin(settings)
    files = ", ".join(Path(file).name for file in data["train"])
    text = f"""---
library_name: transformers
tags:
- wenloom
- {model["family"]}
- {data["task"]}
---

# {folder.resolve().name}

A {model["family"]} model for {data["task"]} with {model["parameters"]:,} parameters, {origin} with Wenloom
{environment["wenloom"]}.

| | |
|---|---|
| Examples | {data["train_examples"]:,} from {files}; {data["validation_examples"]:,} for validation |
| Tokenizer | {model["tokenizer"]}, {model["vocab_size"]:,} tokens |
| Training | {counted(result["steps"], "step")} of {settings["batch"]} examples, {result["training_seconds"]:,.0f} s on {environment["device"]} |
| Seed | {settings["seed"]} |
| Validation loss | {result["validation_nats_per_token"]:.4f} {show_unit("nats_per_token", data["task"])} |

All settings are in `run.toml`. The model repeats what its examples say, their errors and prejudices included.
"""
    if samples:
        text += "\n## Samples\n\n" + "\n\n".join(f"```text\n{sample}\n```" for sample in samples) + "\n"
    write_atomically(folder / "README.md", text)
