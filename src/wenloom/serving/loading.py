"""What a folder is served as: a model that writes, or one that makes vectors of texts."""

from collections.abc import Mapping
from pathlib import Path

from wenloom.api import LanguageModel, load_writer, makes_vectors, refuse_of_vectors
from wenloom.core.hardware import number_type, probe
from wenloom.runtime.embedder import Embedder, load_embedder


def load_served(
    folder: Path, device: str, dtype: str, draft: str | None, quantize: str | None, kv_cache: str | None,
    adapters: Mapping[str, str], steering: Mapping[str, str],
) -> LanguageModel | Embedder:  # fmt: skip
    """Read a model: encoders and folders of sentence-transformers make vectors, decoders write.

    Args:
        folder: of the model.
        adapters: folders of adapters by their names.
        steering: files of steering vectors by their names.

    Raises:
        InputError: options that are for models that write only.
        CheckpointError: the folder is not a model.
    """
    if not makes_vectors(folder):
        return load_writer(folder, device, dtype, draft, quantize, kv_cache, adapters, steering)
    given = {
        "--draft": draft,
        "--quantize": quantize,
        "--kv-cache": kv_cache,
        "--adapter": adapters,
        "--steer": steering,
    }
    refuse_of_vectors(folder, given)
    return load_embedder(folder, probe(device).device, number_type(dtype))
