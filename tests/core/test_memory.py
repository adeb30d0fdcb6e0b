"""Memory in large pages."""

import gc
import mmap

import pytest
import torch

from wenloom.core.hardware import memory_used
from wenloom.core.memory import LargePages

CPU = torch.device("cpu")


def test_tensors_stand_side_by_side_and_do_not_share_what_they_hold():
    pages = LargePages()
    a, b = pages.zeros((3, 5), torch.float32, CPU), pages.zeros((7,), torch.bfloat16, CPU)
    a.fill_(1)
    assert not b.any() and a.eq(1).all() and b.shape == (7,) and b.dtype == torch.bfloat16
    if hasattr(mmap, "MADV_HUGEPAGE"):
        assert b.data_ptr() - a.data_ptr() == 64 and a.data_ptr() % 2**21 == 0
    assert a.untyped_storage().nbytes() == 60, "a file of weights would take it for a part of something larger"


def test_a_copy_is_equal_and_its_own():
    source = torch.arange(2**16).view(2, -1).T
    kept = LargePages().keep(source)
    expected = source.clone()
    source[0, 0] = 9
    assert kept.equal(expected) and kept.is_contiguous()
    assert LargePages().keep(torch.arange(6), torch.float32).tolist() == [0, 1, 2, 3, 4, 5]
    assert LargePages().keep(source, torch.bfloat16).equal(source.bfloat16())


@pytest.mark.parametrize("shape", [(), (0, 4), (1,)])
def test_odd_shapes(shape: tuple[int, ...]):
    assert LargePages().zeros(shape, torch.int8, CPU).shape == shape


def test_tensors_outlive_their_pages_and_other_devices_keep_theirs():
    tensor = LargePages().zeros((1024,), torch.int64, CPU)
    gc.collect()
    assert tensor.sum() == 0
    assert LargePages().zeros((2,), torch.int8, torch.device("meta")).device.type == "meta"
    assert LargePages().keep(torch.empty(2**16), device="meta").device.type == "meta"


def test_a_tensor_larger_than_a_block_gets_one_of_its_own():
    pages = LargePages()
    small, large = pages.zeros((8,), torch.int8, CPU), pages.zeros((30 * 2**20,), torch.int8, CPU)
    large[-1] = 1
    assert not small.any() and large[-1] == 1


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="Linux only")
def test_a_block_is_given_back_with_its_last_tensor():
    pages = LargePages()
    kept = [pages.zeros((30 * 2**20,), torch.int8, CPU).fill_(1) for _ in range(4)]
    before = memory_used("cpu")
    del kept[:3]
    after = memory_used("cpu")
    assert before is not None and after is not None and before - after > 80 * 2**20


@pytest.mark.parametrize("count", [2**58, 2**62])
def test_more_than_there_can_be_is_a_lack_of_memory(count: int):
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        pytest.skip("no large pages")
    with pytest.raises(MemoryError):
        LargePages().zeros((count,), torch.float32, CPU)
