"""The commands by stage of a model's life, as `wenloom --help` lists them."""

STAGES = {
    "Data": {
        "prepare": "Turn text files into a training corpus: clean, deduplicate, split, tokenize.",
        "read": "Read files of any kind, and show what a recipe keeps of them and why.",
        "index": "Index a corpus, so that any text is found in it at once.",
        "tokenizer train": "Train a tokenizer on text in any language.",
        "tokenizer report": "Report bytes, characters and words per token, by language.",
    },
    "Train": {
        "quickstart": "Train a small model on Shakespeare in a few minutes and see what it can do.",
        "plan": "Estimate what a training run takes: time, memory, disk and the loss to expect.",
        "pretrain": "Train a model on text: a new one, or one that you have.",
        "finetune": "Train a model for a task: translation, chat, classification and others.",
        "watch": "Follow a training run from another terminal: progress, curves, the last sample.",
        "report": "Compare several training runs on one page.",
    },
    "Use": {
        "generate": "Generate text.",
        "chat": "Chat with a model.",
        "serve": "Serve models over HTTP to clients of the OpenAI API.",
        "translate": "Translate a text, or a file line by line.",
        "transcribe": "Write down what is said in recordings, with times.",
        "summarize": "Summarize a text, or each line of a file.",
        "classify": "Classify a text, or each line of a file.",
        "fill-mask": "Predict the masked tokens of a text.",
        "embed": "Make vectors of texts, to compare and to search them by.",
        "search": "Search texts by meaning: the passages most like a question.",
        "compose": "Write a story, a poem or a program, and check it.",
        "rescore": "Choose among a speech recognizer's hypotheses with a language model.",
    },
    "Measure": {
        "evaluate": "Evaluate a model on benchmarks or your own data, or texts against references.",
        "audit": "Audit a model for bias: whom it prefers, group by group, and how sure that is.",
        "debias": "Debias a model through its data, its loss or its weights.",
        "score": "Compute the log-probability and the perplexity of a text.",
        "leaderboard": "Show all results on one page, yours beside published ones.",
        "compare-signatures": "Explain why two scores are not comparable.",
    },
    "Look inside": {
        "explain": "Explain an answer: by which tokens, in which block, through which heads.",
        "steer": "Make a steering vector: write more like some texts than like others.",
        "features": "Find features: directions of the residual stream, few active at a time.",
        "train-lens": "Train a tuned lens, through which each block's answer can be read.",
        "next-tokens": "Show the most probable next tokens.",
        "info": "Show what is in a folder: model, run, corpus or tokenizer.",
    },
    "Tools": {
        "quantize": "Quantize a model to 8 or 4 bits.",
        "import llama2c": "Convert a llama2.c model (.bin) and its tokenizer into a model folder.",
        "import gguf": "Convert a GGUF file (llama.cpp, Ollama, LM Studio) into a model folder.",
        "export gguf": "Write a model as one GGUF file for llama.cpp, Ollama and LM Studio.",
        "detect-watermark": "Detect a watermark in a text.",
        "doctor": "Check the installation on small known cases; report what is slow or missing.",
    },
}
"""What each command does, in one line."""

COMMANDS = {command: summary for stage in STAGES.values() for command, summary in stage.items()}

FAMILIES = {
    "tokenizer": "Train a tokenizer, or report how well one fits a text.",
    "import": "Convert a model of another program into a model folder.",
    "export": "Write a model in the format of another program.",
}
"""First words that several commands share."""

RENAMED = {
    "detect": "detect-watermark",
    "diff-signature": "compare-signatures",
    "fill": "fill-mask",
    "next": "next-tokens",
    "write": "compose",
}
"""Commands of version 0.1 under their present names."""


def called(arguments: list[str]) -> list[str]:
    """The words of the command that the arguments call, as far as there is one."""
    return next((path.split() for path in COMMANDS if arguments[: len(path.split())] == path.split()), [])


def module_of(command: str) -> tuple[str, str]:
    """Where a command is written: module and function.

    >>> module_of("import llama2c")
    ('wenloom.cli.import_', 'llama2c')
    """
    words = command.replace("-", "_").split()
    return f"wenloom.cli.{'import_' if words[0] == 'import' else words[0]}", words[-1]
