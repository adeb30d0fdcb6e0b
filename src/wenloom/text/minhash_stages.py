"""Clusters of near duplicates by the MinHash stages of datatrove, whose work lies on disk: for more documents than memory holds.

The signatures are our own, so that the clusters are those of `clusters.clusters_of`, to the last document.
"""

import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.text.executors import Cluster

_DOCUMENTS = 2**20
"""Of a file of signatures, which is sorted as one."""


def clusters_on(cluster: Cluster, table: np.ndarray, work: Path) -> list[list[int]]:
    """Rows that are connected by an equal value in the same column, in lists of two or more, by their first row.

    Args:
        table: a number for each band of each document, shape (documents, bands), uint64.
        work: a folder that all machines see.
    """
    shutil.rmtree(work, ignore_errors=True)
    signatures, pairs, found = (work / name for name in ("signatures", "pairs", "clusters"))
    for number, start in enumerate(range(0, len(table), _DOCUMENTS)):
        _write_signatures(table[start : start + _DOCUMENTS], signatures, number)
    if not len(table):
        return []
    stages: Any = importlib.import_module("datatrove.pipeline.dedup.minhash")
    hashing = importlib.import_module("datatrove.utils.hashing").HashConfig(precision=64, hash_fc="sha1")
    config = stages.MinhashConfig(num_buckets=table.shape[1], hashes_per_bucket=2, hash_config=hashing)
    match = stages.MinhashDedupBuckets(str(signatures), str(pairs), config=config, lines_to_buffer=1000)
    cluster.run("Comparing documents", match, table.shape[1], work / "log-pairs")
    join = stages.MinhashDedupCluster(str(pairs), str(found), config=config, save_cluster_id=True, lines_to_buffer=1000)
    cluster.run("Joining clusters", join, 1, work / "log-clusters")
    return _read_clusters(found)


def _write_signatures(table: np.ndarray, folder: Path, number: int) -> None:
    """A file for each band: the two halves of its number, and the document, in order."""
    kind = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<u4")])
    for band, column in enumerate(table.T):
        rows = np.empty(len(column), kind)
        # halves, as datatrove takes numbers from 2^61 on for the end
        rows["high"], rows["low"], rows["document"] = (
            column >> np.uint64(32),
            column & np.uint64(0xFFFFFFFF),
            np.arange(len(column)),
        )
        path = folder / f"bucket_{band:03d}" / f"{number:05d}.minhash.sig"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows[np.lexsort((rows["document"], column))].tofile(path)


def _read_clusters(folder: Path) -> list[list[int]]:
    members: dict[int, list[int]] = {}
    for path in sorted(folder.glob("*.clusters")):
        begin = int(path.stem) * _DOCUMENTS
        for document, cluster in np.fromfile(path, "<u4").reshape(-1, 2).tolist():
            members.setdefault(cluster, []).append(begin + document)
    return sorted(sorted(each) for each in members.values())
