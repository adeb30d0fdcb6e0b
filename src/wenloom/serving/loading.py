"""What a folder is served as: a model that writes, one that makes vectors of texts, or one that hears."""

from collections.abc import Mapping
from pathlib import Path

from wenloom.api import LanguageModel, hears, load_writer, makes_vectors, refuse_of_vectors
from wenloom.core.errors import InputError
from wenloom.core.hardware import number_type, probe
from wenloom.runtime.embedder import Embedder, load_embedder
from wenloom.tasks.speech.transcriber import Transcriber


def load_served(
    folder: Path, device: str, dtype: str, draft: str | None, quantize: str | None, kv_cache: str | None,
    adapters: Mapping[str, str], steering: Mapping[str, str],
) -> LanguageModel | Embedder | Transcriber:  # fmt: skip
    """Read a model: encoders and folders of sentence-transformers make vectors, those of the family whisper hear, decoders
    write.

    Args:
        folder: of the model.
        adapters: folders of adapters by their names.
        steering: files of steering vectors by their names.

    Raises:
        InputError: options that are for models that write only.
        CheckpointError: the folder is not a model.
    """
    given = {
        "--draft": draft,
        "--quantize": quantize,
        "--kv-cache": kv_cache,
        "--adapter": adapters,
        "--steer": steering,
    }
    if hears(folder):
        if wrong := next((option for option, value in given.items() if value), None):
            raise InputError(
                f"{wrong}: {folder} writes down recordings; the option is for models that go on with a text."
            )
        return Transcriber.load(folder, probe(device).device, number_type(dtype))
    if not makes_vectors(folder):
        return load_writer(folder, device, dtype, draft, quantize, kv_cache, adapters, steering)
    refuse_of_vectors(folder, given)
    return load_embedder(folder, probe(device).device, number_type(dtype))
