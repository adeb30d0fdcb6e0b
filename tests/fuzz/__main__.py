"""Read many spoiled files and tell which end in anything but a result or a sentence.

    python -m tests.fuzz --inputs 100000 --workers 2
    python -m tests.fuzz --number 4711          (one input again, with its traceback)

An input is made from its number alone. Workers have bounded memory (RLIMIT_AS); one that dies or hangs is replaced and
its input counted as a failure. Failures are kept, file and all, in --keep.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--begin", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", help="one kind of file, by its name")
    parser.add_argument("--number", type=int, help="read this input alone and show what it raises")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--seeds", type=Path, help="folder of valid files; default: made anew")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(arguments.keep / "hub")}
    from .pool import fuzz
    from .targets import make_seeds

    with tempfile.TemporaryDirectory() as folder:
        seeds = arguments.seeds or Path(folder) / "seeds"
        if not seeds.exists():
            make_seeds(seeds)
        if arguments.number is None:
            return fuzz(arguments, seeds, Path(folder))
        from .runner import Fuzzer

        fuzzer = Fuzzer(seeds, Path(folder), arguments.seed, arguments.only)
        target, file = fuzzer.make(arguments.number)
        shutil.copytree(fuzzer.folder, arguments.keep / str(arguments.number), dirs_exist_ok=True)
        print(f"{target.name}: {file.name} ({file.stat().st_size:,} bytes)\n{file.read_bytes()[:1500]!r}")
        target.read(fuzzer.folder, file)
        print("read.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
