"""Where a new run may be written."""

import shlex
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.training.checkpoints import own_checkpoints
from wenloom.training.lock import refuse_if_taken
from wenloom.training.run_file import LEFT


def check_output(out: Path) -> None:
    """Whether a new run may be written there.

    Raises:
        InputError: it holds something else than what a run leaves before its first checkpoint, or another process
            trains there.
    """
    refuse_if_taken(out)
    held = {path.name for path in out.iterdir()} if out.is_dir() else {out.name} if out.exists() else set()
    before = own_checkpoints(out)
    if {name for name in held if not name.startswith(".")} - LEFT or before:
        more = f" Continue it with --resume {shlex.quote(str(out))}, or choose" if before else " Choose"
        raise InputError(f"{out}: is not empty.{more} another --out.")
