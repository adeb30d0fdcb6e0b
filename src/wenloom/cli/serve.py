"""`wenloom serve`. torch is loaded when there is work, so that --help answers at once."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from wenloom.cli.options import Device, Dtype, KVCache, Quantize, flags
from wenloom.core.errors import InputError
from wenloom.serving.settings import Access, RequestLimits, Running, ServerSettings


def serve(
    *models: Annotated[str, Parameter(name="models")],
    adapter: list[str] | None = None,
    steer: list[str] | None = None,
    draft: str | None = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    quantize: Quantize = None,
    kv_cache: KVCache = None,
    on: Literal["ray"] | None = None,
    replicas: int = 1,
    most_replicas: int | None = None,
    access: Annotated[Access, flags("Access", 1)] = Access(),
    limits: Annotated[RequestLimits, flags("Limits", 2)] = RequestLimits(),
    running: Annotated[Running, flags("Running", 3)] = Running(),
) -> None:
    """Serve models over HTTP, through the OpenAI API.

    The server answers this machine alone unless --host says otherwise, and then asks for keys. A client takes
    http://127.0.0.1:8000/v1 as its base_url and the folder's name as its model.

        wenloom serve runs/quickstart
        wenloom serve small=runs/a large=runs/b --port 8080
        wenloom serve runs/mine --adapter poems=runs/poems-lora --adapter runs/letters
        wenloom serve runs/mine --steer calm=calm.safetensors
        wenloom serve runs/mine --host 0.0.0.0 --api-key-file keys.txt

    Parameters
    ----------
    models
        Model folders or hub models such as owner/name; NAME=FOLDER gives one another name than its folder's.
    adapter
        A folder with an adapter of the model, served as a model of its own under its folder's name; NAME=FOLDER gives it
        another. May be given several times.
    steer
        A steering vector that `wenloom steer` made, for requests with "steer": "NAME" or {"NAME": strength}: by its file's
        name without .safetensors; NAME=FILE gives it another. May be given several times.
    draft
        A draft model for speculative decoding: a smaller one with the same vocabulary; the texts stay the same.
    on
        Where the server runs: ray takes the cluster that RAY_ADDRESS names, or starts one on this machine; default: this process.
    replicas
        With --on ray: copies of the server, at least.
    most_replicas
        With --on ray: copies at most, of which Ray starts more the more requests wait; default: as many as --replicas.
    """
    named, adapted = _named(models, "models"), _named(adapter or (), "adapters")
    steering = {name.removesuffix(".safetensors"): file for name, file in _named(steer or (), "vectors").items()}
    if not named:
        raise InputError("name a model: wenloom serve FOLDER.")
    if len(named) > 1 and (adapted or draft or steering):
        raise InputError("--adapter, --draft and --steer belong to one model: serve one.")
    if both := sorted(named.keys() & adapted.keys()):
        raise InputError(f"a model and an adapter are called {both[0]}: give one another name, as in --adapter other={adapted[both[0]]}.")  # fmt: skip
    if on is None and (replicas != 1 or most_replicas is not None):
        raise InputError("--replicas and --most-replicas need --on ray.")
    try:
        from wenloom.serving.replicas import Replicas, serve_on_ray
        from wenloom.serving.server import serve as run
    except ModuleNotFoundError as error:
        raise InputError(f"serving needs {error.name}: pip install 'wenloom[serve]'.") from None
    from wenloom.checkpoint.hub import resolve
    from wenloom.serving.loading import load_served

    loaders = {
        name: functools.partial(
            load_served, resolve(where), device, dtype, draft, quantize, kv_cache, adapted, steering
        )
        for name, where in named.items()
    }
    settings = ServerSettings(access, limits, running)
    if on is None:
        run(loaders, settings)
    else:
        serve_on_ray(loaders, settings, Replicas(replicas, most_replicas or replicas), device.startswith("cuda"))


def _named(folders: Sequence[str], what: str) -> dict[str, str]:
    """Folders by their names.

    Raises:
        InputError: two have one name.
    """
    named: dict[str, str] = {}
    for each in folders:
        name, _, where = each.rpartition("=")
        name = name or (Path(where).resolve().name if Path(where).exists() else where)
        if name in named:
            raise InputError(f"two {what} are called {name}: give them names, as in one={named[name]} two={where}.")
        named[name] = where
    return named
