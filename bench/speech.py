"""Recordings written down per second, and their word error rate, side by side with faster-whisper on the same weights.

Each contestant runs in a process of its own; rounds alternate, so that a slow minute of the machine hits both. Timed is
everything from file to text. Both take five beams and the rules of Whisper's authors; both are normalised alike.

    python bench/speech.py MODEL MANIFEST [--peer PYTHON --ct2 FOLDER] [--threads 1] [--side-by-side 8] [--rounds 3]

PYTHON is the interpreter of an environment with faster-whisper; FOLDER holds the weights of MODEL in CTranslate2's format;
MANIFEST is tab-separated, with a header: path, text.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONTESTANTS = ("wenloom", "faster-whisper")


def listener(name: str, model: str, threads: int, side_by_side: int) -> Callable[[list[str]], list[str]]:
    if name == "faster-whisper":
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]

        peer = WhisperModel(model, device="cpu", compute_type="float32", cpu_threads=threads)
        return lambda files: [
            "".join(each.text for each in peer.transcribe(file, language="en", beam_size=5)[0]) for file in files
        ]
    import torch

    from wenloom.audio.reading import read_sound
    from wenloom.tasks.speech.transcriber import Recording, Transcriber
    from wenloom.tasks.speech.transcript import Transcript

    torch.set_num_threads(threads)
    transcriber = Transcriber.load(Path(model))

    def listen(files: list[str]) -> list[str]:
        recordings = [Recording(file, lambda file=file: read_sound(Path(file))) for file in files]
        heard = dict(transcriber.transcribe(recordings, side_by_side=side_by_side))
        found = [heard[number] for number in range(len(files))]
        return [each.text if isinstance(each, Transcript) else "" for each in found]

    return listen


def contestant(options: argparse.Namespace) -> None:
    """Write down all recordings once for every line of standard input; answer with seconds and texts."""
    listen = listener(options.contestant, options.model, options.threads, options.side_by_side)
    files = [path for path, _ in rows(options.manifest)]
    listen(files[:1])  # warms up
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        texts = listen(files)
        print(json.dumps({"seconds": time.perf_counter() - started, "texts": texts}), flush=True)


def rows(manifest: Path) -> list[tuple[str, str]]:
    lines = manifest.read_text(encoding="utf-8").splitlines()
    names = lines[0].split("\t")
    path, text = names.index("path"), names.index("text")
    cells = [line.split("\t") for line in lines[1:] if line.strip()]
    return [(str(manifest.parent / each[path]), each[text]) for each in cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--peer", default=None)
    parser.add_argument("--ct2", default=None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side-by-side", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestant", choices=CONTESTANTS)
    options = parser.parse_args()
    if options.contestant:
        contestant(options)
        return
    from wenloom.evaluation.speech import speech_figure

    began: dict[str, subprocess.Popen[str]] = {}
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    for name in CONTESTANTS if options.peer and options.ct2 else CONTESTANTS[:1]:
        python, model = (sys.executable, options.model) if name == "wenloom" else (options.peer, options.ct2)
        command = [python, __file__, model, str(options.manifest), "--contestant", name, "--threads", str(options.threads),
                   "--side-by-side", str(options.side_by_side)]  # fmt: skip
        began[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    seconds: dict[str, list[float]] = {name: [] for name in began}
    texts: dict[str, list[str]] = {}
    for process in began.values():
        assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    for _ in range(options.rounds):
        for name, process in began.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found = json.loads(process.stdout.readline())
            seconds[name].append(found["seconds"])
            texts[name] = found["texts"]
    for process in began.values():
        process.communicate()
    said = [text for _, text in rows(options.manifest)]
    for name in began:
        low, value, high = speech_figure(
            list(zip(said, texts[name], strict=True)), "en", options.manifest.name
        ).interval
        print(f"{name:16} {statistics.median(seconds[name]):7.2f} s   WER {value:.2f} % ({low:.2f} to {high:.2f})")
    if len(began) > 1:
        ratios = [theirs / own for own, theirs in zip(seconds["wenloom"], seconds["faster-whisper"], strict=True)]
        print(
            f"faster-whisper's seconds over ours: {statistics.median(ratios):.2f} (median of {options.rounds} rounds)"
        )


if __name__ == "__main__":
    main()
