"""Files of weights: damaged, hostile, foreign; checksums; saving beside what is there."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from wenloom.checkpoint import folder as folder_module
from wenloom.checkpoint.folder import load_decoder, load_model, save_model, write_model_files
from wenloom.checkpoint.weights import INDEX, WEIGHTS, checksum, write_tensors
from wenloom.core.errors import CheckpointError
from wenloom.model.decoder import Decoder

from ..conftest import random_decoder, tiny_config
from .folders import difference, outcome, saved


@pytest.fixture
def folder(tmp_path: Path, decoder: Decoder) -> Path:
    write_model_files(decoder, tmp_path)
    return tmp_path


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put(path: Path, head: Any, body: bytes, size: int | None = None) -> None:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes((len(text) if size is None else size).to_bytes(8, "little") + text + body)


def test_hostile_files_end_in_one_sentence(folder: Path):
    path, name = folder / WEIGHTS, "model.norm.weight"
    head, body = header(path)
    del head["__metadata__"]
    begin, end = head[name]["data_offsets"]
    twice = json.dumps(head)[:-1].encode() + f', "{name}": {json.dumps(head[name])}, "{name}": {{}}}}'.encode()
    cases: list[tuple[Any, bytes, int | None]] = [
        (head, body[:-1], None), (head, b"", None), (head, body + b"x", None), (head, body, 2**63), (head, body, 0),
        (head, body, 2**40), (head, body, 5), (b"\xef\xbb\xbf" + json.dumps(head).encode(), body, None),
        (b"[]", body, None), (b"{}", b"", None), (twice, body, None), (b"", b"", 0), (b"\xff" * 9, body, None),
        (head | {name: head[name] | {"data_offsets": [begin - 4, end - 4]}}, body, None),
        (head | {name: head[name] | {"data_offsets": [end, begin]}}, body, None),
        (head | {name: head[name] | {"shape": [2**62, 2**62]}}, body, None),
        (head | {name: head[name] | {"shape": [16, 2]}}, body, None), (head | {name: head[name] | {"shape": []}}, body, None),
        (head | {name: head[name] | {"dtype": "F7"}}, body, None), (head | {name: head[name] | {"dtype": "I32"}}, body, None),
        (head | {"__metadata__": {"format": 3}}, body, None), (head | {"__metadata__": []}, body, None),
        (head | {"__metadata__": {"wenloom.checksums": "["}}, body, None),
    ]  # fmt: skip
    for content, rest, size in cases:
        put(path, content, rest, size)
        outcome(lambda: load_model(folder))
    put(path, head, body[:-1])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_model(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointError, match="is not a file"):
        load_model(folder)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="is not a file"):
        load_model(folder)


@settings(max_examples=60)
@given(data=st.data())
def test_changed_bytes_of_a_file_end_in_one_sentence_or_change_nothing(decoder: Decoder, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):  # fmt: skip
    folder = tmp_path_factory.mktemp("flipped")
    write_model_files(decoder, folder)
    content = bytearray((folder / WEIGHTS).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 4000))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    (folder / WEIGHTS).write_bytes(content)
    loaded: list[Any] = []
    if not outcome(lambda: loaded.append(load_model(folder))):
        before, after = decoder.state_dict(), loaded[0].state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before), f"byte {place}"


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused_by_name(dtype: torch.dtype, folder: Path):
    state = load_file(folder / WEIGHTS)
    save_file(state | {"model.norm.weight": state["model.norm.weight"].to(dtype)}, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*floating-point"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_of_every_floating_point_type_are_read(dtype: torch.dtype, folder: Path):
    state = load_file(folder / WEIGHTS)
    save_file({name: each.to(dtype) for name, each in state.items()}, folder / WEIGHTS)
    assert torch.equal(load_model(folder).embed.weight, state["model.embed_tokens.weight"].to(dtype).float())


def test_a_flipped_bit_is_told_and_an_edited_file_is_not_taken_for_a_damaged_one(folder: Path, decoder: Decoder):
    path = folder / WEIGHTS
    whole = path.read_bytes()
    for place in (len(whole) - 1, len(whole) // 2, len(whole) - 40_000):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"tensor .* is damaged.*checksum"):
            load_model(folder)
    path.write_bytes(whole)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    state["model.norm.weight"] += 1
    save_file(state, path, metadata)  # a tool that hands the metadata on
    assert torch.equal(load_decoder(folder).final_norm.weight, decoder.final_norm.weight + 1)
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder)
    load_decoder(folder)


def test_a_checksum_changes_with_any_bit():
    for size in (1, 7, 8, 4095, 32_768, 32_769, 70_001):
        tensor = torch.randint(0, 255, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
        known = checksum(tensor)
        for place in {0, size // 2, size - 1}:
            for bit in (1, 128):
                other = tensor.clone()
                other[place] ^= bit
                assert checksum(other) != known


def test_files_are_as_safetensors_reads_them(tmp_path: Path):
    kinds = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int8,
             torch.uint8, torch.bool]  # fmt: skip
    tensors = {f"{kind} 名": torch.arange(number).to(kind) for number, kind in enumerate(kinds)}
    tensors |= {"scalar": torch.tensor(3.0), "transposed": torch.arange(6.0).view(2, 3).T}
    write_tensors(tensors, tmp_path / "x.safetensors", {"labels": '["好"]'})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "x.bin", 3, None, [], "link.safetensors"])  # fmt: skip
def test_an_index_names_files_of_its_folder_only(name: Any, folder: Path):
    (folder / WEIGHTS).rename(folder.parent / "x.safetensors")
    (folder / "link.safetensors").symlink_to(folder.parent / "x.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(CheckpointError, match=r"index.*(outside|map names|names a file)"):
        load_model(folder)
    (folder.parent / "x.safetensors").unlink()


def test_links_of_the_hubs_cache_are_followed(folder: Path, decoder: Decoder):
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    write_model_files(decoder, folder / "blobs", shard_bytes=30_000)
    for file in (folder / "blobs").iterdir():
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    assert torch.equal(load_decoder(snapshot).embed.weight, decoder.embed.weight)


def test_a_tensor_in_two_files_or_a_shard_that_is_missing_is_named(folder: Path, decoder: Decoder):
    (folder / WEIGHTS).unlink()
    write_model_files(decoder, folder, shard_bytes=30_000)
    shards = sorted(folder.glob("model-*.safetensors"))
    state = load_file(shards[1])
    save_file(state | {"model.embed_tokens.weight": torch.zeros(2)}, shards[1])
    with pytest.raises(CheckpointError, match=r"holds tensor .* again"):
        load_model(folder)
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=f"{shards[1].name}: named in"):
        load_model(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "\ufeff{", "{" * 10_000])
def test_odd_indices_end_in_one_sentence(content: str, folder: Path):
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match="index"):
        load_model(folder)


@pytest.mark.parametrize("first, then", [(30_000, None), (None, 30_000), (30_000, 15_000), (15_000, 30_000)])
def test_saving_over_another_model_leaves_nothing_of_it(first: int | None, then: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    old, new = random_decoder(tiny_config(), 1), random_decoder(tiny_config(), 2)
    for model, size in ((old, first), (new, then)):
        monkeypatch.setattr(folder_module.write_model_files, "__defaults__", (size or 2**40, None, None))
        save_model(model, tmp_path)
    assert torch.equal(load_decoder(tmp_path).embed.weight, new.embed.weight)
    assert difference(new, transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()) <= 1e-4
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or not (tmp_path / INDEX).exists()


def test_an_index_left_over_by_transformers_is_no_obstacle(tmp_path: Path):
    theirs = saved("llama", tmp_path)
    theirs.save_pretrained(tmp_path / "sharded", max_shard_size="4KB")
    shutil.copy(tmp_path / "sharded" / INDEX, tmp_path)
    assert difference(load_decoder(tmp_path), theirs) <= 1e-4


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_of_a_saved_model_have_one_mode(umask: int, mode: int, decoder: Decoder, tmp_path: Path):
    before = os.umask(umask)
    try:
        save_model(decoder, tmp_path / "model")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()} == {mode}


def test_a_kill_while_saving_leaves_the_old_model_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed before each change to the disk in turn: what is loaded is one of the two, and saving again mends all."""
    old, new = random_decoder(tiny_config(), 1), random_decoder(tiny_config(context_length=64), 2)
    changes = ["rename", "replace", "unlink"]
    real = {name: getattr(Path, name) for name in changes}

    class Killed(BaseException):
        pass

    def run(limit: int) -> bool:
        left = [limit]

        def counted(name: str) -> Any:
            def act(self: Path, *rest: Any, **more: Any) -> Any:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return real[name](self, *rest, **more)

            return act

        with monkeypatch.context() as patched:
            for name in changes:
                patched.setattr(Path, name, counted(name))
            try:
                save_model(new, folder)
            except Killed:
                return True
        return False

    for limit in range(100):
        folder = tmp_path / str(limit)
        monkeypatch.setattr(folder_module.write_model_files, "__defaults__", (30_000, None, None))
        save_model(old, folder)
        monkeypatch.setattr(folder_module.write_model_files, "__defaults__", (2**40, None, None))
        killed = run(limit)
        found = load_decoder(folder)
        wanted = new if torch.equal(found.embed.weight, new.embed.weight) else old
        assert found.config == wanted.config and torch.equal(found.embed.weight, wanted.embed.weight)
        if (folder / "config.json").exists():  # what other programs see is whole as well
            theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
            assert min(difference(old, theirs), difference(new, theirs)) <= 1e-4
        save_model(new, folder)
        assert torch.equal(load_decoder(folder).embed.weight, new.embed.weight)
        assert not [file for file in folder.iterdir() if file.name.startswith(".s")]
        if not killed:
            break
    assert limit > 5
