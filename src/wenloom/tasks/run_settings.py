"""All settings of a task's training together, as run.toml keeps them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wenloom.tasks.rows import files_in
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.training.settings import TrainSettings


@dataclass(frozen=True)
class Settings:
    """All settings of a task's training."""

    task: str
    base: Path | None
    data: DataSettings
    fresh: FreshSettings
    learning: LearningSettings
    training: TrainSettings
    deadline: float | None = None
    """When the command is to have ended, by `time.monotonic`; None without a budget."""
    more: TrainSettings | None = None
    """With how much more a run is to be prolonged."""
    prolonged: tuple[str, ...] = ()
    """How the run came to be longer than `training` says."""
    most_examples: int | None = None
    """As many training examples as a run that is resumed had; None: all."""
    most_validation: int | None = None
    """As many validation examples as it had."""

    def table(self) -> dict[str, Any]:
        """As run.toml keeps it: with whole paths, so that it means the same wherever the run is continued."""
        base = str(self.base.resolve()) if self.base else None
        parts = (self.data, self.fresh, self.learning, self.training)
        table = {name: value for part in parts for name, value in asdict(part).items()}
        for name in ("train", "validation", "extra"):
            if table[name] is not None:
                table[name] = ",".join(str(each.resolve()) for each in files_in(table[name]))
        if table["tokenizer"] is not None and Path(table["tokenizer"]).expanduser().exists():
            table["tokenizer"] = str(Path(table["tokenizer"]).expanduser().resolve())
        return {"task": self.task, "base": base} | table
