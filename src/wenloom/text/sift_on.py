"""Documents through a recipe on a cluster: the same steps and the same documents in the same order as `sift.sift` gives."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from wenloom.text.document import ReadOptions
from wenloom.text.executors import Cluster
from wenloom.text.minhash_stages import clusters_on
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals
from wenloom.text.shares import SiftTask, shares_of
from wenloom.text.sifted import Sifted
from wenloom.text.worker import Worker


def sift_on(
    cluster: Cluster,
    files: Sequence[Path],
    reading: ReadOptions,
    recipe: Recipe,
    work: Path,
    refusals: Refusals,
    validation_files: Sequence[Path] = (),
) -> Sifted:
    """Take documents through a recipe on many machines, each of which reads its share of the files.

    Args:
        work: a folder that all of them see; see `sift.sift`.

    Raises:
        InputError: see `sift.sift`.
        WenloomError: tasks did not end well.
    """
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    Worker(recipe, reading)  # what cannot be made is said before anything is read
    validation = shares_of(validation_files)
    n_groups = len({share.group for share in validation})
    shares = validation + shares_of(files, n_groups)
    task = SiftTask(Path.cwd(), work, tuple(shares), reading, recipe)
    cluster.run("Sifting", task, len(shares), work / "log-sift")
    blocks = task.done(refusals)
    n_validation = sum(len(each) for group, each in blocks.items() if group < n_groups)
    find = partial(clusters_on, cluster, work=work / "minhash")
    return Sifted([path for each in blocks.values() for path in each], n_validation, recipe, find)
